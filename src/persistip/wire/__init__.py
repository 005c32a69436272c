"""
What do objects look like outside? JSON of an API server and YAML of a user, to model values and back.

``to_model`` and ``from_model`` are all that backends need; ``persistip.wire.files`` reads users' files.
"""

from persistip.wire.decode import Unreadable, decode_event, decode_list, decode_object, key_of, to_model
from persistip.wire.encode import from_model, status_from_model
from persistip.wire.kinds import RESOURCES, Resource

__all__ = [
    "RESOURCES",
    "Resource",
    "Unreadable",
    "decode_event",
    "decode_list",
    "decode_object",
    "from_model",
    "key_of",
    "status_from_model",
    "to_model",
]

"""
Which versions of objects has an API server seen?

In: the version from which on to look.  Out: each object as it stood after each write, in their order, which no reader
who looks now and then would see.
"""

import json
from collections.abc import Mapping
from typing import Any

from controlplane import ControlPlane


def version_of(plane: ControlPlane, path: str) -> str:
    """Return the version at which a collection stands now."""
    version: str = plane.must("GET", path)["metadata"]["resourceVersion"]
    return version


def history(plane: ControlPlane, path: str, since: str, **parameters: str) -> list[Mapping[str, Any]]:
    """Return what every write to a collection has made of an object *since*; of a deletion what was there last."""
    chosen = "".join(f"&{name}={value}" for name, value in parameters.items())
    answer = plane.request("GET", f"{path}?watch=true&resourceVersion={since}&timeoutSeconds=1{chosen}")
    assert answer.is_success, answer.message
    events = [answer.body] if isinstance(answer.body, dict) else [json.loads(each) for each in answer.body.splitlines()]
    assert [each for each in events if each["type"] == "ERROR"] == []
    return [each["object"] for each in events]

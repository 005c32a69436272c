"""What do objects of Kubernetes say of themselves?"""

from collections.abc import Mapping
from typing import Any


def condition(thing: Mapping[str, Any], kind: str) -> str:
    """Return the status of a condition; "" where it is not there."""
    return next((each["status"] for each in thing.get("status", {}).get("conditions", ()) if each["type"] == kind), "")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Pod is Ready and not on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready") == "True"

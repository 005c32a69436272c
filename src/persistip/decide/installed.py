"""
Is the Gateway API that is installed one that this version knows?

In: the CustomResourceDefinitions of Gateway API.  Out: a status with its reason and message. The rule is Gateway API's:
each says its release in an annotation, and one that says none, or one that is not known, is not supported. Classes are
served all the same, as well as can be. Known is every release of the first major version: what is read here has been
stable since v1.0.0, and the API promises to keep it so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from persistip.model.conditions import Reason, Status
from persistip.model.definition import BUNDLE_VERSION, CustomResourceDefinition

_KNOWN = re.compile(r"v1\.[0-9]+\.[0-9]+([-+].*)?")


def judge_installed(definitions: Iterable[CustomResourceDefinition]) -> tuple[Status, Reason, str]:
    """What the condition SupportedVersion says."""
    found = tuple(definitions)
    if not found:
        said = "no CustomResourceDefinition of Gateway API can be seen here, so its version is not known"
        return Status.UNKNOWN, Reason.PENDING, said
    faults = [why for definition in found if (why := _why_unsupported(definition)) is not None]
    if faults:
        said = "; ".join(faults)
        return Status.FALSE, Reason.UNSUPPORTED_VERSION, f"{said}; install Gateway API v1 and its own definitions whole"
    versions = ", ".join(sorted({definition.bundle_version for definition in found}))
    return Status.TRUE, Reason.SUPPORTED_VERSION, f"Gateway API {versions} is known"


def _why_unsupported(definition: CustomResourceDefinition) -> str | None:
    if not definition.bundle_version:
        return f"{definition.key} has no annotation {BUNDLE_VERSION}"
    if not _KNOWN.fullmatch(definition.bundle_version):
        return f"{definition.key} is of {definition.bundle_version}, which this version does not know"
    return None

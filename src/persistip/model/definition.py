"""
Which version of Gateway API is installed?

Each of its CustomResourceDefinitions says the release it came with in an annotation (Gateway API, "versioning").
"""

from __future__ import annotations

import attrs

from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.route import GATEWAY_GROUP

BUNDLE_VERSION = f"{GATEWAY_GROUP}/bundle-version"


@attrs.frozen
class CustomResourceDefinition:
    """A CustomResourceDefinition, of whose content only the metadata is read."""

    meta: ObjectMeta

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.DEFINITION, "", self.meta.name)

    @property
    def bundle_version(self) -> str:
        """The release of Gateway API that it came with, such as ``v1.2.1``; empty: it does not say."""
        return self.meta.annotations.get(BUNDLE_VERSION, "")


def is_of_gateway_api(definition: ObjectKey) -> bool:
    """Whether that is a CustomResourceDefinition of Gateway API: each is named for its plural and group."""
    return definition.kind is Kind.DEFINITION and definition.name.endswith(f".{GATEWAY_GROUP}")

"""
Which addresses has the user of the lab's project reserved?

In: manifests.  Out: every single address that a route claims, and whether the class of its Gateway is an external one.
In a real project they are reserved before anybody claims them; in the lab nobody is there to do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from persistip.model.address import Malformed, parse_prefix
from persistip.model.gateway import CLASSES, Gateway
from persistip.model.route import GKEIPRoute
from persistip.wire.files import Manifest

MOST = 16
"""Of one prefix at most so many are reserved: a route may have no more where each address is one of the cloud's."""


@attrs.frozen(kw_only=True)
class Reserved:
    """One address, under the name of its reservation."""

    name: str
    ip: str
    is_external: bool


def find_reserved(manifests: Sequence[Manifest]) -> tuple[Reserved, ...]:
    """In the order of the manifests, each once."""
    classes = {
        (each.namespace, each.name): CLASSES.get(each.model.class_name)
        for each in manifests
        if isinstance(each.model, Gateway)
    }
    found: dict[str, Reserved] = {}
    for each in manifests:
        route = each.model
        if not isinstance(route, GKEIPRoute):
            continue
        behaviours = [classes.get((ref.namespace or each.namespace, ref.name)) for ref in route.parent_refs]
        is_external = any(behaviour.external for behaviour in behaviours if behaviour is not None)
        for address in route.addresses:
            prefix = parse_prefix(address)
            if isinstance(prefix, Malformed) or prefix.num_addresses > MOST:
                continue
            for ip in map(str, prefix):
                name = f"lab-{ip.replace('.', '-').replace(':', '-')}"
                found.setdefault(ip, Reserved(name=name, ip=ip, is_external=is_external))
    return tuple(found.values())

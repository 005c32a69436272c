"""
May this route use this listener?

The rule is Gateway API's: a listener admits by namespace and kind, and the route may narrow its parent to a section
or a port. Namespace labels are read as they are now, so a label taken away takes the permission away.
"""

from __future__ import annotations

from persistip.decide.listeners import supported_kinds
from persistip.decide.pool import Pool
from persistip.model.gateway import From, Gateway, Listener
from persistip.model.node import Namespace
from persistip.model.route import ParentRef


def matching_listeners(gateway: Gateway, ref: ParentRef) -> tuple[Listener, ...]:
    """The listeners that a parentRef means: all, those of its section, those on its port."""
    return tuple(
        listener
        for listener in gateway.listeners
        if (not ref.section_name or listener.name == ref.section_name)
        and (ref.port is None or listener.port == ref.port)
    )


def listener_refusal(
    listener: Listener, gateway: Gateway, route_namespace: str, namespace: Namespace | None
) -> str | None:
    """Why *listener* does not admit routes of that namespace, or None."""
    match listener.namespaces_from:
        case From.ALL:
            return None
        case From.SAME:
            if route_namespace == gateway.meta.namespace:
                return None
            return f"listener {listener.name!r} admits namespace {gateway.meta.namespace!r} only (from: Same)"
        case From.SELECTOR if listener.namespace_selector is not None:
            if namespace is not None and listener.namespace_selector.matches(namespace.meta.labels):
                return None
            wanted = listener.namespace_selector
            return f"listener {listener.name!r} admits namespaces with {wanted}, which {route_namespace!r} is not"
        case _:
            return f"listener {listener.name!r} is not valid"


def selecting_listeners(
    gateway: Gateway, ref: ParentRef, route_namespace: str, namespace: Namespace | None
) -> tuple[Listener, ...]:
    """The listeners of *ref* that admit the namespace, whatever else is wrong with them."""
    return tuple(
        listener
        for listener in matching_listeners(gateway, ref)
        if supported_kinds(listener) and listener_refusal(listener, gateway, route_namespace, namespace) is None
    )


def admitting_listeners(
    gateway: Gateway, pool: Pool, ref: ParentRef, route_namespace: str, namespace: Namespace | None
) -> tuple[Listener, ...]:
    """The listeners of *ref* that are valid and admit the namespace."""
    found = selecting_listeners(gateway, ref, route_namespace, namespace)
    return tuple(listener for listener in found if listener.name not in pool.listener_faults)

"""
Which listeners of a Gateway are valid?

In: the listeners.  Out: by name, why one admits nobody. A listener is a permission and nothing else: its port and
protocol mean nothing to traffic, so two on one port do not conflict. Two of one name do: nobody could tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from persistip.model.conditions import Reason
from persistip.model.gateway import From, Listener, RouteKind
from persistip.model.route import ROUTE_GROUP

MAX_LISTENERS = 64
"""Listeners of one Gateway; those beyond are not valid."""
SUPPORTED_KIND = RouteKind(ROUTE_GROUP, "GKEIPRoute")
_FROM = frozenset(From)
_PLAIN_PROTOCOLS = frozenset({"none", "TCP", "UDP"})
_DOMAIN_PREFIXED = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[-A-Za-z0-9._~%!$&'()*+,;=:]+"
)


@attrs.frozen
class ListenerFault:
    """Why a listener admits nobody."""

    reason: Reason
    message: str


def find_listener_faults(listeners: tuple[Listener, ...]) -> Mapping[str, ListenerFault]:
    """The listeners that admit nobody, by name; those beyond the limit are all at fault, and no other is."""
    names = [listener.name for listener in listeners]
    faults: dict[str, ListenerFault] = {}
    for index, listener in enumerate(listeners):
        fault = _fault(listener, is_double=names.count(listener.name) > 1, is_beyond=index >= MAX_LISTENERS)
        if fault is not None:
            faults.setdefault(listener.name, fault)
    return faults


def supported_kinds(listener: Listener) -> tuple[RouteKind, ...]:
    """What of the kinds that a listener asks for is supported; a list that is empty asks for all that are."""
    return (SUPPORTED_KIND,) if not listener.kinds or SUPPORTED_KIND in listener.kinds else ()


def unsupported_kinds(listener: Listener) -> str | None:
    """Gateway API: kinds that are not supported are named, also beside one that is and goes on working."""
    others = [f"{kind.group or 'core'}/{kind.kind}" for kind in listener.kinds if kind != SUPPORTED_KIND]
    if not others:
        return None
    said = f"listener {listener.name!r}: allowedRoutes.kinds names {', '.join(others)}"
    return f"{said}; supported is {SUPPORTED_KIND.group}/{SUPPORTED_KIND.kind}"


def _fault(listener: Listener, *, is_double: bool, is_beyond: bool) -> ListenerFault | None:
    where = f"listener {listener.name!r}"
    if is_double:
        return ListenerFault(Reason.NAME_CONFLICT, f"{where}: the name is used twice; listener names must be unique")
    if is_beyond:
        return ListenerFault(Reason.INVALID, f"{where}: only the first {MAX_LISTENERS} listeners are used")
    if listener.protocol not in _PLAIN_PROTOCOLS and not _DOMAIN_PREFIXED.fullmatch(listener.protocol):
        said = f"{where}: protocol {listener.protocol!r} is unknown; use none, TCP, UDP or a domain-prefixed word"
        return ListenerFault(Reason.UNSUPPORTED_PROTOCOL, said)
    if listener.namespaces_from not in _FROM:
        said = f"{where}: allowedRoutes.namespaces.from {listener.namespaces_from!r}; use Same, All or Selector"
        return ListenerFault(Reason.INVALID, said)
    if listener.namespaces_from == From.SELECTOR:
        if listener.namespace_selector is None:
            return ListenerFault(Reason.INVALID, f"{where}: from: Selector needs allowedRoutes.namespaces.selector")
        if why := listener.namespace_selector.fault():
            return ListenerFault(Reason.INVALID, f"{where}: allowedRoutes.namespaces.selector: {why}")
    if not supported_kinds(listener):
        return ListenerFault(Reason.INVALID_ROUTE_KINDS, unsupported_kinds(listener) or "")
    return None

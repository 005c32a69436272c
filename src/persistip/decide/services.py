"""
Does a Service have one of the route's addresses?

In: a route's claims and the Services whose external or load-balancer IPs they overlap.  Out: faults, and remarks.
kube-proxy takes a Service's packets on every node before any route of ours sees them. So a Service that was there first
wins; one that comes later is reported to the route that it robs, and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from persistip.decide.verdict import Claim, Fault
from persistip.model.address import Prefix, is_single, show
from persistip.model.conditions import Reason
from persistip.model.service import Service
from persistip.model.views import RouteFacts


def service_faults(
    facts: RouteFacts, claims: Iterable[Claim], held: tuple[Prefix, ...]
) -> tuple[list[Fault], list[Fault]]:
    """
    What refuses, and what is only said.

    Nobody records when a Service got its IP. What the route holds it had first; for the rest, the older object did.
    """
    faults: list[Fault] = []
    remarks: list[Fault] = []
    for claim in claims:
        for service in facts.services:
            if not any(ip in claim.prefix for ip in service.ips if ip.version == claim.prefix.version):
                continue
            is_first = claim.prefix not in held and service.meta.created_at <= facts.route.meta.created_at
            (faults if is_first else remarks).append(_fault(claim, service, is_first=is_first))
    return faults, remarks


def _fault(claim: Claim, service: Service, *, is_first: bool) -> Fault:
    robbed = ", ".join(str(ip) for ip in service.ips if ip in claim.prefix)
    verb = "is" if is_single(claim.prefix) else f"contains {robbed},"
    which = f"{show(claim.prefix)} {verb} an external or load-balancer IP of {service.key}"
    what = "which had it first" if is_first else "which came later and takes the packets on every node"
    said = f"{which}, {what}; take it from one of the two"
    return Fault(reason=Reason.ADDRESS_CONFLICT, path=claim.path, message=said, is_live=True)

"""A Service takes an address from a route only where the two really meet."""

from ipaddress import ip_address, ip_network

from world import T0, route

from persistip.decide.services import service_faults
from persistip.decide.verdict import Claim
from persistip.model.attachment import Reference
from persistip.model.keys import ObjectMeta
from persistip.model.service import Service
from persistip.model.views import RouteFacts


def test_service_meets_one_address_of_several() -> None:
    """The fault names the address that the Service has; the route's other address, and the other family, are free."""
    service = Service(
        meta=ObjectMeta(name="edge", namespace="shop", created_at=T0 - 1000), ips=(ip_address("203.0.113.9"),)
    )
    pool = Reference(namespace="infra", name="pool", uid="gw")
    claims = [
        Claim(prefix=ip_network(prefix), gateway=pool)
        for prefix in ("203.0.113.8/32", "203.0.113.9/32", "2001:db8::9/128")
    ]
    faults, remarks = service_faults(RouteFacts(route=route(), services=(service,)), claims, ())
    assert [fault.message.split()[0] for fault in faults] == ["203.0.113.9"]
    assert remarks == []


def test_service_inside_a_range_is_named_by_its_own_ip() -> None:
    """What is said of a range is which of its addresses the Service has."""
    service = Service(
        meta=ObjectMeta(name="edge", namespace="shop", created_at=T0 - 1000),
        ips=(ip_address("203.0.113.65"), ip_address("198.51.100.1"), ip_address("2001:db8::9")),
    )
    claim = Claim(prefix=ip_network("203.0.113.64/28"), gateway=Reference(namespace="infra", name="pool", uid="gw"))
    (fault,), _ = service_faults(RouteFacts(route=route(), services=(service,)), [claim], ())
    assert fault.message.startswith("203.0.113.64/28 contains 203.0.113.65, an external or load-balancer IP of")

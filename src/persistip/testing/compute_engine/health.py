"""
What does Compute Engine know of health: the checks, and who passes them?

Regional health checks. Whether an endpoint passes is told to the emulator, which probes nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from persistip.testing.compute_engine.endpoint_groups import nic_of
from persistip.testing.compute_engine.kinds import NAME_FIELD, OUTPUT, Body, Case, Finding, Kind, Rule, World
from persistip.testing.compute_engine.refusals import RefusalError, invalid
from persistip.testing.compute_engine.shapes import Reference, Shape, Struct, Text, Whole, Word, check

_PROBES = {
    "TCP": "tcpHealthCheck",
    "HTTP": "httpHealthCheck",
    "HTTPS": "httpsHealthCheck",
    "SSL": "sslHealthCheck",
}
_REQUEST = Struct({"group": Reference(("networkEndpointGroups",))})


def complete(case: Case) -> Body:
    """Write defaults out."""
    return {"checkIntervalSec": 5, "timeoutSec": 5, "healthyThreshold": 2, "unhealthyThreshold": 2, **case.body}


def group_health(world: World, body: Body, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Who of one group is healthy, as the service sees it."""
    asked = check(_REQUEST, request, "resource")
    url = asked.get("group", "")
    if url not in [backend["group"] for backend in body.get("backends", ())]:
        raise invalid("group", url, "It is no backend of the service.")
    if "haPolicy" in body:
        raise RefusalError(501, "notImplemented", "Not emulated: getHealth of a service with haPolicy")
    group = world.find(url) or {}
    statuses = []
    for endpoint in group.get("_endpoints", ()):
        instance = world.find(endpoint)
        if instance is not None:
            state = "HEALTHY" if world.is_healthy(endpoint) else "UNHEALTHY"
            statuses.append({"instance": endpoint, "ipAddress": nic_of(instance)["networkIP"], "healthState": state})
    answer: dict[str, Any] = {"kind": "compute#backendServiceGroupHealth"}
    if statuses:
        answer["healthStatus"] = statuses
    return answer


# ---------------------------------------------------------------- rules
def _probe_mismatch(case: Case) -> Finding:
    wanted = _PROBES[case.body["type"]]
    given = [name for name in _PROBES.values() if name in case.body]
    return given != [wanted] and (", ".join(given) or "none")


def _timeout_too_long(case: Case) -> Finding:
    return case.body["timeoutSec"] > case.body["checkIntervalSec"] and str(case.body["timeoutSec"])


RULES = (
    Rule(
        name="one-probe-of-the-type",
        source="A: HealthCheck.type",
        message="Invalid value for field 'resource.type': exactly the check of its type is expected; given: {found}.",
        broken=_probe_mismatch,
    ),
    Rule(
        name="timeout-within-interval",
        source="A: HealthCheck.timeoutSec",
        message="Invalid value for field 'resource.timeoutSec': '{found}'. It must not exceed checkIntervalSec.",
        broken=_timeout_too_long,
    ),
)

_PROBE: dict[str, Shape] = {
    "port": Whole(1, 65535),
    "portSpecification": Word(("USE_FIXED_PORT",)),
    "proxyHeader": Word(("NONE",)),
    "request": Text(),
    "response": Text(),
}
_WEB_PROBE: dict[str, Shape] = {**_PROBE, "requestPath": Text(r"/.*"), "host": Text()}
_WEB_PROBE.pop("request")

KIND = Kind(
    service="regionHealthChecks",
    collection="healthChecks",
    noun="healthCheck",
    scope="region",
    verbs=("get", "list", "insert", "delete"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "type": Word(tuple(_PROBES)),
            "checkIntervalSec": Whole(1, 300),
            "timeoutSec": Whole(1, 300),
            "healthyThreshold": Whole(1, 10),
            "unhealthyThreshold": Whole(1, 10),
            "tcpHealthCheck": Struct(_PROBE),
            "sslHealthCheck": Struct(_PROBE),
            "httpHealthCheck": Struct(_WEB_PROBE),
            "httpsHealthCheck": Struct(_WEB_PROBE),
        },
        OUTPUT,
    ),
    required=("name", "type"),
    rules=RULES,
    complete=complete,
    quota="HEALTH_CHECKS",
)

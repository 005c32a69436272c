"""
What does Compute Engine know of groups of network endpoints?

Zonal groups of type ``GCE_VM_IP``: a list of instances of one zone and subnetwork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from persistip.testing.compute_engine.kinds import (
    NAME_FIELD,
    OUTPUT,
    Action,
    Body,
    Case,
    Finding,
    Kind,
    Rule,
    World,
    network_reference,
    subnetwork_reference,
)
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.listing import page_of
from persistip.testing.compute_engine.refusals import RefusalError, invalid, required
from persistip.testing.compute_engine.shapes import Labels, Many, Reference, Struct, Text, Whole, Word, check

BATCH = 500
_ENDPOINT = Struct({"instance": Reference(("instances",)), "ipAddress": Text(), "port": Whole()})
_REQUEST = Struct({"networkEndpoints": Many(_ENDPOINT, most=BATCH)})
_LIST_REQUEST = Struct({"healthStatus": Word(("SKIP", "SHOW"))})


def nic_of(instance: Body) -> Mapping[str, Any]:
    """The first network interface of an instance."""
    first: Mapping[str, Any] = instance["networkInterfaces"][0]
    return first


def complete(case: Case) -> Body:
    """A group is of its subnetwork's network."""
    body = dict(case.body)
    if subnet := case.world.find(body.get("subnetwork", "")):
        body.setdefault("network", subnet["network"])
    elif "network" not in body:
        raise required("resource.network")
    else:
        raise required("resource.subnetwork")
    body.setdefault("_endpoints", ())
    return body


def shown(_world: World, _link: Link, body: Body) -> Mapping[str, Any]:
    """How many endpoints it has."""
    return {"size": len(body["_endpoints"])}


def list_endpoints(world: World, body: Body, query: Mapping[str, str], request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of a group's endpoints."""
    check(_LIST_REQUEST, request, "resource")
    if request.get("healthStatus") == "SHOW":
        raise RefusalError(501, "notImplemented", "Not emulated: healthStatus SHOW")
    items = []
    for url in body["_endpoints"]:
        instance = world.find(url)
        endpoint = {"instance": url}
        if instance is not None:
            endpoint["ipAddress"] = nic_of(instance)["networkIP"]
        items.append({"networkEndpoint": endpoint})
    page = page_of(items, query, key=lambda each: str(each["networkEndpoint"]["instance"]))
    listed: dict[str, Any] = {"kind": "compute#networkEndpointGroupsListNetworkEndpoints"}
    if page.items:
        listed["items"] = list(page.items)
    if page.token:
        listed["nextPageToken"] = page.token
    return listed


def _asked(request: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    endpoints: Sequence[Mapping[str, Any]] = request.get("networkEndpoints", ())
    if not endpoints:
        raise required("networkEndpoints")
    for index, each in enumerate(endpoints):
        if "port" in each:
            raise invalid(f"networkEndpoints[{index}].port", each["port"], "GCE_VM_IP endpoints have none.")
        if "instance" not in each:
            raise required(f"networkEndpoints[{index}].instance")
    return endpoints


def _attach(case: Case, request: Mapping[str, Any]) -> Body:
    old = case.old or {}
    attached = list(old["_endpoints"])
    for each in _asked(request):
        url = each["instance"]
        instance = case.world.find(url)
        assert instance is not None
        if "ipAddress" in each and each["ipAddress"] != nic_of(instance)["networkIP"]:
            raise invalid("networkEndpoints.ipAddress", each["ipAddress"], "It is not the instance's primary address.")
        if url in attached:
            raise invalid("networkEndpoints.instance", url, "The endpoint is attached already.")
        attached.append(url)
    return {**old, "_endpoints": tuple(attached)}


def _detach(case: Case, request: Mapping[str, Any]) -> Body:
    old = case.old or {}
    attached = list(old["_endpoints"])
    for each in _asked(request):
        if each["instance"] not in attached:
            raise invalid("networkEndpoints.instance", each["instance"], "The endpoint is not attached.")
        attached.remove(each["instance"])
    return {**old, "_endpoints": tuple(attached)}


# ---------------------------------------------------------------- rules
def _default_port(case: Case) -> Finding:
    return "defaultPort" in case.body and str(case.body["defaultPort"])


def _network_mismatch(case: Case) -> Finding:
    subnet = case.world.find(case.body.get("subnetwork", ""))
    return subnet is not None and subnet["network"] != case.body["network"] and str(case.body["network"])


def _endpoint_elsewhere(case: Case) -> Finding:
    zone = case.link.scope
    return next((url for url in case.body["_endpoints"] if f"/{zone}/" not in url), None)


def _endpoint_in_other_subnetwork(case: Case) -> Finding:
    for url in case.body["_endpoints"]:
        instance = case.world.find(url)
        if instance is not None and nic_of(instance)["subnetwork"] != case.body["subnetwork"]:
            return str(url)
    return None


def _services_with(case: Case) -> list[tuple[Link, Body]]:
    services = case.world.all_of("backendServices")
    return [
        (link, body)
        for link, body in services
        if any(each["group"] == case.link.url for each in body.get("backends", ()))
    ]


def _is_fast(body: Body) -> bool:
    return bool(body.get("haPolicy", {}).get("fastIPMove") == "GARP_RA")


def _leader_detached(case: Case) -> Finding:
    for link, body in _services_with(case):
        leader = body.get("haPolicy", {}).get("leader", {})
        instance = leader.get("networkEndpoint", {}).get("instance")
        if leader.get("backendGroup") == case.link.url and instance not in case.body["_endpoints"]:
            return f"{instance} of {link.path}"
    return None


def _over_cap(case: Case) -> Finding:
    for link, body in _services_with(case):
        if not _is_fast(body):
            continue
        others = (each["group"] for each in body["backends"] if each["group"] != case.link.url)
        number = sum(len((case.world.find(url) or {}).get("_endpoints", ())) for url in others)
        number += len(case.body["_endpoints"])
        if number > case.world.endpoint_cap:
            return f"{number} of {link.path}; the limit is {case.world.endpoint_cap}"
    return None


RULES = (
    Rule(
        name="no-default-port",
        source="A: NetworkEndpointGroup.defaultPort",
        message="Invalid value for field 'resource.defaultPort': '{found}'. GCE_VM_IP groups have none.",
        broken=_default_port,
    ),
    Rule(
        name="group-is-of-its-subnetworks-network",
        source="A",
        message="Invalid value for field 'resource.network': '{found}' is not the subnetwork's network.",
        broken=_network_mismatch,
    ),
    Rule(
        name="endpoint-is-of-the-groups-zone",
        source="A",
        message="Invalid value for field 'networkEndpoints.instance': '{found}' is in another zone.",
        broken=_endpoint_elsewhere,
    ),
    Rule(
        name="endpoint-is-of-the-groups-subnetwork",
        source="A",
        message="Invalid value for field 'networkEndpoints.instance': '{found}' has no interface in the subnetwork.",
        broken=_endpoint_in_other_subnetwork,
    ),
    Rule(
        name="leader-is-not-detached",
        source="A: BackendServiceHAPolicyLeader.networkEndpoint",
        message="The endpoint {found} is a leader and cannot be detached.",
        reason="resourceInUseByAnotherResource",
        broken=_leader_detached,
    ),
    Rule(
        name="fast-endpoints-within-cap-when-attached",
        source="A: 32",
        message="Too many endpoints with fast IP move: {found}.",
        broken=_over_cap,
    ),
)

KIND = Kind(
    service="networkEndpointGroups",
    collection="networkEndpointGroups",
    noun="networkEndpointGroup",
    scope="zone",
    verbs=("get", "list", "aggregatedList", "insert", "delete", "listNetworkEndpoints"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "annotations": Labels(),
            "defaultPort": Whole(0, 65535),
            "network": network_reference(),
            "networkEndpointType": Word(("GCE_VM_IP",)),
            "subnetwork": subnetwork_reference(),
        },
        OUTPUT | {"size"},
    ),
    required=("name", "networkEndpointType"),
    actions={
        "attachNetworkEndpoints": Action(body=_REQUEST, apply=_attach),
        "detachNetworkEndpoints": Action(body=_REQUEST, apply=_detach),
    },
    rules=RULES,
    complete=complete,
    shown=shown,
    quota="NETWORK_ENDPOINT_GROUPS",
)

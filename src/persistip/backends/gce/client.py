"""
How is one call to Compute Engine made?

In: a step, a name, a filter.  Out: bodies and operations as values, or an error of ours. Each method blocks, makes one
call (a list: one for each page) and never repeats it: who calls knows whether that is harmless. Only ``*_unary``
methods are used: the others follow their operations at Google's own endpoint, whatever endpoint was named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import requests.exceptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1
from google.protobuf.json_format import ParseError

from persistip.backends.gce.errors import error_of, unavailable
from persistip.backends.gce.plan import Attach, Delete, Detach, Insert, Patch, Step
from persistip.backends.gce.resources import Body, Instance, Resource, Service, last
from persistip.errors import BackendError, RefusedError, StaleError
from persistip.strategies import Clock

T = TypeVar("T")

CALL_SECONDS = 20.0
WAIT_SECONDS = 130.0
"""The service answers a ``wait`` after two minutes at the latest."""
BATCH = 500
"""Endpoints in one call."""


@attrs.frozen(kw_only=True)
class _Kind:
    """The classes of a service, and how its methods name their arguments."""

    client: str
    message: str
    noun: str


_KINDS = {
    Service.ADDRESSES: _Kind(client="AddressesClient", message="Address", noun="address"),
    Service.RULES: _Kind(client="ForwardingRulesClient", message="ForwardingRule", noun="forwarding_rule"),
    Service.SERVICES: _Kind(client="RegionBackendServicesClient", message="BackendService", noun="backend_service"),
    Service.GROUPS: _Kind(
        client="NetworkEndpointGroupsClient", message="NetworkEndpointGroup", noun="network_endpoint_group"
    ),
    Service.FIREWALLS: _Kind(client="FirewallsClient", message="Firewall", noun="firewall"),
}


@attrs.frozen(kw_only=True)
class Operation:
    """What the service does about a mutation; ``words`` and ``message`` tell why it failed."""

    name: str
    scope: str
    is_done: bool
    status: int = 0
    words: tuple[str, ...] = ()
    message: str = ""


class ComputeClient:
    """Calls about one region of one project; may be used by several threads at once."""

    def __init__(self, *, project: str, region: str, clock: Clock, credentials: Any = None, endpoint: str = "") -> None:
        self.project = project
        self.region = region
        self._clock = clock
        self._options: dict[str, Any] = {"credentials": credentials}
        if endpoint:
            self._options["client_options"] = {"api_endpoint": endpoint}
        names = [kind.client for kind in _KINDS.values()]
        names += ["InstancesClient", "RegionOperationsClient", "ZoneOperationsClient", "GlobalOperationsClient"]
        # Made at once: two threads that made the same one would each open connections of their own.
        self._clients = {name: getattr(compute_v1, name)(**self._options) for name in names}

    def close(self) -> None:
        """End every connection."""
        for client in self._clients.values():
            client.transport.close()

    # ------------------------------------------------------------ looks
    def get(self, resource: Resource) -> Body | None:
        """One resource; None: there is none."""
        kind = _KINDS[resource.service]
        fields = {**self._where(resource.scope), kind.noun: resource.name}
        try:
            return _body(self._call(resource.service, "get", str(resource), fields))
        except StaleError:
            return None

    def list(self, service: Service, expression: str) -> list[tuple[Resource, Body]]:
        """Every resource of a service that *expression* lets through, in all zones for a zonal one."""
        if service is Service.GROUPS:
            zonal = self._aggregated("NetworkEndpointGroupsClient", "network_endpoint_groups", expression)
            return [(Resource(service, scope, str(body["name"])), body) for scope, body in zonal]
        scope = "global" if service is Service.FIREWALLS else f"regions/{self.region}"
        kind = _KINDS[service]
        fields = {**self._where(scope), "filter": expression}
        bodies = self._pages(kind.client, "list", f"{service} {expression}", fields)
        return [(Resource(service, scope, str(body["name"])), body) for body in bodies]

    def addresses(self, value: str) -> Body | None:
        """The reserved address with that value in the region; None: there is none."""
        found = self.list(Service.ADDRESSES, f'address = "{value}"')
        return found[0][1] if found else None

    def instance(self, name: str) -> Instance | None:
        """The virtual machine of that name, in whichever zone of the region it is."""
        for scope, body in self._aggregated("InstancesClient", "instances", f'name = "{name}"'):
            zone = last(scope)
            if zone.rpartition("-")[0] == self.region and body.get("networkInterfaces"):
                nic = body["networkInterfaces"][0]
                return Instance(name=name, zone=zone, network=nic["network"], subnetwork=nic["subnetwork"])
        return None

    def endpoints(self, group: Resource) -> frozenset[str]:
        """The instances that are endpoints of a group."""
        fields = {
            **self._where(group.scope),
            "network_endpoint_group": group.name,
            "network_endpoint_groups_list_endpoints_request_resource": {},
        }
        found = set()
        for body in self._pages("NetworkEndpointGroupsClient", "list_network_endpoints", str(group), fields):
            found.add(last(str(body["networkEndpoint"]["instance"])))
        return frozenset(found)

    # ------------------------------------------------------------ changes
    def begin(self, step: Step, request_id: str) -> Operation:
        """Ask for a step; the same *request_id* asks for it once, however often it is said."""
        resource = step.resource
        kind = _KINDS[resource.service]
        fields: dict[str, Any] = {**self._where(resource.scope), "request_id": request_id}
        verb = ""
        match step:
            case Insert(_, body):
                verb = "insert_unary"
                fields[f"{kind.noun}_resource"] = _message(kind.message, body)
            case Patch(_, body):
                verb = "patch_unary"
                fields |= {kind.noun: resource.name, f"{kind.noun}_resource": _message(kind.message, body)}
            case Delete():
                verb = "delete_unary"
                fields[kind.noun] = resource.name
            case Attach(_, names):
                verb = "attach_network_endpoints_unary"
                fields |= {kind.noun: resource.name, **self._endpoints_body("attach", resource, names)}
            case Detach(_, names):
                verb = "detach_network_endpoints_unary"
                fields |= {kind.noun: resource.name, **self._endpoints_body("detach", resource, names)}
        return _operation(self._call(resource.service, verb, str(resource), fields), resource.scope)

    def _endpoints_body(self, verb: str, group: Resource, names: tuple[str, ...]) -> dict[str, Any]:
        urls = [f"projects/{self.project}/{group.scope}/instances/{name}" for name in names[:BATCH]]
        body = {"networkEndpoints": [{"instance": url} for url in urls]}
        name = f"NetworkEndpointGroups{verb.capitalize()}EndpointsRequest"
        return {f"network_endpoint_groups_{verb}_endpoints_request_resource": _message(name, body)}

    def wait(self, operation: Operation) -> Operation:
        """The operation when it has ended, or after two minutes; it may also be told sooner that it runs."""
        fields = {**self._where(operation.scope), "operation": operation.name}
        found = self._call(self._operations(operation.scope), "wait", operation.name, fields, seconds=WAIT_SECONDS)
        return _operation(found, operation.scope)

    def operations(self, scope: str) -> dict[str, Operation]:
        """The operations of a scope that are remembered, by name."""
        client = self._operations(scope)
        fields = self._where(scope)
        found = [_operation_of(body, scope) for body in self._pages(client, "list", scope, fields)]
        return {each.name: each for each in found}

    # ------------------------------------------------------------ one call
    def _operations(self, scope: str) -> str:
        kind, _, name = scope.partition("s/")
        return f"{kind.capitalize()}OperationsClient" if name else "GlobalOperationsClient"

    def _where(self, scope: str) -> dict[str, str]:
        kind, _, name = scope.partition("s/")
        return {"project": self.project, **({kind: name} if name else {})}

    def _pages(self, client: str, verb: str, target: str, fields: dict[str, Any]) -> Iterator[Body]:
        pager = self._call(client, verb, target, fields)
        pages = iter(pager.pages)
        while (page := self._tell(verb, target, lambda: next(pages, None))) is not None:
            yield from (_body(each) for each in page.items)

    def _aggregated(self, client: str, collection: str, expression: str) -> Iterator[tuple[str, Body]]:
        """Every item of a list over all scopes; a scope that could not be reached makes it no list at all."""
        target = f"{collection} {expression}"
        pager = self._call(client, "aggregated_list", target, {"project": self.project, "filter": expression})
        pages = iter(pager.pages)
        while (page := self._tell("aggregated_list", target, lambda: next(pages, None))) is not None:
            missed = [*page.unreachables, *(scope for scope, each in page.items.items() if _is_missed(each))]
            if missed:
                told = f"not reached: {', '.join(sorted(map(last, missed)))}"
                raise unavailable(told, operation="aggregated_list", target=target)
            for scope, each in page.items.items():
                yield from ((scope, _body(item)) for item in getattr(each, collection))

    def _call(
        self, service: str, verb: str, target: str, fields: dict[str, Any], *, seconds: float = CALL_SECONDS
    ) -> Any:
        client = self._clients[_KINDS[Service(service)].client if service in _SERVICES else service]
        return self._tell(verb, target, lambda: getattr(client, verb)(fields, retry=None, timeout=seconds))

    def _tell(self, verb: str, target: str, call: Callable[[], T]) -> T:
        """What *call* returns; raises BackendError."""
        try:
            return call()
        except RetryError as error:
            raise unavailable(str(error), operation=verb, target=target) from error
        except GoogleAPICallError as error:
            words = [str(each.get("reason", "")) for each in error.errors if isinstance(each, dict)]
            status = int(error.code or 0)
            said = error.message or str(error)
            words.append(str(error.reason or ""))
            raise error_of(status, words, said, operation=verb, target=target, now=self._clock.now()) from error
        except GoogleAuthError as error:
            raise RefusedError(f"no credentials: {error}", system="gce", operation=verb, target=target) from error
        except (requests.exceptions.RequestException, ParseError, ValueError) as error:
            raise unavailable(f"{type(error).__name__}: {error}", operation=verb, target=target) from error


_SERVICES = frozenset(Service)


def _is_missed(scoped: Any) -> bool:
    return bool(scoped.warning.code) and "UNREACHABLE" in str(scoped.warning.code)


def _body(message: Any) -> Body:
    body: Body = type(message).to_dict(
        message,
        use_integers_for_enums=False,
        preserving_proto_field_name=False,
        always_print_fields_with_no_presence=False,
    )
    return body


def _message(name: str, body: Body) -> Any:
    return getattr(compute_v1, name).from_json(json.dumps(dict(body)))


def _operation(message: Any, scope: str) -> Operation:
    return _operation_of(_body(message), scope)


def _operation_of(body: Body, scope: str) -> Operation:
    errors = body.get("error", {}).get("errors", ())
    return Operation(
        name=str(body.get("name", "")),
        scope=scope,
        is_done=body.get("status") == "DONE",
        status=int(body.get("httpErrorStatusCode", 0) or 0),
        words=tuple(str(each.get("code", "")) for each in errors),
        message="; ".join(str(each.get("message", "")) for each in errors),
    )


def failure_of(operation: Operation, target: str, now: float) -> BackendError | None:
    """Why an operation that has ended did not do what was asked; None: it did."""
    if not operation.words and operation.status < 400:
        return None
    said = operation.message or f"status {operation.status}"
    return error_of(operation.status, operation.words, said, operation="operation", target=target, now=now)

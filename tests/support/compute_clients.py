"""
How do the tests carry their steps out? Through google-cloud-compute, and through google-api-python-client.

In: an endpoint.  Out: clients whose calls never retry by themselves, and what a step came to.
"""

import json
import re
from typing import Any

import compute_needed  # noqa: F401 - before the packages that may be missing
import google_auth_httplib2
import googleapiclient.errors
import httplib2
from compute_steps import DONE, FRESH, NOUNS, PROJECT, REGION, Outcome, Step
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from googleapiclient import discovery


def snake(name: str) -> str:
    """Return a name as Python writes it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def class_of(service: str) -> str:
    """Return a service's name as classes write it."""
    return service[0].upper() + service[1:]


class Clients:
    """google-cloud-compute: one client for each service, made when it is first used."""

    def __init__(self, endpoint: str) -> None:
        self.options: dict[str, Any] = {
            "credentials": AnonymousCredentials(),
            "client_options": {"api_endpoint": endpoint},
        }
        self.made: dict[str, Any] = {}

    def of(self, service: str) -> Any:
        """Return the client of a service."""
        if service not in self.made:
            self.made[service] = getattr(compute_v1, f"{class_of(service)}Client")(**self.options)
        return self.made[service]

    def close(self) -> None:
        """End every connection."""
        for client in self.made.values():
            client.transport.close()

    def request_of(self, step: Step) -> dict[str, Any]:
        """Return a step as the arguments of its method."""
        noun = NOUNS[step.service]
        fields: dict[str, Any] = dict(step.where)
        if step.name:
            fields["resource" if step.verb == "setLabels" else snake(noun)] = step.name
        types = {
            "attachNetworkEndpoints": "NetworkEndpointGroupsAttachEndpointsRequest",
            "detachNetworkEndpoints": "NetworkEndpointGroupsDetachEndpointsRequest",
            "listNetworkEndpoints": "NetworkEndpointGroupsListEndpointsRequest",
            "setTarget": "TargetReference",
            "setLabels": "RegionSetLabelsRequest",
            "getHealth": "ResourceGroupReference",
        }
        if step.body is not None:
            name = types.get(step.verb, class_of(noun))
            body = getattr(compute_v1, name).from_json(json.dumps(self.with_fresh(step)))
            fields[f"{snake(name)}_resource"] = body
        return fields

    def with_fresh(self, step: Step) -> dict[str, Any]:
        """Return the body with the present fingerprint where it asks for it."""
        body = dict(step.body or {})
        for name in ("fingerprint", "labelFingerprint"):
            if body.get(name) == FRESH:
                present = self.get(step.service, step.name, zone=step.zone)
                body[name] = getattr(present, snake(name))
        return body

    def get(self, service: str, name: str, *, zone: str = "") -> Any:
        """Return a resource."""
        step = Step(method=f"{service}.get", name=name, **({"zone": zone} if zone else {}))
        return self.of(service).get(self.request_of(step), retry=None, timeout=30)

    def begin(self, step: Step, **more: Any) -> compute_v1.Operation:
        """Ask for a step; return its operation."""
        method = getattr(self.of(step.service), f"{snake(step.verb)}_unary")
        operation = method({**self.request_of(step), **more}, retry=None, timeout=30)
        assert isinstance(operation, compute_v1.Operation)
        return operation

    def finish(self, operation: compute_v1.Operation) -> compute_v1.Operation:
        """Wait for an operation."""
        where = {"project": PROJECT, "operation": operation.name}
        while operation.status != compute_v1.Operation.Status.DONE:
            if operation.region:
                scope, fields = "regionOperations", {"region": REGION}
            elif operation.zone:
                scope, fields = "zoneOperations", {"zone": operation.zone.rpartition("/")[2]}
            else:
                scope, fields = "globalOperations", {}
            operation = self.of(scope).wait({**where, **fields}, retry=None, timeout=150)
        return operation

    def do(self, step: Step, **more: Any) -> Outcome:
        """Carry out a step, wait for its operation, and return what it came to."""
        try:
            operation = self.finish(self.begin(step, **more))
        except GoogleAPICallError as error:
            return Outcome(str(error.errors[0]["reason"]) if error.errors else str(error.code), error.message)
        if operation.error.errors:
            return Outcome(operation.error.errors[0].code, operation.error.errors[0].message)
        return DONE

    def do_all(self, *steps: Step) -> None:
        """Carry out steps that must come to something."""
        for step in steps:
            outcome = self.do(step)
            assert outcome == DONE, f"{step.method}: {outcome}"


class ApiClient:
    """google-api-python-client, which is made of the discovery document and checks what it sends by it."""

    def __init__(self, endpoint: str) -> None:
        self.http = httplib2.Http()
        options = {"api_endpoint": f"{endpoint}/compute/v1/"}
        self.api = discovery.build(
            "compute",
            "v1",
            http=google_auth_httplib2.AuthorizedHttp(AnonymousCredentials(), http=self.http),
            client_options=options,
            static_discovery=True,
            cache_discovery=False,
        )

    def close(self) -> None:
        """End every connection."""
        self.api.close()
        self.http.close()

    def get(self, service: str, name: str, where: dict[str, str]) -> dict[str, Any]:
        """Return a resource."""
        resource = getattr(self.api, service)()
        found: dict[str, Any] = resource.get(**where, **{NOUNS[service]: name}).execute()
        return found

    def do(self, step: Step) -> Outcome:
        """Carry out a step, wait for its operation, and return what it came to."""
        fields: dict[str, Any] = dict(step.where)
        if step.name:
            fields["resource" if step.verb == "setLabels" else NOUNS[step.service]] = step.name
        if step.body is not None:
            body = dict(step.body)
            for name in ("fingerprint", "labelFingerprint"):
                if body.get(name) == FRESH:
                    body[name] = self.get(step.service, step.name, step.where)[name]
            fields["body"] = body
        try:
            operation = getattr(getattr(self.api, step.service)(), step.verb)(**fields).execute()
        except googleapiclient.errors.HttpError as error:
            return Outcome(str(error.error_details[0]["reason"]), str(error.reason))
        return self.finish(operation)

    def finish(self, operation: dict[str, Any]) -> Outcome:
        """Wait for an operation, and return what it came to."""
        while operation["status"] != "DONE":
            fields = {"project": PROJECT, "operation": operation["name"]}
            scope = next((each for each in ("region", "zone") if each in operation), "")
            if scope:
                fields[scope] = operation[scope].rpartition("/")[2]
            waits = {"region": self.api.regionOperations, "zone": self.api.zoneOperations}
            operation = waits.get(scope, self.api.globalOperations)().wait(**fields).execute()
        if errors := operation.get("error", {}).get("errors"):
            return Outcome(errors[0]["code"], errors[0]["message"])
        return DONE

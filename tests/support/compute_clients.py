"""
How do the tests of the Compute Engine emulator call it? Through google-cloud-compute, and the judge.

In: an endpoint.  Out: clients whose calls never retry by themselves, and what a call came to.
"""

from typing import Any

import attrs
import compute_needed  # noqa: F401 - before the packages that may be missing
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

PROJECT, REGION, ZONE = "lab", "europe-west4", "europe-west4-a"
URL = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
SCOPES = {"region": {"region": REGION}, "zone": {"zone": ZONE}, "global": {}}


@attrs.frozen
class Outcome:
    """What a call came to: ``DONE``, or the reason or code of its refusal, with the sentence."""

    word: str
    message: str = ""


class Clients:
    """One client for each service, all pointed at one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.options: dict[str, Any] = {
            "credentials": AnonymousCredentials(),
            "client_options": {"api_endpoint": endpoint},
        }
        self.addresses = compute_v1.AddressesClient(**self.options)
        self.rules = compute_v1.ForwardingRulesClient(**self.options)
        self.services = compute_v1.RegionBackendServicesClient(**self.options)
        self.groups = compute_v1.NetworkEndpointGroupsClient(**self.options)
        self.checks = compute_v1.RegionHealthChecksClient(**self.options)
        self.firewalls = compute_v1.FirewallsClient(**self.options)
        self.instances = compute_v1.InstancesClient(**self.options)
        self.targets = compute_v1.TargetInstancesClient(**self.options)
        self.prefixes = compute_v1.PublicDelegatedPrefixesClient(**self.options)
        self.regional = compute_v1.RegionOperationsClient(**self.options)
        self.zonal = compute_v1.ZoneOperationsClient(**self.options)
        self.everywhere = compute_v1.GlobalOperationsClient(**self.options)

    def close(self) -> None:
        """End every connection."""
        for client in vars(self).values():
            if hasattr(client, "transport"):
                client.transport.close()

    def begin(self, method: Any, **fields: Any) -> compute_v1.Operation:
        """Call a method, which must be one of the ``_unary`` ones."""
        operation = method(project=PROJECT, retry=None, timeout=30, **fields)
        assert isinstance(operation, compute_v1.Operation)
        return operation

    def finish(self, operation: compute_v1.Operation) -> compute_v1.Operation:
        """Wait for an operation."""
        where = {"project": PROJECT, "operation": operation.name, "retry": None, "timeout": 150}
        while operation.status != compute_v1.Operation.Status.DONE:
            if operation.region:
                operation = self.regional.wait(region=REGION, **where)
            elif operation.zone:
                operation = self.zonal.wait(zone=operation.zone.rpartition("/")[2], **where)
            else:
                operation = self.everywhere.wait(**where)
        return operation

    def do(self, method: Any, **fields: Any) -> Outcome:
        """Call a method, wait for its operation, and return what it came to."""
        try:
            operation = self.finish(self.begin(method, **fields))
        except GoogleAPICallError as error:
            return Outcome(str(error.errors[0]["reason"]) if error.errors else str(error.code), error.message)
        if operation.error.errors:
            return Outcome(operation.error.errors[0].code, operation.error.errors[0].message)
        return Outcome("DONE")

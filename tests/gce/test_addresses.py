"""What does the emulator make of reserved addresses? Asked through google-cloud-compute, and judged."""

import pytest
from compute_clients import PROJECT, REGION, Clients
from google.api_core.exceptions import NotFound
from google.cloud import compute_v1

pytestmark = pytest.mark.requires("gce")


def test_address_is_reserved_when_its_operation_is_done(clients: Clients) -> None:
    """An insert answers with an operation that runs, and the address is there when it has ended."""
    wanted = compute_v1.Address(name="nat-2", description="ours")
    operation = clients.begin(clients.addresses.insert_unary, region=REGION, address_resource=wanted)
    assert operation.status == compute_v1.Operation.Status.RUNNING
    where = {"project": PROJECT, "region": REGION, "address": "nat-2", "retry": None}
    with pytest.raises(NotFound):
        clients.addresses.get(**where)
    done = clients.finish(operation)
    found = clients.addresses.get(**where)
    assert (found.status, found.description, str(found.id)) == ("RESERVED", "ours", str(done.target_id))

"""What does the emulator make of reserved addresses? Asked through google-cloud-compute, and judged."""

import pytest
from compute_clients import Clients
from compute_steps import address
from google.api_core.exceptions import NotFound
from google.cloud import compute_v1

pytestmark = pytest.mark.requires("gce")


def test_address_is_reserved_when_its_operation_is_done(clients: Clients) -> None:
    """An insert answers with an operation that runs, and the address is there when it has ended."""
    operation = clients.begin(address(name="nat-2", description="ours"))
    assert operation.status == compute_v1.Operation.Status.RUNNING
    with pytest.raises(NotFound):
        clients.get("addresses", "nat-2")
    done = clients.finish(operation)
    found = clients.get("addresses", "nat-2")
    assert (found.status, found.description, str(found.id)) == ("RESERVED", "ours", str(done.target_id))

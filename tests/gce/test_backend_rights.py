"""Does the page that lists the rights list exactly what the allocator uses?"""

import re
from pathlib import Path

import attrs
import pytest
from compute_backend import EXTERNAL, OTHER, attract, project
from compute_backend import INTERNAL as INSIDE

from persistip.model.cloud import CloudAction, Withdraw
from persistip.testing.compute_engine.methods import make_methods
from persistip.testing.compute_engine.service import KINDS

pytestmark = [pytest.mark.requires("gce")]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "compute-engine.md"
EXTRA = {"compute.globalOperations.get", "compute.zoneOperations.list", "compute.regionOperations.list"}
"""Whether operations are waited for or listed hangs on how many there are; not every run needs each."""


def listed() -> set[str]:
    """Return the permissions on the page."""
    block = re.search(r"```text\n(compute\..*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    return set(block[1].split())


async def test_page_lists_the_permissions_of_all_calls() -> None:
    """A life of routes of both classes uses what is listed, and nothing else."""
    inside = attract("a", INSIDE, external=False, route="tenant/inside")
    life: list[CloudAction] = [
        attract("a", EXTERNAL[:1], nodes=("b",)),
        attract("b", (*EXTERNAL[:1], *OTHER), nodes=("b",)),
        attract("c", OTHER),
        Withdraw(prefixes=(), route="tenant/web"),
        inside,
        attrs.evolve(inside, global_access=True),
    ]
    with project() as made:
        async with made.allocator() as allocator:
            for action in life:
                await made.rest(allocator, action)
        methods = {method.id: method.permission for method in make_methods(KINDS)}
        used = {methods[name] for name, _ in made.engine.calls}
    assert used - listed() == set()
    assert listed() - used - EXTRA == set()

"""Killed at every single call, before its request and after its answer, the allocator leaves nothing behind."""

from collections.abc import Callable

import attrs
import pytest
from compute_backend import EXTERNAL, INTERNAL, KilledError, Mortal, Project, attract, project

from persistip.model.address import Prefix
from persistip.model.cloud import Attract, CloudAction, CloudState, Withdraw

pytestmark = [pytest.mark.requires("gce")]

CLASSES = {"external": (EXTERNAL, True), "internal": (INTERNAL, False)}
MOST_CALLS = 400


@attrs.frozen(kw_only=True)
class Operation:
    """What stands before, and what is wanted."""

    before: CloudAction | None
    wanted: CloudAction


def operations(prefixes: tuple[Prefix, ...], *, external: bool) -> dict[str, Operation]:
    """Return what can be asked for about a route of a class."""
    at_a = attract("a", prefixes[:1], nodes=("a", "b"), external=external)
    two = attrs.evolve(at_a, prefixes=prefixes)
    found = {
        "create": Operation(before=None, wanted=attrs.evolve(at_a, nodes=("a",))),
        "move": Operation(before=at_a, wanted=attrs.evolve(at_a, node_name="b")),
        "move to a node that nobody expected": Operation(before=at_a, wanted=attrs.evolve(at_a, node_name="c")),
        "delete": Operation(before=at_a, wanted=Withdraw(prefixes=(), route=at_a.route)),
    }
    if len(prefixes) > 1:
        found["add an address"] = Operation(before=at_a, wanted=two)
        found["remove an address"] = Operation(before=two, wanted=at_a)
    return found


CASES = [
    (name, operation)
    for name, (prefixes, external) in CLASSES.items()
    for operation in operations(prefixes, external=external)
]


def stands(action: CloudAction) -> Callable[[CloudState], bool]:
    """Return whether a state is what an action wants."""
    if isinstance(action, Attract):
        return lambda state: state.ready and state.leader == action.node_name
    return lambda state: not state.owned


async def carry_out(made: Project, action: CloudAction, life: Mortal | None = None) -> int:
    """Have a process carry an action out, housekeeping included; return how many calls it took."""
    async with made.allocator(life=life or (life := Mortal()), resync_seconds=30.0) as allocator:
        await made.until(allocator, action, stands(action))
        await made.rest(allocator, action)
    return life.calls


async def crash(made: Project, operation: Operation, life: Mortal) -> tuple[dict[str, object], bool]:
    """Return what stands in the end, when the first process has that life; and whether it was killed."""
    made.start_anew()
    if operation.before is not None:
        await carry_out(made, operation.before)
    killed = False
    try:
        await carry_out(made, operation.wanted, life)
    except KilledError:
        killed = True
        await carry_out(made, operation.wanted)
    return made.shown(), killed


@pytest.mark.parametrize(("class_name", "what"), CASES, ids=[f"{name}: {what}" for name, what in CASES])
async def test_process_killed_at_any_call_comes_to_the_same(class_name: str, what: str) -> None:
    """Whoever follows finds what was made, makes the rest, and touches nothing else."""
    prefixes, external = CLASSES[class_name]
    operation = operations(prefixes, external=external)[what]
    with project() as made:
        wanted, _ = await crash(made, operation, Mortal())
        for answered in (False, True):
            for at in range(1, MOST_CALLS):
                found, killed = await crash(made, operation, Mortal(at=at, answered=answered))
                assert found == wanted, (at, answered)
                if not killed:
                    break
            else:
                raise AssertionError("it never comes to an end")

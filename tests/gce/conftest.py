"""
How does a test here reach Compute Engine? An emulator, behind a judge that knows Google's description of the API.

Everything that passes is judged, both ways; a fault of either fails the test that it happens in.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from persistip.testing import ManualClock
from persistip.testing.compute_engine import (
    EXAMPLE,
    ComputeEngine,
    ComputeServer,
    DataPlane,
    Reply,
    Request,
    seed,
)

if TYPE_CHECKING:
    from compute_clients import Clients
    from compute_judge import Judge


@pytest.fixture(autouse=True)
def judged_within(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Judge | None]":
    """
    Judge also what no proxy sees: every request that any emulator of this process answers, and what it says.

    A test that sends what no client would marks itself ``unjudged``, with the reason.
    """
    try:
        from compute_judge import Judge  # noqa: PLC0415
    except ModuleNotFoundError:
        # Nothing here runs without it.
        yield None
        return
    judge, answer = Judge(), ComputeEngine.answer

    def judged_answer(self: ComputeEngine, asked: Request) -> Reply:
        method = judge.request(asked.http, asked.target, asked.body)
        reply = answer(self, asked)
        if method is not None and not reply.lost:
            judge.answer(method, reply.status, reply.content_type, reply.body)
        return reply

    monkeypatch.setattr(ComputeEngine, "answer", judged_answer)
    yield judge
    if request.node.get_closest_marker("unjudged") is None:
        assert judge.faults == []


@pytest.fixture
def engine() -> ComputeEngine:
    """Return an emulator with three nodes, an address of each scheme and a prefix of one's own, in virtual time."""
    made = ComputeEngine(clock=ManualClock(), latency="assumed")
    seed(made, EXAMPLE)
    return made


@pytest.fixture
def plane(engine: ComputeEngine) -> DataPlane:
    """Return where packets go."""
    return DataPlane(engine.state, engine.clock)


@pytest.fixture
def judged(engine: ComputeEngine) -> "Iterator[tuple[str, Judge]]":
    """Return the endpoint that clients call, and the judge that sees it all; its faults are the test's."""
    from compute_judge import JudgingProxy  # noqa: PLC0415

    assert isinstance(engine.clock, ManualClock)
    with ComputeServer(engine, pause=engine.clock.advance) as server, JudgingProxy(server.endpoint) as proxy:
        yield proxy.endpoint, proxy.judge
    assert proxy.judge.faults == []
    assert engine.misuses == []


@pytest.fixture
def clients(judged: "tuple[str, Judge]") -> "Iterator[Clients]":
    """Return google-cloud-compute's clients."""
    from compute_clients import Clients  # noqa: PLC0415

    made = Clients(judged[0])
    yield made
    made.close()

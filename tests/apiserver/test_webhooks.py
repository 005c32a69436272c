"""
What does persistip do about an admission webhook of others that refuses its writes, or does not answer?

Whole controllers and agents on a real API server, as in test_reliability: after every test nothing is left over, and
nobody writes any more.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from programs import until
from webhooks import Answers, Webhook, webhook
from whole_system import AGENT, ATTACHMENTS, CONTROLLER, MERGE, USERS, System, Tenancy, address, turn_over

from persistip.model.keys import attachment_name

pytestmark = pytest.mark.requires("apiserver")

PATIENCE_SECONDS = 90
"""What is refused again and again is tried every thirty seconds."""
SAID = {Answers.NO: "not on a Friday", Answers.NOTHING: "failed calling webhook"}


@contextmanager
def judged(system: System, resource: str, name: str, answers: Answers) -> Iterator[Webhook]:
    """Have a webhook judge updates of one attachment, or of its status, from here to the end of the block."""
    path = f"{ATTACHMENTS}/{name}{resource.removeprefix('addressattachments')}?dryRun=All"
    mark = {"metadata": {"annotations": {"example.com/mark": "x"}}}

    def answer() -> int:
        return system.plane.request("PATCH", path, mark, content_type=MERGE).status

    with webhook(system.plane, resource, name, answers) as found:
        until(lambda: answer() != 200, "the webhook to be asked")
        yield found
    until(lambda: answer() == 200, "the webhook to be asked no longer")


@pytest.mark.parametrize("answers", Answers)
def test_move_that_a_webhook_stops_is_told_and_made_once_it_is_let_through(
    system: System, tenancy: Tenancy, answers: Answers
) -> None:
    """The present holder keeps the addresses, the log says what stops the move, others move, and so does this then."""
    stuck, free = tenancy.pairs(2)
    name = attachment_name(tenancy.name, stuck)
    before = system.delivering()[address(0)]
    leading = until(system.leading, "a leader that runs")
    with judged(system, "addressattachments", name, answers) as judge:
        for route in (stuck, free):
            turn_over(tenancy, route, 0)
        system.settle(lambda: tenancy.is_held(free, f"{free}-1", address(1)), "the other's move")
        system.settle(lambda: told(leading.log.read_text(), f"{tenancy.name}/{stuck}", answers), "the log to tell")
        assert USERS[CONTROLLER] in judge.asked
        assert system.attachment(tenancy.name, stuck)["spec"]["pod"]["name"] == f"{stuck}-0"
        assert system.delivering()[address(0)] == before
    system.settle(lambda: tenancy.is_held(stuck, f"{stuck}-1", address(0)), "the stopped move", PATIENCE_SECONDS)


@pytest.mark.parametrize("answers", Answers)
def test_report_that_a_webhook_stops_leaves_the_route_unready_until_it_is_let_through(
    system: System, tenancy: Tenancy, answers: Answers
) -> None:
    """The new node delivers all the same, the condition says whose word is missing, the agent's log says why."""
    stuck, free = tenancy.pairs(2)
    name = attachment_name(tenancy.name, stuck)
    with judged(system, "addressattachments/status", name, answers) as judge:
        for route in (stuck, free):
            turn_over(tenancy, route, 0)
        system.settle(lambda: tenancy.is_held(free, f"{free}-1", address(1)), "the other's move")
        node = system.attachment(tenancy.name, stuck)["spec"]["nodeName"]
        system.settle(lambda: node in system.delivering()[address(0)], "the new node to deliver")
        system.settle(lambda: told(system.agents[node].log.read_text(), name, answers), "the log to tell")
        system.settle(lambda: tenancy.reasons(stuck).get("Ready") == "Programming", "the condition to tell")
        (said,) = [
            each["message"] for each in system.find(f"{tenancy.routes}/{stuck}")["status"]["conditions"]
            if each["type"] == "Ready"
        ]  # fmt: skip
        assert f"on Node {node}: waiting for the node's confirmation" in said
        assert USERS[AGENT] in judge.asked
    system.settle(lambda: tenancy.is_held(stuck, f"{stuck}-1", address(0)), "the node's word", PATIENCE_SECONDS)


def told(log: str, subject: str, answers: Answers) -> bool:
    """Whether a line of *log* says of *subject* what stopped the write."""
    return any(subject in line and SAID[answers] in line for line in log.splitlines())

"""
The rules as examples: what each ``<case>.in.yaml`` comes to once everything has settled.

A case is a user's manifests, read as the CLI reads them, beside those of ``base.yaml`` (an object of the case replaces
the one of the base that has its name). Nodes and agents do at once what they are asked for, unless the case says
``# agents: none``; with ``# unseen: KIND`` the base's objects of that kind are not there.
What is named by ``# unreadable: KIND NAME`` exists and could not be decoded; ``# cloud: {...}`` is what a
cloud holds for each route, whatever is done. ``<case>.out.yaml``
holds the statuses and attachments that stand in the end; instants are left out and epochs are numbered in their order.
With ``# shown too: choices`` it also holds which Pod each route would choose and why, which no status says of
what is judged and not acted on; with ``# shown too: events`` the Events that were sent on the way.
``PERSISTIP_REFRESH_GOLDEN=1 pytest tests/golden`` writes them anew: read the difference before you commit it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from world import T0

from persistip.model.attachment import AddressAttachment
from persistip.model.cloud import CloudState
from persistip.model.conditions import ConditionType, Reason, Status
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.meanings import MEANINGS
from persistip.model.route import GKEIPRoute
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.strategies import ClusterObject
from persistip.wire import from_model
from persistip.wire.files import read_files

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.in.yaml"))
INSTANTS = frozenset({"lastTransitionTime", "at", "since", "until", "creationTimestamp", "deletionTimestamp"})
EPOCHS = frozenset({"epoch", "released"})
EVENTS_ONLY = frozenset({Reason.MOVED, Reason.CONFLICT_WON})
# Every reason that the rules give a route's conditions, in their words, whether or not there is code for it.
RULED = frozenset(
    re.findall(
        r"\w+",
        """
    InvalidSelector MissingParent NoMatchingParent ParentNotAccepted NotAllowedByListeners UnsupportedAddress
    AddressNotInPool AddressConflict UnknownNetwork PendingNetwork UnsupportedNetwork UnsupportedValue TooManyNodes
    Accepted NotRequired NoEligiblePod NotAccepted Programmed Programming AwaitingPodIP AwaitingRelease PodIPConflict
    PodLinkNotFound ProgrammingFailed AgentNotReady Ready
    Provisioned Provisioning AddressNotUsable QuotaExceeded PermissionDenied CloudError CNISourceCheck
    """,
    )
)


def objects_of(case: Path) -> Iterator[ClusterObject]:
    """The objects of a case and of the base, in the order of the files, with UIDs and ages where they say none."""
    base, own = read_files([HERE / "base.yaml"], namespace="tenant"), read_files([case], namespace="tenant")
    assert not base.faults
    assert not own.faults, [str(fault) for fault in own.faults]
    given = (*(each for each in base.objects if f"# unseen: {each.kind}\n" not in case.read_text()), *own.objects)
    lost = unreadable_of(case)
    found = {each.model.key: each.model for each in given if each.model is not None and each.model.key not in lost}
    for key, each in found.items():
        meta = each.meta
        named = attrs.evolve(
            meta,
            uid=meta.uid or f"{key.kind}-{meta.name}".lower(),
            created_at=meta.created_at or T0 - 100,
            generation=meta.generation or 1,
        )
        yield attrs.evolve(each, meta=named)


def unreadable_of(case: Path) -> dict[ObjectKey, str]:
    """What exists and could not be decoded, and why."""
    named = re.findall(r"^# unreadable: (\w+) (?:(\S+)/)?(\S+)$", case.read_text(), flags=re.MULTILINE)
    return {ObjectKey(Kind(kind), namespace, name): "is no object" for kind, namespace, name in named}


def settled(case: Path) -> str:
    """What stands in the end, as YAML."""
    with_nodes = "# agents: none" not in case.read_text()
    said = re.search(r"^# cloud: (.+)$", case.read_text(), flags=re.MULTILINE)
    at_rest = Rehearsal(
        objects_of(case),
        now=T0,
        unreadable=unreadable_of(case),
        with_nodes=with_nodes,
        cloud=CloudState(**yaml.safe_load(said[1])) if said else None,
    ).settle()
    shown = [
        from_model(each)
        for each in at_rest.objects.values()
        if isinstance(each, GatewayClass | Gateway | GKEIPRoute | AddressAttachment)
    ]
    shown += told_too(case, at_rest)
    epochs = sorted({value for each in shown for value in epochs_in(each)} - {0})
    names = {value: f"E{number}" for number, value in enumerate(epochs, start=1)} | {0: 0}
    documents = [shorten(each, names) for each in shown]
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=110)


def told_too(case: Path, at_rest: Settled) -> Iterator[dict[str, Any]]:
    """What a case asks to be shown beside the objects, as documents of their own."""
    asked = re.search(r"^# shown too: (.+)$", case.read_text(), flags=re.MULTILINE)
    names = asked[1].split() if asked else []
    if "choices" in names:
        for key, plan in at_rest.plans.items():
            chosen, refused = plan.choice.pod, dict(plan.choice.refused)
            meta = {"namespace": key.namespace, "name": key.name}
            status = {"pod": chosen.meta.name if chosen else None, "rule": plan.choice.rule, "refused": refused}
            yield {"kind": "Choice", "metadata": meta, "status": status}
    if "events" in names:
        for event in at_rest.events:
            meta = {"namespace": event.regarding.namespace, "name": event.regarding.name}
            status = {"type": "Warning" if event.warning else "Normal", "reason": str(event.reason)}
            yield {"kind": "Event", "metadata": meta, "status": {**status, "message": event.message}}


def epochs_in(value: Any) -> Iterator[int]:
    """Every epoch that an object shows."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in EPOCHS:
                yield each
            else:
                yield from epochs_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from epochs_in(each)


def shorten(shown: dict[str, Any], epochs: dict[int, object]) -> dict[str, Any]:
    """Kind, name and what we write: finalizers too, and of an attachment the labels."""
    meta, is_ours = shown["metadata"], shown["kind"] == "AddressAttachment"
    names = ("namespace", "name", *(("labels",) if is_ours else ()), "finalizers")
    short = {"kind": shown["kind"], "metadata": {name: meta[name] for name in names if name in meta}}
    if is_ours:
        short["spec"] = shown["spec"]
    short["status"] = shown.get("status")
    return normalised(short, epochs)


def normalised(value: Any, epochs: dict[int, object]) -> Any:
    """The same without instants, and with epochs by their order."""
    if isinstance(value, dict):
        return {
            key: epochs[each] if key in EPOCHS else normalised(each, epochs)
            for key, each in value.items()
            if key not in INSTANTS
        }
    return [normalised(each, epochs) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".in.yaml"))
def test_case_comes_to_what_its_file_says(case: Path) -> None:
    """The statuses and attachments of each example are those on file."""
    expected = case.with_name(case.name.replace(".in.", ".out."))
    text = settled(case)
    if os.environ.get("PERSISTIP_REFRESH_GOLDEN"):
        expected.write_text(text)
    assert text == expected.read_text()


def test_every_case_says_why_it_exists() -> None:
    """A case begins with a comment, has its result on file, and no result is without its case."""
    assert [case.name for case in CASES if not case.read_text().startswith("# ")] == []
    results = {path.name.replace(".out.", ".in.") for path in HERE.glob("*.out.yaml")}
    assert results == {case.name for case in CASES}


def test_every_reason_is_shown_by_a_case() -> None:
    """No reason of a condition is without an example."""
    shown = "\n".join(path.read_text() for path in HERE.glob("*.out.yaml"))
    missing = [reason for reason in Reason if f"reason: {reason}\n" not in shown]
    assert set(missing) <= EVENTS_ONLY, missing


def test_every_reason_of_the_rules_is_shown_on_a_route() -> None:
    """Each reason that a route may have by the rules has an example."""
    shown = {
        each["reason"]
        for path in HERE.glob("*.out.yaml")
        for kind, conditions in conditions_in(path)
        for each in conditions
        if kind == Kind.ROUTE
    }
    assert shown - RULED == {Reason.UNSUPPORTED}, "a reason that no rule has, but for what this version does not act on"
    assert RULED - shown == set()


def test_every_condition_of_a_case_has_a_meaning() -> None:
    """Whatever status is written, the reference says what it means; a route's Ready repeats another condition."""
    known = {(each.subject, each.type, each.status, each.reason) for each in MEANINGS}
    known |= {
        (subject, ConditionType.READY, Status.FALSE, reason)
        for subject, _, status, reason in known
        if status not in (None, Status.TRUE)
    }
    unknown = said_by_cases() - known
    assert unknown == set()


def test_every_meaning_of_a_condition_is_shown_by_a_case() -> None:
    """Whatever the reference says of a type, a status and a reason together has an example."""
    meant = {(each.subject, each.type, each.status, each.reason) for each in MEANINGS if each.status is not None}
    assert meant - said_by_cases() == set()


def said_by_cases() -> set[tuple[str, str, str, str]]:
    """Return subject, type, status and reason of every condition of a result."""
    return {
        (kind, each["type"], each["status"], each["reason"])
        for path in HERE.glob("*.out.yaml")
        for kind, conditions in conditions_in(path)
        for each in conditions
    }


def conditions_in(path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Every list of conditions of a result, with the kind of what it speaks of; those of others have a domain."""
    for shown in yaml.safe_load_all(path.read_text()):
        status = shown["status"] or {}
        yield shown["kind"], [each for each in status.get("conditions", []) if "/" not in each["type"]]
        for listener in status.get("listeners", []):
            yield "Listener", listener["conditions"]

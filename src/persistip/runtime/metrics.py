"""
What is measured, and where does the runtime say it?

In: nothing.  Out: every metric there is, as a value, and ``Telemetry``, to which their values are told. No library is
needed for either: whoever runs the process decides what becomes of them (``persistip.backends.prometheus``), and by
default nothing does.

The rules: names and units are Prometheus' own; a label has few values, all known here. The name of a route, a Pod or a
Node is never one, since then whoever can create objects could fill the memory of whoever counts them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import attrs

from persistip.decide.cause import Cause
from persistip.model.actions import OutcomeState
from persistip.model.keys import Kind

OTHER = "Other"
"""What stands for a value of a label that is not known."""

_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONGER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Process(StrEnum):
    """Which process measures it."""

    BOTH = "both"
    CONTROLLER = "controller"
    AGENT = "agent"


class Result(StrEnum):
    """How a pass went."""

    QUIET = "quiet"
    DONE = "done"
    FAILED = "failed"
    FAULT = "fault"


@attrs.frozen
class Label:
    """A label with all its values."""

    name: str
    values: tuple[str, ...]


@attrs.frozen
class Metric:
    """One metric; ``means`` is a sentence for its reader, units are the last part of ``name``."""

    name: str
    means: str
    process: Process
    labels: tuple[Label, ...] = ()


@attrs.frozen
class Counter(Metric):
    """Only ever rises; its name ends with ``_total``."""


@attrs.frozen
class Gauge(Metric):
    """How it stands now."""


@attrs.frozen
class Histogram(Metric):
    """How often a value was at most each of ``buckets``, with sum and count."""

    buckets: tuple[float, ...] = _MOMENTS


class Telemetry(Protocol):
    """Where the runtime tells its values; labels in the order of the metric's. Must be quick, and must not raise."""

    def count(self, metric: Counter, *labels: str, by: int = 1) -> None:
        """As many more."""
        ...

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """This is how it stands."""
        ...

    def observe(self, metric: Histogram, value: float, *labels: str) -> None:
        """One more value."""
        ...


class Silence:
    """A ``Telemetry`` that keeps nothing."""

    def count(self, metric: Counter, *labels: str, by: int = 1) -> None:
        """Ignored."""

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """Ignored."""

    def observe(self, metric: Histogram, value: float, *labels: str) -> None:
        """Ignored."""


_STALE = "stale"
_ACTIONS = (
    "CreateAttachment",
    "ReplaceAttachment",
    "DeleteAttachment",
    "ReportRoute",
    "ReportGateway",
    "ReportClass",
    "SetFinalizers",
    "RecordEvent",
    "ReportNode",
    "ConfirmNodeGone",
)
_OUTCOME = Label("outcome", (*OutcomeState, _STALE))
_PLANNED = Label("kind", (Kind.ROUTE, Kind.GATEWAY, Kind.GATEWAY_CLASS))
_RESULT = Label("result", tuple(Result))
_AGENT_RESULT = Label("result", (Result.DONE, Result.FAILED, Result.FAULT))
_SOURCE = Label("source", ("cluster", "datapath"))
_KIND = Label("kind", tuple(Kind))
_CAUSE = Label("cause", tuple(Cause))

# ---------------------------------------------------------------- both processes
CLUSTER_SYNCED = Gauge(
    "persistip_cluster_synced",
    "1 while everything this process needs of the cluster is known and followed; 0 before the first complete lists and "
    "from a break of the watch until the complete lists that follow it.",
    Process.BOTH,
)
SOURCE_GAPS = Counter(
    "persistip_source_gaps_total",
    "Breaks of a source of changes, after each of which it was opened anew.",
    Process.BOTH,
    (_SOURCE,),
)
RELISTS = Counter(
    "persistip_relists_total",
    "Complete lists of a kind that were taken in, the first included.",
    Process.BOTH,
    (_KIND,),
)
UNREADABLE = Counter(
    "persistip_unreadable_objects_total",
    "Objects delivered that could not be read; each is named in the log.",
    Process.BOTH,
    (_KIND,),
)
UNREAD = Gauge(
    "persistip_unread_objects",
    "Objects that are there and cannot be read at present.",
    Process.BOTH,
    (_KIND,),
)
API_ACTIONS = Counter(
    "persistip_api_actions_total",
    "Writes to the API by kind and outcome; `stale`: the object had changed meanwhile, which is no fault. "
    "`ConfirmNodeGone` alone is a read.",
    Process.BOTH,
    (Label("action", _ACTIONS), _OUTCOME),
)

# ---------------------------------------------------------------- controller
LEADING = Gauge("persistip_leading", "1 while this replica acts, 0 while it stands by.", Process.CONTROLLER)
LEADER_CHANGES = Counter(
    "persistip_leadership_changes_total",
    "How often this replica began or ceased to lead.",
    Process.CONTROLLER,
    (Label("change", ("gained", "lost")),),
)
QUEUE_DEPTH = Gauge("persistip_queue_depth", "Objects that wait for their pass.", Process.CONTROLLER)
QUEUE_WAIT = Histogram(
    "persistip_queue_wait_seconds",
    "How long an object waited for its pass once it was due.",
    Process.CONTROLLER,
)
QUEUE_RETRIES = Counter(
    "persistip_queue_retries_total",
    "Passes that failed and were put off to be tried again.",
    Process.CONTROLLER,
    (_PLANNED,),
)
HELD_BACK = Counter(
    "persistip_held_back_total",
    "How often an object that was written again and again was made to wait; another writer may be undoing ours.",
    Process.CONTROLLER,
    (_PLANNED,),
)
PASSES = Counter(
    "persistip_passes_total",
    "Passes over one object: `quiet` found nothing to do, `fault` met a bug of ours.",
    Process.CONTROLLER,
    (_PLANNED, _RESULT),
)
PASS_SECONDS = Histogram(
    "persistip_pass_seconds",
    "How long a pass over one object took, its writes included.",
    Process.CONTROLLER,
    (_PLANNED,),
)
MOVES_UNDER_WAY = Gauge(
    "persistip_moves_under_way",
    "Routes whose addresses are on their way to another Pod, or wait for one.",
    Process.CONTROLLER,
)
OLDEST_OUTAGE = Gauge(
    "persistip_oldest_outage_timestamp_seconds",
    "Since when the route that has been longest without its addresses has been so, in seconds since the epoch; 0: none "
    "is, but for former holders that go on delivering.",
    Process.CONTROLLER,
)
MOVE_SECONDS = Histogram(
    "persistip_move_seconds",
    "Each move of a route's addresses: from when the former holder lost them by the rules until the controller saw the "
    "new holder's node confirm.",
    Process.CONTROLLER,
    (_CAUSE,),
    _LONGER,
)
MOVE_OUTAGE = Histogram(
    "persistip_move_outage_seconds",
    "The part of each move during which no Pod that could use the addresses had them; 0 where the former holder went "
    "on until the new one had them.",
    Process.CONTROLLER,
    (_CAUSE,),
    _LONGER,
)

# ---------------------------------------------------------------- agent
AGENT_PASSES = Counter(
    "persistip_agent_passes_total",
    "Passes over the node: `failed` left something undone or could not look at the kernel, `fault` met a bug of ours.",
    Process.AGENT,
    (_AGENT_RESULT,),
)
AGENT_PASS_SECONDS = Histogram("persistip_agent_pass_seconds", "How long a pass over the node took.", Process.AGENT)
AGENT_LOOK_SECONDS = Histogram(
    "persistip_agent_look_seconds", "How long each complete look at the kernel took.", Process.AGENT
)
AGENT_ACTIONS = Counter(
    "persistip_agent_actions_total",
    "Changes of the kernel and of the record of pins, by kind and outcome.",
    Process.AGENT,
    (Label("action", ("PutEntry", "RemoveEntry", "RecordPin", "ForgetPin")), _OUTCOME),
)
AGENT_ENTRIES = Gauge(
    "persistip_agent_entries",
    "Entries of ours in the kernel at the last look: `programmed` are whole, `stale` are shadowed or half there.",
    Process.AGENT,
    (Label("state", ("programmed", "stale")),),
)
AGENT_UNFINISHED = Gauge(
    "persistip_agent_unfinished_actions",
    "What the last pass wanted of the kernel and did not achieve.",
    Process.AGENT,
)
AGENT_OBSTACLES = Gauge(
    "persistip_agent_foreign_obstacles",
    "Foreign routes, rules or addresses at the last look that keep an address from being delivered; they are reported, "
    "never removed.",
    Process.AGENT,
)
AGENT_ATTACHMENTS = Gauge(
    "persistip_agent_attachments",
    "AddressAttachments that concern this node; `held`: it is the holder's.",
    Process.AGENT,
    (Label("role", ("held", "other")),),
)
AGENT_ANNOUNCEMENTS = Counter(
    "persistip_agent_announcements_total",
    "Announcements of an address on a link that were sent for the first time; their repetitions are not counted.",
    Process.AGENT,
)
AGENT_ANNOUNCEMENT_FAILURES = Counter(
    "persistip_agent_announcement_failures_total",
    "Announcements that the announcer could not send when it was asked to.",
    Process.AGENT,
)
AGENT_ANNOUNCING = Gauge(
    "persistip_agent_announcing",
    "Addresses, counted once for each link, for which this node speaks to its neighbours.",
    Process.AGENT,
)
AGENT_PROGRAM_SECONDS = Histogram(
    "persistip_agent_program_seconds",
    "From when the agent saw that its node is to hold addresses until it had read them back from the kernel.",
    Process.AGENT,
)

METRICS: tuple[Metric, ...] = tuple(each for each in list(vars().values()) if isinstance(each, Metric))
"""All of them, in this order."""


def outcome_label(state: str, *, is_stale: bool) -> str:
    """How an outcome is counted: losing a race is a word of its own."""
    return _STALE if is_stale else state

"""
Which conditions and reasons exist, and how is a condition merged into what stands?

Every reason that a status, an Event, a log line or a metric may carry is here, so that they share one vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from operator import attrgetter

import attrs


class ConditionType(StrEnum):
    """Condition types of GKEIPRoute, Gateway, Listener and GatewayClass."""

    ACCEPTED = "Accepted"
    GCP_READY = "GCPReady"
    DPV2_READY = "DPV2Ready"
    READY = "Ready"
    PROGRAMMED = "Programmed"
    RESOLVED_REFS = "ResolvedRefs"
    CONFLICTED = "Conflicted"
    SUPPORTED_VERSION = "SupportedVersion"


class Status(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """
    Reasons, grouped by what they speak of.

    Acceptance stands in SPEC's order: the first fault in this order gives a route its reason.
    """

    # acceptance of a route
    INVALID_SELECTOR = "InvalidSelector"
    MISSING_PARENT = "MissingParent"
    NO_MATCHING_PARENT = "NoMatchingParent"
    PARENT_NOT_ACCEPTED = "ParentNotAccepted"
    NOT_ALLOWED_BY_LISTENERS = "NotAllowedByListeners"
    UNSUPPORTED_ADDRESS = "UnsupportedAddress"
    ADDRESS_NOT_IN_POOL = "AddressNotInPool"
    ADDRESS_CONFLICT = "AddressConflict"
    UNKNOWN_NETWORK = "UnknownNetwork"
    PENDING_NETWORK = "PendingNetwork"
    UNSUPPORTED_NETWORK = "UnsupportedNetwork"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    TOO_MANY_NODES = "TooManyNodes"
    ACCEPTED = "Accepted"
    # the cloud
    PROVISIONED = "Provisioned"
    NOT_REQUIRED = "NotRequired"
    PROVISIONING = "Provisioning"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PERMISSION_DENIED = "PermissionDenied"
    CLOUD_ERROR = "CloudError"
    NOT_ACCEPTED = "NotAccepted"
    # the choice of Pod
    NO_ELIGIBLE_POD = "NoEligiblePod"
    AWAITING_POD_IP = "AwaitingPodIP"
    POD_IP_CONFLICT = "PodIPConflict"
    # the node
    PROGRAMMED = "Programmed"
    PROGRAMMING = "Programming"
    AWAITING_RELEASE = "AwaitingRelease"
    POD_LINK_NOT_FOUND = "PodLinkNotFound"
    PROGRAMMING_FAILED = "ProgrammingFailed"
    CNI_SOURCE_CHECK = "CNISourceCheck"
    AGENT_NOT_READY = "AgentNotReady"
    # the whole
    READY = "Ready"
    # Gateways, listeners and classes (Gateway API's words)
    INVALID = "Invalid"
    INVALID_PARAMETERS = "InvalidParameters"
    LISTENERS_NOT_VALID = "ListenersNotValid"
    ADDRESS_NOT_USABLE = "AddressNotUsable"
    UNSUPPORTED = "Unsupported"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    RESOLVED_REFS = "ResolvedRefs"
    INVALID_ROUTE_KINDS = "InvalidRouteKinds"
    NO_CONFLICTS = "NoConflicts"
    NAME_CONFLICT = "NameConflict"
    SUPPORTED_VERSION = "SupportedVersion"
    UNSUPPORTED_VERSION = "UnsupportedVersion"
    PENDING = "Pending"
    # what Events say
    MOVED = "Moved"
    CONFLICT_WON = "ConflictWon"


ACCEPTANCE_ORDER = tuple(Reason)[: tuple(Reason).index(Reason.ACCEPTED)]


@attrs.frozen(kw_only=True)
class Condition:
    """``metav1.Condition``; ``last_transition_at`` in whole seconds since the epoch."""

    type: str
    status: str
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_at: float = 0.0


MAX_MESSAGE = 32_768
"""Characters of a condition's message that the API takes; a longer one is cut."""


def _cut(condition: Condition) -> Condition:
    return attrs.evolve(condition, message=condition.message[: MAX_MESSAGE - 1] + "…")


def merge_conditions(present: Iterable[Condition], wanted: Iterable[Condition], now: float) -> tuple[Condition, ...]:
    """
    Lay *wanted* over *present*, by type.

    Gateway API's rules: conditions of others stay, one with a newer generation is never overwritten, and the
    transition time changes only when the status does. A message is cut to what the API takes: with it the whole status
    would be refused, again and again.
    """
    merged = {condition.type: condition for condition in present}
    for each in wanted:
        condition = each if len(each.message) <= MAX_MESSAGE else _cut(each)
        old = merged.get(condition.type)
        if old is not None and old.observed_generation > condition.observed_generation:
            continue
        if old is not None and _words(old) == _words(condition):
            continue
        is_same = old is not None and old.status == condition.status
        since = old.last_transition_at if old is not None and is_same else float(int(now))
        merged[condition.type] = Condition(
            type=condition.type,
            status=condition.status,
            reason=condition.reason,
            message=condition.message,
            observed_generation=condition.observed_generation,
            last_transition_at=since,
        )
    return tuple(merged.values())


_words = attrgetter(*(each.name for each in attrs.fields(Condition) if each.name != "last_transition_at"))
"""All that a condition says, but for since when."""


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type, or None."""
    for condition in conditions:  # a plain loop: this is asked many times in each decision
        if condition.type == type_:
            return condition
    return None

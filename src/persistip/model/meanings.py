"""
What does each condition mean, and what should its reader do?

In: nothing.  Out: one Meaning for every condition that can be written, and for every Event. The page
``docs/reference/conditions.md`` is made of it, and the golden cases are held against it: a condition that is not here
cannot be written without a test saying so.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.model.conditions import ConditionType, Reason, Status


class Subject(StrEnum):
    """What a condition or an Event speaks of."""

    GATEWAY_CLASS = "GatewayClass"
    GATEWAY = "Gateway"
    LISTENER = "Listener"
    ROUTE = "GKEIPRoute"
    ATTACHMENT = "AddressAttachment"


@attrs.frozen
class Meaning:
    """One condition (or Event, where ``type`` is None): what it says, and what to do; empty: nothing."""

    subject: Subject
    type: ConditionType | None
    status: Status | None
    reason: Reason
    means: str
    advice: str = ""


def _accepted(reason: Reason, means: str, advice: str) -> Meaning:
    return Meaning(Subject.ROUTE, ConditionType.ACCEPTED, Status.FALSE, reason, means, advice)


def _cloud(reason: Reason, means: str, advice: str) -> Meaning:
    return Meaning(Subject.ROUTE, ConditionType.GCP_READY, Status.FALSE, reason, means, advice)


def _waits(reason: Reason, means: str, advice: str) -> Meaning:
    return Meaning(Subject.ROUTE, ConditionType.DPV2_READY, Status.FALSE, reason, means, advice)


def _gateway(type_: ConditionType, status: Status, reason: Reason, means: str, advice: str = "") -> Meaning:
    return Meaning(Subject.GATEWAY, type_, status, reason, means, advice)


def _listener(type_: ConditionType, status: Status, reason: Reason, means: str, advice: str = "") -> Meaning:
    return Meaning(Subject.LISTENER, type_, status, reason, means, advice)


def _class(status: Status, reason: Reason, means: str, advice: str = "") -> Meaning:
    return Meaning(Subject.GATEWAY_CLASS, ConditionType.ACCEPTED, status, reason, means, advice)


def _version(status: Status, reason: Reason, means: str, advice: str = "") -> Meaning:
    return Meaning(Subject.GATEWAY_CLASS, ConditionType.SUPPORTED_VERSION, status, reason, means, advice)


def _event(reason: Reason, means: str) -> Meaning:
    return Meaning(Subject.ROUTE, None, None, reason, means)


_ROUTE_ACCEPTED = (
    _accepted(
        Reason.INVALID_SELECTOR,
        "A selector is none that Kubernetes would take, or `spec.podSelector` is empty.",
        "Mend the selector that the message names. An empty one would match every Pod; name a label.",
    ),
    _accepted(Reason.MISSING_PARENT, "`spec.parentRefs` is empty.", "Name the Gateway whose addresses you claim."),
    _accepted(
        Reason.NO_MATCHING_PARENT,
        "A parent is no Gateway that exists, or the Gateway has no listener of that `sectionName` or `port`.",
        "Correct the name or the namespace, or create the Gateway.",
    ),
    _accepted(
        Reason.PARENT_NOT_ACCEPTED,
        "The Gateway exists and is not accepted itself.",
        "Look at the Gateway's condition `Accepted`; its owner has to act.",
    ),
    _accepted(
        Reason.NOT_ALLOWED_BY_LISTENERS,
        "No listener of the Gateway admits routes of this namespace.",
        "Ask the Gateway's owner to admit the namespace. The message says what each listener asks for.",
    ),
    _accepted(
        Reason.UNSUPPORTED_ADDRESS,
        "An address cannot be read, has host bits set, is of a type that needs a cloud, or is one that nobody may use: "
        "loopback, link-local, multicast, a node's IP, a Pod or Service range.",
        "Correct the value that the message names.",
    ),
    _accepted(
        Reason.ADDRESS_NOT_IN_POOL,
        "An address is not among the usable ones of the route's Gateways, or is another Gateway's that lists it too.",
        "Claim one of those that the message lists, or name the Gateway that has it.",
    ),
    _accepted(
        Reason.ADDRESS_CONFLICT,
        "Another route, or a Service, has an overlapping address. What this route holds already stays.",
        "Take the address from one of the two; the message names the other. When that one goes, this route is accepted "
        "without an edit.",
    ),
    _accepted(
        Reason.UNKNOWN_NETWORK,
        "`spec.network` names no Network that exists.",
        "Create the Network, or leave the field out for the default network.",
    ),
    _accepted(
        Reason.PENDING_NETWORK,
        "The Network exists and is not Ready. What is attached stays.",
        "Wait, or mend what the message says of the Network and its parameters.",
    ),
    _accepted(
        Reason.UNSUPPORTED_NETWORK,
        "The Network is of a type on which addresses cannot be attached.",
        "Use one of type L3 or Device.",
    ),
    _accepted(
        Reason.UNSUPPORTED_VALUE,
        "A field, an annotation, a count or a combination is not allowed with the class, or is missing for it.",
        "Mend each field that the message names; it says what is allowed.",
    ),
    _accepted(
        Reason.TOO_MANY_NODES,
        "`spec.nodeSelector` selects more nodes than can be prepared, counted as they are now. What is attached stays.",
        "Narrow the selector, or take its labels from nodes.",
    ),
    Meaning(
        Subject.ROUTE,
        ConditionType.ACCEPTED,
        Status.TRUE,
        Reason.ACCEPTED,
        "The route may use its addresses. The message names parents that fail beside one that works, and Services that "
        "came later.",
    ),
)

_ROUTE_CLOUD = (
    Meaning(
        Subject.ROUTE,
        ConditionType.GCP_READY,
        Status.TRUE,
        Reason.NOT_REQUIRED,
        "The cluster has no cloud in which something would have to be provisioned.",
    ),
    Meaning(
        Subject.ROUTE,
        ConditionType.GCP_READY,
        Status.TRUE,
        Reason.PROVISIONED,
        "The cloud sends the packets for the addresses to the holder's node.",
    ),
    _cloud(
        Reason.PROVISIONING,
        "The cloud does not yet send the packets to the holder's node. During a planned move the former node goes on "
        "delivering meanwhile, for two minutes at most.",
        "Wait. The message names the node to which the cloud sends them now.",
    ),
    _cloud(Reason.NOT_ACCEPTED, "The route is not accepted.", "See `Accepted`."),
    _cloud(
        Reason.UNSUPPORTED,
        "The route is in order, and this version does not act on it, so that nothing is asked of the cloud.",
        "See `DPV2Ready`.",
    ),
    _cloud(Reason.NO_ELIGIBLE_POD, "No Pod may hold the addresses.", "See `DPV2Ready`."),
    _cloud(
        Reason.ADDRESS_NOT_USABLE,
        "An address is not reserved, in another region, of the wrong scheme, or in use by something that is not ours.",
        "The message says of each why. Reserve it, or take it from its user; that is never done for you.",
    ),
    _cloud(
        Reason.QUOTA_EXCEEDED, "A quota of the project is used up.", "Ask for more, or free some; it is tried again."
    ),
    _cloud(
        Reason.PERMISSION_DENIED,
        "The controller's account in the cloud may not do what is needed.",
        "Give it the right that the message names.",
    ),
    _cloud(
        Reason.CLOUD_ERROR,
        "The cloud refused, or failed.",
        "The message is the cloud's own. It is tried again by itself.",
    ),
)

_ROUTE_DATAPATH = (
    _waits(
        Reason.NOT_ACCEPTED,
        "The route is not accepted, or nothing is attached for it yet.",
        "See `Accepted`.",
    ),
    _waits(
        Reason.UNSUPPORTED,
        "The route is in order, and this version does not act on it: its class is for fast failover or load balancing, "
        "or its network is a secondary one.",
        "Use a standard class and the default network.",
    ),
    _waits(
        Reason.NO_ELIGIBLE_POD,
        "No Pod may hold the addresses: none matches, or every one that does was refused. Nobody holds them.",
        "The message counts the Pods by why they were refused; `persistip explain` names each.",
    ),
    _waits(
        Reason.POD_IP_CONFLICT,
        "Two live Pods claim the same IP, so that nobody can say whose it is.",
        "Delete one of the two Pods that the message names.",
    ),
    _waits(
        Reason.AWAITING_POD_IP,
        "The chosen Pod has no IP of a family of the route's addresses yet. One that `persistip.dev/hold` keeps goes "
        "on holding what it has an IP for, and gets nothing new of another family.",
        "Wait for the network plugin. If it lasts, the cluster does not give Pods IPs of that family; of a Pod that is "
        "held, the message says what to do.",
    ),
    _waits(
        Reason.AWAITING_RELEASE,
        "An address is still with another attachment, or with the route's own former one; a node has to confirm first. "
        "Or an attachment cannot be read, and might hold it.",
        "Wait. If the node that the message names is dead for good, delete its Node or taint it "
        "`node.kubernetes.io/out-of-service`; that is your word that the machine is off.",
    ),
    _waits(
        Reason.PROGRAMMING,
        "The attachment is written, and the node has not confirmed it yet.",
        "Wait. If it lasts, look at the agent of the node that the message names.",
    ),
    _waits(
        Reason.POD_LINK_NOT_FOUND,
        "The node does not find the Pod behind its IP: no link leads there, nobody answers, or another link or "
        "hardware address does.",
        "Look at the Pod's network on that node. Deleting the Pod lets another take over. Where another link answers "
        "for a Pod that stays Ready, it is taken for the Pod's after a minute.",
    ),
    _waits(
        Reason.PROGRAMMING_FAILED,
        "The node's kernel did not take an entry, or something that is not ours is in its way.",
        "The message says what; remove what is in the way, or mend the node. It is tried again by itself.",
    ),
    _waits(
        Reason.CNI_SOURCE_CHECK,
        "The node's network plugin drops what the Pod sends with the address as its source.",
        "Allow foreign sources for the Pod in the plugin; the message says what to set.",
    ),
    _waits(
        Reason.UNSUPPORTED_ADDRESS,
        "The agent refuses the address: it is the node's own or its gateway's.",
        "Take the address out of the route; it is in use by the machine itself.",
    ),
    Meaning(
        Subject.ROUTE,
        ConditionType.DPV2_READY,
        Status.UNKNOWN,
        Reason.AGENT_NOT_READY,
        "The agent on the holder's node is a Pod that is not Ready. What is programmed there goes on, and the holder "
        "stays; whether it still delivers nobody can say.",
        "Look at the agent's Pod on the node that the message names.",
    ),
    Meaning(
        Subject.ROUTE,
        ConditionType.DPV2_READY,
        Status.TRUE,
        Reason.PROGRAMMED,
        "The holder's node has confirmed, after reading its kernel back.",
    ),
)

_ROUTE_READY = (
    Meaning(
        Subject.ROUTE,
        ConditionType.READY,
        Status.TRUE,
        Reason.READY,
        "The other three are True: packets for the addresses reach the Pod, and its own leave with them.",
    ),
)

_GATEWAYS = (
    _gateway(
        ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED, "Routes may attach. The message names unusable addresses."
    ),
    _gateway(
        ConditionType.ACCEPTED,
        Status.TRUE,
        Reason.LISTENERS_NOT_VALID,
        "Routes may attach through some of the listeners; others are not valid.",
        "Mend the listeners that the message names.",
    ),
    _gateway(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.LISTENERS_NOT_VALID,
        "There is no valid listener.",
        "Mend the listeners that the message names.",
    ),
    _gateway(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.UNSUPPORTED_ADDRESS,
        "None of the addresses is usable, or there is none.",
        "The message says of each why.",
    ),
    _gateway(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.INVALID_PARAMETERS,
        "The parameters of the class are at fault, or do not allow Gateways in this namespace.",
        "The cluster administrator mends the ConfigMap of the class.",
    ),
    _gateway(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.INVALID,
        "The class has our controller's name, and a name of its own that means nothing here.",
        "Use one of the class names that are listed with the class parameters.",
    ),
    _gateway(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED, "Every address is usable."),
    _gateway(
        ConditionType.PROGRAMMED,
        Status.FALSE,
        Reason.ADDRESS_NOT_USABLE,
        "Some addresses, or all of them, are not usable; the others are.",
        "The message says of each why: outside `allowedAddresses`, in use by the cluster itself, owned by another "
        "Gateway, or malformed.",
    ),
    _gateway(
        ConditionType.PROGRAMMED,
        Status.FALSE,
        Reason.UNSUPPORTED,
        "Routes of the class are judged, and this version does not act on them.",
        "Use a standard class.",
    ),
    _gateway(ConditionType.PROGRAMMED, Status.FALSE, Reason.INVALID, "The Gateway is not accepted.", "See `Accepted`."),
)

_LISTENERS = (
    _listener(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED, "The listener is valid."),
    _listener(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.UNSUPPORTED_PROTOCOL,
        "The protocol is no word that is known.",
        "Write `none`, `TCP`, `UDP` or a domain-prefixed word; it means nothing to traffic.",
    ),
    _listener(
        ConditionType.ACCEPTED,
        Status.FALSE,
        Reason.UNSUPPORTED_VALUE,
        "`allowedRoutes` cannot be used, the name is used twice, or the listener is beyond the limit.",
        "Mend the field that the message names.",
    ),
    _listener(
        ConditionType.RESOLVED_REFS, Status.TRUE, Reason.RESOLVED_REFS, "Every kind that it asks for is supported."
    ),
    _listener(
        ConditionType.RESOLVED_REFS,
        Status.FALSE,
        Reason.INVALID_ROUTE_KINDS,
        "`allowedRoutes.kinds` names kinds that are not supported. GKEIPRoute, where it is named too, goes on working.",
        "Leave the list out, or name `networking.gke.io/GKEIPRoute` alone.",
    ),
    _listener(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED, "Routes can attach through it."),
    _listener(
        ConditionType.PROGRAMMED,
        Status.FALSE,
        Reason.INVALID,
        "The listener is not valid, or the Gateway is not accepted.",
        "The message says which.",
    ),
    _listener(
        ConditionType.PROGRAMMED,
        Status.FALSE,
        Reason.UNSUPPORTED,
        "Routes of the Gateway's class are judged, and this version does not act on them.",
        "Use a standard class.",
    ),
    _listener(ConditionType.CONFLICTED, Status.FALSE, Reason.NO_CONFLICTS, "Its name is its own."),
    _listener(
        ConditionType.CONFLICTED,
        Status.TRUE,
        Reason.NAME_CONFLICT,
        "Two listeners have this name.",
        "Give each a name of its own.",
    ),
)

_CLASSES = (
    _class(
        Status.TRUE,
        Reason.ACCEPTED,
        "Gateways of the class are served; or, as the message says, judged and not acted on.",
    ),
    _class(
        Status.FALSE,
        Reason.UNSUPPORTED,
        "The class names our controller, and no behaviour belongs to its name.",
        "Give it one of the names that are listed with the class parameters.",
    ),
    _class(
        Status.FALSE,
        Reason.INVALID_PARAMETERS,
        "`spec.parametersRef` names no ConfigMap that exists, or one with a fault. Nothing in it is used.",
        "Mend each key that the message names; see class parameters.",
    ),
    _version(Status.TRUE, Reason.SUPPORTED_VERSION, "Every definition of Gateway API is of a release that is known."),
    _version(
        Status.FALSE,
        Reason.UNSUPPORTED_VERSION,
        "A definition of Gateway API says no release, or one that is not known. The class is served all the same.",
        "Install the definitions of one release of Gateway API v1, whole and with their annotations.",
    ),
    _version(
        Status.UNKNOWN,
        Reason.PENDING,
        "No definition of Gateway API can be seen, as with manifests that hold none.",
        "In a cluster, let the controller read CustomResourceDefinitions.",
    ),
)

_EVENTS = (
    _event(Reason.ACCEPTED, "The route has become accepted."),
    _event(
        Reason.MOVED, "The addresses have a holder: which, from whom, by which rule, and after how many milliseconds."
    ),
    _event(Reason.CONFLICT_WON, "Another route claims addresses of this one, and does not get them."),
    Meaning(
        Subject.ATTACHMENT,
        None,
        None,
        Reason.UNSUPPORTED,
        "Its route is gone, and it is of a mode on which this version does not act: its addresses stay taken.",
        "Upgrade the agents on the nodes that the message names.",
    ),
)

MEANINGS: tuple[Meaning, ...] = (
    *_ROUTE_ACCEPTED,
    *_ROUTE_CLOUD,
    *_ROUTE_DATAPATH,
    *_ROUTE_READY,
    *_GATEWAYS,
    *_LISTENERS,
    *_CLASSES,
    *_EVENTS,
)
"""
All of them. A route's ``Ready`` that is False repeats reason and message of the first of the other three that is not
True, and a refusal or failure is an Event with the reason of its condition; those are not listed again.
"""

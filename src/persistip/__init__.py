"""
Persistent IP addresses for Pods: the public names.

Every name is loaded when it is first asked for, so that ``import persistip`` costs nothing and loads no client library.
Public are the names below and those of ``persistip.workload``, ``persistip.testing`` and ``persistip.backends.<name>``;
everything else may change without notice.

By semantic versioning: the nouns of the model, Outcome, the errors, Controller, Agent, plan_route, plan_node,
plan_gateway, to_model, from_model, threaded, Cluster, AddressAllocator, Datapath and ReactionMode are stable; views,
plans, states, actions, settings and features may gain members and fields with defaults; Announcer, Catalog, Lease,
Election and Clock are provisional.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""Type checkers take it for true by its name; the module `typing` costs more than all the rest of this import."""

if TYPE_CHECKING:
    from persistip.agent import Agent
    from persistip.controller import Controller
    from persistip.decide.catalog import Catalog
    from persistip.decide.plan_gateway import ClassPlan, GatewayPlan, plan_gateway
    from persistip.decide.plan_node import NodePlan, plan_node
    from persistip.decide.plan_route import RoutePlan, plan_route
    from persistip.errors import (
        BackendError,
        BugError,
        ConfigError,
        OwnershipError,
        PersistIPError,
        RefusedError,
        RejectedError,
        StaleError,
        ThrottledError,
        UnavailableError,
    )
    from persistip.model.actions import (
        ClusterAction,
        ConfirmNodeGone,
        CreateAttachment,
        DatapathAction,
        DeleteAttachment,
        ForgetPin,
        Outcome,
        OutcomeState,
        PutEntry,
        RecordEvent,
        RecordPin,
        RemoveEntry,
        ReplaceAttachment,
        ReportClass,
        ReportGateway,
        ReportNode,
        ReportRoute,
        SetFinalizers,
    )
    from persistip.model.address import AddressSpec, IPAddress, Prefix
    from persistip.model.attachment import (
        AddressAttachment,
        AttachedAddress,
        AttachmentSpec,
        Damped,
        Holder,
        How,
        NodeReport,
        NodeStateName,
        Reference,
        Release,
    )
    from persistip.model.conditions import Condition, ConditionType, Reason, Status
    from persistip.model.definition import CustomResourceDefinition
    from persistip.model.entry import (
        Announcement,
        Entry,
        ExemptEntry,
        GuardEntry,
        LinkRef,
        NodeScope,
        NodeState,
        Obstacle,
        Pin,
        PodLink,
        ProxyEntry,
        RouteEntry,
    )
    from persistip.model.gateway import (
        ClassBehaviour,
        ConfigMap,
        From,
        Gateway,
        GatewayClass,
        GatewayStatus,
        Listener,
        ListenerStatus,
        Mode,
        ParametersRef,
        RouteKind,
    )
    from persistip.model.keys import Kind, ObjectKey, ObjectMeta
    from persistip.model.network import GKENetworkParamSet, Network, NetworkType
    from persistip.model.node import Namespace, Node
    from persistip.model.pod import Pod
    from persistip.model.route import GKEIPRoute, LoadBalancing, ParentRef, ReactionModeName, RouteStatus
    from persistip.model.selector import LabelSelector, Operator, Requirement
    from persistip.model.service import Service, ServiceCIDR
    from persistip.model.views import (
        ClassView,
        ClusterRanges,
        GatewayFacts,
        GatewayView,
        NetworkFacts,
        NodeView,
        ParentFacts,
        Policy,
        RouteFacts,
        RouteView,
    )
    from persistip.runtime.election import Election
    from persistip.runtime.threads import BlockingAllocator, threaded
    from persistip.settings import (
        AgentSettings,
        AnnounceSettings,
        ClusterSettings,
        ControllerSettings,
        ElectionSettings,
    )
    from persistip.strategies import (
        AddressAllocator,
        AllocatorFeatures,
        Announcer,
        Attract,
        Batch,
        Clock,
        CloudAction,
        CloudScope,
        CloudState,
        Cluster,
        ClusterObject,
        Datapath,
        Lease,
        LeaseRecord,
        ReactionMode,
        Sweep,
        Withdraw,
    )
    from persistip.wire import Unreadable, from_model, to_model

__all__ = [
    "AddressAllocator",
    "AddressAttachment",
    "AddressSpec",
    "Agent",
    "AgentSettings",
    "AllocatorFeatures",
    "AnnounceSettings",
    "Announcement",
    "Announcer",
    "AttachedAddress",
    "AttachmentSpec",
    "Attract",
    "BackendError",
    "Batch",
    "BlockingAllocator",
    "BugError",
    "Catalog",
    "ClassBehaviour",
    "ClassPlan",
    "ClassView",
    "Clock",
    "CloudAction",
    "CloudScope",
    "CloudState",
    "Cluster",
    "ClusterAction",
    "ClusterObject",
    "ClusterRanges",
    "ClusterSettings",
    "Condition",
    "ConditionType",
    "ConfigError",
    "ConfigMap",
    "ConfirmNodeGone",
    "Controller",
    "ControllerSettings",
    "CreateAttachment",
    "CustomResourceDefinition",
    "Damped",
    "Datapath",
    "DatapathAction",
    "DeleteAttachment",
    "Election",
    "ElectionSettings",
    "Entry",
    "ExemptEntry",
    "ForgetPin",
    "From",
    "GKEIPRoute",
    "GKENetworkParamSet",
    "Gateway",
    "GatewayClass",
    "GatewayFacts",
    "GatewayPlan",
    "GatewayStatus",
    "GatewayView",
    "GuardEntry",
    "Holder",
    "How",
    "IPAddress",
    "Kind",
    "LabelSelector",
    "Lease",
    "LeaseRecord",
    "LinkRef",
    "Listener",
    "ListenerStatus",
    "LoadBalancing",
    "Mode",
    "Namespace",
    "Network",
    "NetworkFacts",
    "NetworkType",
    "Node",
    "NodePlan",
    "NodeReport",
    "NodeScope",
    "NodeState",
    "NodeStateName",
    "NodeView",
    "ObjectKey",
    "ObjectMeta",
    "Obstacle",
    "Operator",
    "Outcome",
    "OutcomeState",
    "OwnershipError",
    "ParametersRef",
    "ParentFacts",
    "ParentRef",
    "PersistIPError",
    "Pin",
    "Pod",
    "PodLink",
    "Policy",
    "Prefix",
    "ProxyEntry",
    "PutEntry",
    "ReactionMode",
    "ReactionModeName",
    "Reason",
    "RecordEvent",
    "RecordPin",
    "Reference",
    "RefusedError",
    "RejectedError",
    "Release",
    "RemoveEntry",
    "ReplaceAttachment",
    "ReportClass",
    "ReportGateway",
    "ReportNode",
    "ReportRoute",
    "Requirement",
    "RouteEntry",
    "RouteFacts",
    "RouteKind",
    "RoutePlan",
    "RouteStatus",
    "RouteView",
    "Service",
    "ServiceCIDR",
    "SetFinalizers",
    "StaleError",
    "Status",
    "Sweep",
    "ThrottledError",
    "UnavailableError",
    "Unreadable",
    "Withdraw",
    "from_model",
    "plan_gateway",
    "plan_node",
    "plan_route",
    "threaded",
    "to_model",
]

_HOMES = {
    "persistip.agent": ("Agent",),
    "persistip.controller": ("Controller",),
    "persistip.decide.catalog": ("Catalog",),
    "persistip.decide.plan_gateway": ("ClassPlan", "GatewayPlan", "plan_gateway"),
    "persistip.decide.plan_node": ("NodePlan", "plan_node"),
    "persistip.decide.plan_route": ("RoutePlan", "plan_route"),
    "persistip.errors": (
        "BackendError",
        "BugError",
        "ConfigError",
        "OwnershipError",
        "PersistIPError",
        "RefusedError",
        "RejectedError",
        "StaleError",
        "ThrottledError",
        "UnavailableError",
    ),
    "persistip.model.actions": (
        "ClusterAction",
        "ConfirmNodeGone",
        "CreateAttachment",
        "DatapathAction",
        "DeleteAttachment",
        "ForgetPin",
        "Outcome",
        "OutcomeState",
        "PutEntry",
        "RecordEvent",
        "RecordPin",
        "RemoveEntry",
        "ReplaceAttachment",
        "ReportClass",
        "ReportGateway",
        "ReportNode",
        "ReportRoute",
        "SetFinalizers",
    ),
    "persistip.model.address": ("AddressSpec", "IPAddress", "Prefix"),
    "persistip.model.attachment": (
        "AddressAttachment",
        "AttachedAddress",
        "AttachmentSpec",
        "Damped",
        "Holder",
        "How",
        "NodeReport",
        "NodeStateName",
        "Reference",
        "Release",
    ),
    "persistip.model.conditions": ("Condition", "ConditionType", "Reason", "Status"),
    "persistip.model.entry": (
        "Announcement",
        "Entry",
        "ExemptEntry",
        "GuardEntry",
        "LinkRef",
        "NodeScope",
        "NodeState",
        "Obstacle",
        "Pin",
        "PodLink",
        "ProxyEntry",
        "RouteEntry",
    ),
    "persistip.model.gateway": (
        "ClassBehaviour",
        "ConfigMap",
        "From",
        "Gateway",
        "GatewayClass",
        "GatewayStatus",
        "Listener",
        "ListenerStatus",
        "Mode",
        "ParametersRef",
        "RouteKind",
    ),
    "persistip.model.keys": ("Kind", "ObjectKey", "ObjectMeta"),
    "persistip.model.network": ("GKENetworkParamSet", "Network", "NetworkType"),
    "persistip.model.node": ("Namespace", "Node"),
    "persistip.model.pod": ("Pod",),
    "persistip.model.route": ("GKEIPRoute", "LoadBalancing", "ParentRef", "ReactionModeName", "RouteStatus"),
    "persistip.model.selector": ("LabelSelector", "Operator", "Requirement"),
    "persistip.model.definition": ("CustomResourceDefinition",),
    "persistip.model.service": ("Service", "ServiceCIDR"),
    "persistip.model.views": (
        "ClassView",
        "ClusterRanges",
        "GatewayFacts",
        "GatewayView",
        "NetworkFacts",
        "NodeView",
        "ParentFacts",
        "Policy",
        "RouteFacts",
        "RouteView",
    ),
    "persistip.runtime.election": ("Election",),
    "persistip.runtime.threads": ("BlockingAllocator", "threaded"),
    "persistip.settings": (
        "AgentSettings",
        "AnnounceSettings",
        "ClusterSettings",
        "ControllerSettings",
        "ElectionSettings",
    ),
    "persistip.strategies": (
        "AddressAllocator",
        "AllocatorFeatures",
        "Announcer",
        "Attract",
        "Batch",
        "Clock",
        "CloudAction",
        "CloudScope",
        "CloudState",
        "Cluster",
        "ClusterObject",
        "Datapath",
        "Lease",
        "LeaseRecord",
        "ReactionMode",
        "Sweep",
        "Withdraw",
    ),
    "persistip.wire": ("Unreadable", "from_model", "to_model"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load *name* from its home; ``__version__`` is what the installed distribution says."""
    if name == "__version__":
        # Reading the metadata costs ten times what all the rest of this import does.
        from importlib.metadata import version  # noqa: PLC0415

        return version("persistip")
    if name not in _HOME:
        message = f"module 'persistip' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415 - a command need not load it to answer Ctrl-C

    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])

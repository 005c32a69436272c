"""A cluster of objects that the plans themselves change, and nodes whose agents and kernels do as they are told."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import attrs

from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_node import NodePlan, node_scope, plan_node
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.model.actions import (
    ClusterAction,
    ConfirmNodeGone,
    CreateAttachment,
    DatapathAction,
    DeleteAttachment,
    ForgetPin,
    PutEntry,
    RecordEvent,
    RecordPin,
    RemoveEntry,
    ReplaceAttachment,
    ReportClass,
    ReportGateway,
    ReportRoute,
    SetFinalizers,
)
from persistip.model.address import AddressSpec, IPAddress
from persistip.model.attachment import AddressAttachment, How, NodeReport, NodeStateName
from persistip.model.conditions import find_condition
from persistip.model.entry import LinkRef, NodeState, PodLink, RouteEntry
from persistip.model.gateway import ConfigMap, From, Gateway, GatewayClass, Listener, ParametersRef
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef
from persistip.model.selector import LabelSelector
from persistip.model.views import ClassView, GatewayView, NodeView, Policy, RouteView
from persistip.strategies import Batch, ClusterObject

CLASS = "gke-persistent-regional-external-managed"
T0 = 1_800_000_000.0
UPLINK = LinkRef("eth0", 2)


class World:
    """One controller's catalog over objects that its own plans change, with agents that confirm when told to."""

    def __init__(self, *objects: ClusterObject, policy: Policy | None = None) -> None:
        self.now = T0
        self.revision = 0
        self.catalog = Catalog(policy or Policy(), BUILT_IN)
        self.events: list[RecordEvent] = []
        self.put(*(objects or furniture()))

    # ------------------------------------------------------------ objects
    def put(self, *objects: ClusterObject) -> None:
        """Deliver objects as the watch would."""
        for each in objects:
            self.revision += 1
            meta = attrs.evolve(each.meta, resource_version=str(self.revision))
            found = attrs.evolve(each, meta=meta)
            self.catalog.update(Batch(objects={found.key: found}))

    def drop(self, *objects: ClusterObject) -> None:
        """Deliver that objects are gone."""
        self.catalog.update(Batch(objects={each.key: None for each in objects}))

    def attachments(self) -> tuple[AddressAttachment, ...]:
        """All of them, by name."""
        found = (self.catalog.objects[key] for key in sorted(self.catalog.objects))
        return tuple(each for each in found if isinstance(each, AddressAttachment))

    def attachment(self, name: str = "web") -> AddressAttachment:
        """The route's attachment."""
        found = self.view(name).attachment
        assert found is not None
        return found

    def condition(self, type_: str, name: str = "web") -> tuple[str, str]:
        """Status and reason of a condition of the route."""
        found = find_condition(self.route(name).status.conditions, type_)
        assert found is not None
        return found.status, found.reason

    def message(self, type_: str, name: str = "web") -> str:
        """Message of a condition of the route."""
        found = find_condition(self.route(name).status.conditions, type_)
        assert found is not None
        return found.message

    def route(self, name: str = "web") -> GKEIPRoute:
        """The route as it stands."""
        facts = self.view(name).facts
        assert facts is not None
        return facts.route

    def view(self, name: str = "web") -> RouteView:
        """The route's view now."""
        view = self.catalog.view(ObjectKey(Kind.ROUTE, "tenant", name), self.now)
        assert isinstance(view, RouteView)
        return view

    # ------------------------------------------------------------ the controller
    def plan(self, key: ObjectKey) -> tuple[ClusterAction, ...]:
        """What the plan of a key would do now."""
        match self.catalog.view(key, self.now):
            case RouteView() as view:
                return plan_route(view).actions
            case GatewayView() as view:
                return plan_gateway(view).actions
            case ClassView() as view:
                return plan_class(view).actions

    def apply(self, actions: Iterable[ClusterAction]) -> None:
        """Carry out a plan, with the preconditions of the API server."""
        for action in actions:
            match action:
                case CreateAttachment(attachment):
                    assert attachment.key not in self.catalog.objects
                    uid = f"att-{self.revision}"
                    self.put(attrs.evolve(attachment, meta=attrs.evolve(attachment.meta, uid=uid)))
                case ReplaceAttachment(attachment, forgotten):
                    self.revision += bool(forgotten)  # a write of its own
                    self._current(attachment.key, attachment.meta.resource_version)
                    if attachment.meta.is_terminating and not attachment.meta.finalizers:
                        self.drop(attachment)
                    else:
                        self.put(attachment)
                case DeleteAttachment(name=name, resource_version=version):
                    present = self._current(ObjectKey(Kind.ATTACHMENT, "", name), version)
                    self.put(attrs.evolve(present, meta=attrs.evolve(present.meta, deleted_at=self.now)))
                case ReportRoute(status=status) | ReportGateway(status=status):
                    self.put(attrs.evolve(self._current(action.key, action.resource_version), status=status))
                case ReportClass(conditions=conditions):
                    present = self._current(action.key, action.resource_version)
                    self.put(attrs.evolve(present, conditions=conditions))
                case SetFinalizers(key=key, finalizers=finalizers):
                    found = self._current(key, action.resource_version)
                    found = attrs.evolve(found, meta=attrs.evolve(found.meta, finalizers=finalizers))
                    self.drop(found) if found.meta.is_terminating and not finalizers else self.put(found)
                case RecordEvent():
                    self.events.append(action)
                case ConfirmNodeGone():
                    self.catalog.confirm(action)

    def _current(self, key: ObjectKey, version: str) -> ClusterObject:
        present = self.catalog.objects[key]
        # Of two writes of one plan to one object, the second one's version is the first one's: only ours may differ.
        assert present.meta.resource_version == version  # type: ignore[attr-defined]
        return present  # type: ignore[return-value]

    def step(self, name: str = "web") -> RoutePlan:
        """Plan once and apply what the plan says."""
        plan = plan_route(self.view(name))
        self.apply(plan.actions)
        return plan

    def settle(self, name: str = "web", *, agents: bool = True) -> RoutePlan:
        """Plan and apply until nothing is due; with *agents*, nodes do and confirm what they are asked for."""
        for _ in range(30):
            plan = self.step(name)
            reported = agents and self.confirm(name)
            if not plan.actions and not reported:
                return plan
            self.now += 0.01
        raise AssertionError("the route does not settle")

    def settle_all(self, *, agents: bool = True, nodes: Iterable[str] | None = None) -> None:
        """Plan every key until nothing is due anywhere."""
        for _ in range(200):
            is_quiet = True
            for key in sorted(self.catalog.keys()):
                actions = self.plan(key)
                self.apply(actions)
                is_quiet &= not actions
            for each in self.attachments() if agents else ():
                is_quiet &= not self.confirm_one(each, nodes)
            if is_quiet:
                return
            self.now += 0.01
        raise AssertionError("the cluster does not settle")

    # ------------------------------------------------------------ ideal agents
    def confirm(self, name: str = "web", nodes: Iterable[str] = ("a", "b", "c")) -> bool:
        """The agents of *nodes* do what the attachment asks; whether any had something to say."""
        present = self.view(name).attachment
        return present is not None and self.confirm_one(present, nodes)

    def confirm_one(self, present: AddressAttachment, nodes: Iterable[str] | None) -> bool:
        """The same for an attachment; None: all its nodes."""
        holder, releasing = present.spec.holder, present.spec.releasing
        if nodes is None:
            nodes = sorted({release.node_name for release in releasing} | ({holder.node_name} if holder else set()))
        reports = {report.node_name: report for report in present.nodes}
        for each in nodes:
            report = reports.get(each, NodeReport(node_name=each))
            mine = [release for release in releasing if release.node_name == each]
            if mine and all(release.how is How.NOW for release in mine):
                report = attrs.evolve(report, released=max(release.epoch for release in mine))
            if holder is not None and holder.node_name == each and present.spec.held_prefixes:
                report = attrs.evolve(report, epoch=present.spec.epoch, state=NodeStateName.PROGRAMMED)
            if report != NodeReport(node_name=each):
                reports[each] = report
        if tuple(reports.values()) == present.nodes:
            return False
        self.put(attrs.evolve(present, nodes=tuple(reports.values())))
        return True


class Kernel:
    """A node's kernel that does what plans say, and the agent's passes over it."""

    def __init__(self, node_name: str = "a") -> None:
        self.node_name = node_name
        self.state = NodeState(uplinks=(UPLINK,))
        self.links: dict[IPAddress, PodLink] = {}
        self.done: list[DatapathAction] = []

    def attach(self, ip: str, link: str, hardware_address: str | None, *, index: int = 10) -> None:
        """A Pod's IP is found on a link."""
        found = ip_address(ip)
        self.links[found] = PodLink(ip=found, link=LinkRef(link, index), hardware_address=hardware_address)

    def detach(self, ip: str) -> None:
        """No route leads to the IP any more."""
        self.links.pop(ip_address(ip), None)

    def look(self, *attachments: AddressAttachment, now: float = T0, **fields: object) -> NodePlan:
        """One look and the plan that follows from it."""
        scope = node_scope(attachments, self.node_name)
        links = {ip: link for ip, link in self.links.items() if ip in scope.pod_ips}
        self.state = attrs.evolve(self.state, pod_links=links)
        view = NodeView(
            node_name=self.node_name,
            now=now,
            attachments=attachments,
            state=self.state,
            **fields,  # type: ignore[arg-type]
        )
        return plan_node(view)

    def apply(self, actions: Iterable[DatapathAction]) -> None:
        """Carry out a plan, whole."""
        for action in actions:
            self.done.append(action)
            entries, stale, pins = set(self.state.entries), set(self.state.stale), set(self.state.pins)
            match action:
                case PutEntry(entry):
                    if isinstance(entry, RouteEntry):
                        entries -= {e for e in entries if isinstance(e, RouteEntry) and e.prefix == entry.prefix}
                    entries.add(entry)
                    stale.discard(entry)
                case RemoveEntry(entry):
                    entries.discard(entry)
                    stale.discard(entry)
                case RecordPin(pin):
                    mine = (pin.attachment_uid, pin.pod_uid)
                    pins = {each for each in pins if (each.attachment_uid, each.pod_uid) != mine} | {pin}
                case ForgetPin(pin):
                    pins.discard(pin)
            self.state = attrs.evolve(
                self.state, entries=frozenset(entries), stale=frozenset(stale), pins=frozenset(pins)
            )

    def settle(self, *attachments: AddressAttachment, now: float = T0) -> NodePlan:
        """Look and apply until the plan is empty."""
        for _ in range(10):
            plan = self.look(*attachments, now=now)
            if plan.is_settled:
                return plan
            self.apply(plan.actions)
        raise AssertionError("the kernel does not settle")


def furniture() -> tuple[ClusterObject, ...]:
    """A class with its parameters, a Gateway, a namespace that it admits, three nodes."""
    return (
        GatewayClass(
            meta=ObjectMeta(name=CLASS, uid="class"),
            controller_name="persistip.dev/controller",
            parameters_ref=ParametersRef("", "ConfigMap", "allowed", "persistip-system"),
        ),
        ConfigMap(
            ObjectMeta(name="allowed", namespace="persistip-system", uid="cm"),
            (("allowedAddresses", "203.0.113.0/24, 2001:db8::/64"),),
        ),
        Namespace(ObjectMeta(name="tenant", uid="ns", labels={"persistent-ip": "yes"})),
        gateway(),
        *(node(name) for name in ("a", "b", "c")),
    )


def gateway(name: str = "pool", *addresses: AddressSpec, **changes: object) -> Gateway:
    """A Gateway of namespace infra that admits namespaces by label."""
    fields: dict[str, object] = {
        "meta": ObjectMeta(name=name, namespace="infra", uid=f"gw-{name}", generation=1, created_at=T0 - 1000),
        "class_name": CLASS,
        "addresses": addresses
        or (AddressSpec("gke.networking.io/cidr", "203.0.113.0/28"), AddressSpec("IPAddress", "2001:db8::9")),
        "listeners": (
            Listener(
                name="labelled",
                namespaces_from=From.SELECTOR,
                namespace_selector=LabelSelector((("persistent-ip", "yes"),)),
            ),
        ),
    }
    return Gateway(**fields | changes)  # type: ignore[arg-type]


def node(name: str, uid: str = "") -> Node:
    """A node with one IP and a Pod range."""
    number = ord(name) - ord("a") + 1
    return Node(
        meta=ObjectMeta(name=name, uid=uid or f"node-{name}"),
        ips=(ip_address(f"192.0.2.{number}"),),
        pod_cidrs=(ip_network(f"10.0.{number}.0/24"),),
    )


def pod(name: str, on: str, *, age: float = 0.0, ready: bool = True, **changes: object) -> Pod:
    """A Pod of app web; *age* in seconds counts back from the start."""
    number = ord(on) - ord("a") + 1
    values: dict[str, object] = {
        "meta": ObjectMeta(
            name=name, namespace="tenant", uid=f"pod-{name}", created_at=T0 - age, labels={"app": "web"}
        ),
        "node_name": on,
        "phase": "Running",
        "ips": (ip_address(f"10.0.{number}.{10 + len(name)}"), ip_address(f"fd00::{number}:{10 + len(name)}")),
        "ready": ready,
    }
    return Pod(**values | changes)  # type: ignore[arg-type]


def route(name: str = "web", *values: str, age: float = 100.0, **changes: object) -> GKEIPRoute:
    """A route of namespace tenant for app web."""
    fields: dict[str, object] = {
        "meta": ObjectMeta(name=name, namespace="tenant", uid=f"route-{name}", generation=1, created_at=T0 - age),
        "parent_refs": (ParentRef(name="pool", namespace="infra"),),
        "addresses": tuple(AddressSpec("IPAddress", value) for value in values or ("203.0.113.9",)),
        "pod_selector": LabelSelector((("app", "web"),)),
    }
    return GKEIPRoute(**fields | changes)  # type: ignore[arg-type]


def holder(world: World, name: str = "web") -> str | None:
    """Name of the Pod that the attachment names."""
    found = world.attachment(name).spec.holder
    return found.pod_name if found is not None else None

"""
Routes, Pods, nodes, namespaces and Gateways that change at random, a controller and agents that act at random times.

The plans are the real ones on both sides; between any two of their steps anything may happen. What SPEC promises of
addresses is looked at after every step, and in the end everything must come to rest.
"""

from __future__ import annotations

from ipaddress import ip_address

import attrs
from cluster_strategies import FURNITURE, NAMESPACES, NODES, PODS, gateways, namespaces, nodes, pods, routes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from world import T0, Kernel, World, pod

from persistip.decide.plan_route import plan_route
from persistip.model.actions import ClusterAction, CreateAttachment, PutEntry, ReplaceAttachment
from persistip.model.address import AddressSpec, Prefix, is_overlapping
from persistip.model.attachment import AddressAttachment, AttachmentSpec, How, NodeStateName, Release
from persistip.model.conditions import Status, find_condition
from persistip.model.entry import LinkRef, PodLink, RouteEntry
from persistip.model.keys import CLASS_LABEL, Kind, ObjectKey, node_label
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef
from persistip.model.selector import LabelSelector
from persistip.model.views import RouteView
from persistip.strategies import ClusterObject


def likely(usual: object, *others: object) -> st.SearchStrategy[object]:
    """Mostly the first: a story in which everything is broken tells nothing."""
    return st.sampled_from([usual] * 5 + list(others))


@st.composite
def good_routes(draw: st.DrawFn) -> GKEIPRoute:
    """Routes that are accepted but for the claims of others, on addresses that often overlap."""
    values = draw(
        st.sampled_from([("203.0.113.8",), ("203.0.113.9",), ("203.0.113.8/31",), ("2001:db8::9",)])
        | st.sampled_from([("203.0.113.8", "203.0.113.9"), ("203.0.113.9", "203.0.113.10"), ("203.0.113.10",)])
    )
    found = draw(routes(("tenant",)))
    return attrs.evolve(
        found,
        addresses=tuple(AddressSpec("IPAddress", value) for value in values),
        parent_refs=(ParentRef(name="pool", namespace="infra"),),
        pod_selector=LabelSelector((("app", "web"),)),
    )


@st.composite
def good_pods(draw: st.DrawFn) -> Pod:
    """Pods that may hold addresses, most of them."""
    found = draw(pods())
    meta = attrs.evolve(
        found.meta,
        namespace="tenant",
        labels={"app": draw(likely("web", "db"))},
        deleted_at=draw(likely(None, T0)),
    )
    ips = (ip_address("10.0.0.1"), ip_address("fd00::1"))
    return attrs.evolve(
        found, meta=meta, phase="Running", ips=draw(likely(ips, ips[:1], ())), ready=draw(likely(True, False, False))
    )


class Story(RuleBasedStateMachine):
    """One controller, two nodes, two tenants, six addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*FURNITURE)
        self.kernels = {name: Kernel(name) for name in NODES}
        self.owners: dict[tuple[str, Prefix], str] = {}
        self.accepted: set[tuple[str, Prefix]] = set()
        self.gone_machines: set[str] = set()

    @initialize(
        found_routes=st.lists(good_routes(), min_size=2, max_size=3), found_pods=st.lists(good_pods(), min_size=2)
    )
    def begin(self, found_routes: list[GKEIPRoute], found_pods: list[Pod]) -> None:
        """Some routes and Pods are there from the start."""
        for found in found_routes:
            self.change_route(found)
        for found in found_pods:
            self.change_pod(found)
        for number, name in enumerate(PODS):
            self.change_pod(pod(name, NODES[number]))
        self.everyone_passes(3)

    # ------------------------------------------------------------ what users and machines do
    @rule(found=st.one_of(good_routes(), good_routes(), good_routes(), good_routes(), good_routes(), routes()))
    def change_route(self, found: GKEIPRoute) -> None:
        """A route is made, edited, or made again."""
        old = self.world.catalog.objects.get(found.key)
        if isinstance(old, GKEIPRoute) and old.meta.uid == found.meta.uid:
            meta = attrs.evolve(found.meta, generation=old.meta.generation + 1, created_at=old.meta.created_at)
            found = attrs.evolve(found, meta=meta, status=old.status)
        self.world.put(found)

    @rule(found=good_pods())
    def change_pod(self, found: Pod) -> None:
        """A Pod is made, changes its state, or is made again; a Pod that has a node stays there."""
        where = found.node_name or "a"
        number = 1 + 2 * NAMESPACES.index(found.meta.namespace) + len(found.meta.name)
        host = number + (100 if found.meta.uid.endswith("again") else 0)
        ips = (
            ip_address(f"10.0.{NODES.index(where) + 1}.{host}"),
            ip_address(f"fd00::{NODES.index(where) + 1}:{host}"),
        )
        uid = f"{found.meta.namespace}-{found.meta.uid}-{where}"
        old = self.world.catalog.objects.get(found.key)
        is_same = isinstance(old, Pod) and old.meta.uid == uid
        created_at = old.meta.created_at if isinstance(old, Pod) and is_same else float(int(self.world.now))
        meta = attrs.evolve(found.meta, uid=uid, created_at=created_at)
        kept = ips[: len(found.ips)]
        self.world.put(attrs.evolve(found, meta=meta, node_name=where, ips=kept, ready_at=self.world.now))

    @rule(found=st.sampled_from(FURNITURE) | st.one_of(namespaces(), gateways(), nodes()))
    def change_furniture(self, found: ClusterObject) -> None:
        """A namespace gains or loses its label, a Gateway is edited, a node switched off; often all is well again."""
        if isinstance(found, Node):
            self.change_node(found)
        else:
            self.world.put(found)

    @rule()
    def mend(self) -> None:
        """Everything that routes rest on is as it was in the beginning, but for nodes that are well."""
        for each in FURNITURE:
            old = self.world.catalog.objects.get(each.key)
            if not isinstance(each, Node):
                self.world.put(each)
            elif not isinstance(old, Node) or old.out_of_service or old.ips != each.ips:
                self.change_node(each)

    def change_node(self, found: Node) -> None:
        """A node is made, made again or switched off; a machine that is off has an empty kernel."""
        old = self.world.catalog.objects.get(found.key)
        self.world.put(found)
        is_same = isinstance(old, Node) and old.meta.uid == found.meta.uid
        if isinstance(old, Node) and not is_same:
            self.gone_machines.add(old.meta.uid)
        if not is_same or found.out_of_service:
            self.switch_off(found.meta.name)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Anything but an attachment goes."""
        kinds = data.draw(likely((Kind.ROUTE, Kind.POD), (Kind.NODE, Kind.NAMESPACE, Kind.GATEWAY)))
        present = sorted(key for key in self.world.catalog.objects if key.kind in kinds)
        key = data.draw(st.sampled_from(present)) if present else None
        if key is None:
            return
        gone = self.world.catalog.objects[key]
        self.world.drop(gone)  # type: ignore[arg-type]
        if isinstance(gone, Node):
            self.gone_machines.add(gone.meta.uid)
            self.switch_off(gone.meta.name)

    @rule(seconds=st.sampled_from([0.001, 1.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.world.now += seconds

    def switch_off(self, name: str) -> None:
        """The machine loses what its kernel held."""
        self.kernels[name] = Kernel(name)
        self.owners = {place: owner for place, owner in self.owners.items() if place[0] != name}

    # ------------------------------------------------------------ what the system does
    @rule(data=st.data())
    def controller_pass(self, data: st.DataObject) -> None:
        """The controller plans one key."""
        keys = sorted(self.world.catalog.keys())
        if keys:
            self.run_controller(data.draw(st.sampled_from(keys)))

    @rule()
    def controller_passes(self) -> None:
        """The controller plans all keys, once each."""
        for key in sorted(self.world.catalog.keys()):
            self.run_controller(key)

    @rule(rounds=st.integers(1, 3))
    def everyone_passes(self, rounds: int) -> None:
        """The controller and the agents take turns for a while."""
        for _ in range(rounds):
            self.controller_passes()
            for name in NODES:
                self.agent_pass(name, 3)

    @rule(name=st.sampled_from(NODES), looks=st.integers(1, 4))
    def agent_pass(self, name: str, looks: int) -> None:
        """An agent looks some times, acts, and says what it sees."""
        for _ in range(looks):
            self.run_agent(name)

    @rule(name=st.sampled_from(NODES), carried_out=st.integers(0, 3))
    def agent_pass_that_fails(self, name: str, carried_out: int) -> None:
        """An agent says what it saw, and then its kernel does a part of what it asks, or nothing."""
        self.run_agent(name, carried_out)

    def run_controller(self, key: ObjectKey) -> bool:
        """One pass; whether there was anything to do."""
        view = self.world.catalog.view(key, self.world.now)
        if isinstance(view, RouteView):
            plan = plan_route(view)
            if plan.verdict.is_accepted and view.facts is not None:
                uid = view.facts.route.meta.uid
                self.accepted |= {(uid, claim.prefix) for claim in plan.verdict.claims}
            for action in plan.actions:
                self.judge(action)
        actions = self.world.plan(key)
        self.world.apply(actions)
        return bool(actions)

    def run_agent(self, name: str, carried_out: int | None = None) -> bool:
        """One look, and the first *carried_out* actions of its plan; whether it asked for or said anything."""
        machine = self.world.catalog.objects.get(ObjectKey(Kind.NODE, "", name))
        if not isinstance(machine, Node) or machine.out_of_service:
            return False
        kernel, label = self.kernels[name], node_label(name)
        kernel.links = {
            ip: PodLink(
                ip=ip, link=LinkRef(f"veth-{ip}"[:15], hash(ip) % 9999), hardware_address=f"mac-{each.meta.uid}"
            )
            for each in self.world.catalog.objects.values()
            if isinstance(each, Pod) and each.node_name == name
            for ip in each.ips
        }
        mine = tuple(each for each in self.world.attachments() if label in each.meta.labels)
        plan = kernel.look(*mine, now=self.world.now)
        actions = plan.actions[:carried_out]
        for action in actions:
            if isinstance(action, PutEntry) and isinstance(action.entry, RouteEntry):
                self.owners[name, action.entry.prefix] = self.owner_of(action.entry.prefix, mine, name)
        kernel.apply(actions)
        standing = {entry.prefix for entry in kernel.state.entries}
        self.owners = {place: owner for place, owner in self.owners.items() if place[0] != name or place[1] in standing}
        news = False
        for each in plan.reports:
            present = next(found for found in self.world.attachments() if found.meta.uid == each.uid)
            others = tuple(report for report in present.nodes if report.node_name != name)
            self.world.put(attrs.evolve(present, nodes=(*others, each.report)))
            news = True
        return news or bool(plan.actions)

    @staticmethod
    def owner_of(prefix: Prefix, mine: tuple[AddressAttachment, ...], name: str) -> str:
        """The route for which a node programs a prefix: one, and one that holds it there."""
        [owner] = [
            each.spec.route.uid
            for each in mine
            if prefix in each.spec.held_prefixes and each.spec.holder is not None and each.spec.holder.node_name == name
        ]
        return owner

    # ------------------------------------------------------------ what must hold of every write
    def judge(self, action: ClusterAction) -> None:
        """Epochs and releases of one write."""
        if isinstance(action, CreateAttachment):
            assert all(address.pending for address in action.attachment.spec.addresses), "claims come first"
        if not isinstance(action, ReplaceAttachment):
            return
        before = self.world.catalog.objects[action.attachment.key]
        assert isinstance(before, AddressAttachment)
        old, new = before.spec, action.attachment.spec
        assert new.epoch >= old.epoch
        assert new.route == old.route
        kept = {self.identity(entry): entry for entry in new.releasing}
        added = kept.keys() - {self.identity(entry) for entry in old.releasing}
        assert all(kept[each].epoch == new.epoch for each in added)
        is_more = self.duties(old) != self.duties(new) or added
        assert (new.epoch > old.epoch) == bool(is_more)
        for entry in old.releasing:
            after = kept.get(self.identity(entry))
            if after is None:
                assert self.may_end(entry, before, action.attachment), entry
            elif entry.how is How.NOW:
                assert after.how is How.NOW

    @staticmethod
    def duties(spec: AttachmentSpec) -> tuple[object, ...]:
        """What agents act on, releases apart."""
        return spec.addresses, spec.holder, spec.mode, spec.strategy, spec.network, spec.pod_address, spec.flows

    @staticmethod
    def identity(entry: Release) -> tuple[object, ...]:
        """What tells a release from another."""
        return entry.epoch, entry.node_uid, entry.pod_uid, entry.prefixes

    def may_end(self, entry: Release, before: AddressAttachment, after: AddressAttachment) -> bool:
        """Confirmed, or the node gone, or the same Pod holds the same prefixes there again."""
        report = before.report_of(entry.node_name)
        if report is not None and report.released >= entry.epoch:
            return True
        machine = self.world.catalog.objects.get(ObjectKey(Kind.NODE, "", entry.node_name))
        if not isinstance(machine, Node) or machine.meta.uid != entry.node_uid or machine.out_of_service:
            return True
        # Gone for good, though a story makes one of that UID again.
        if entry.node_uid in self.gone_machines:
            return True
        holder = after.spec.holder
        is_again = holder is not None and (holder.pod_uid, holder.node_uid) == (entry.pod_uid, entry.node_uid)
        return is_again and set(entry.prefixes) <= set(after.spec.held_prefixes)

    # ------------------------------------------------------------ what must hold at every moment
    @invariant()
    def no_address_is_held_twice(self) -> None:
        """No attachment holds what another holds or has not been seen to release."""
        found = self.world.attachments()
        for one in found:
            for other in found:
                if one.key == other.key:
                    continue
                released = tuple(prefix for entry in other.spec.releasing for prefix in entry.prefixes)
                for held in one.spec.held_prefixes:
                    assert not any(is_overlapping(held, each) for each in (*other.spec.held_prefixes, *released))

    @invariant()
    def no_address_is_held_unaccepted(self) -> None:
        """What is held was accepted for this very route at some time."""
        for each in self.world.attachments():
            for prefix in each.spec.held_prefixes:
                assert (each.spec.route.uid, prefix) in self.accepted

    @invariant()
    def no_address_is_programmed_for_two_routes(self) -> None:
        """Nodes whose kernels lead an address to a Pod do so for one route."""
        places = list(self.owners.items())
        for (_, prefix), owner in places:
            for (_, other), another in places:
                assert owner == another or not is_overlapping(prefix, other)

    @invariant()
    def labels_name_the_nodes_concerned(self) -> None:
        """Every node that must act can see the attachment."""
        for each in self.world.attachments():
            labels = {key: value for key, value in each.meta.labels.items() if key != CLASS_LABEL}
            assert dict(each.spec.node_labels()) == labels

    # ------------------------------------------------------------ and in the end
    def teardown(self) -> None:
        """Left alone, everything comes to rest, and what is Ready is delivered."""
        for _ in range(60):
            self.world.now += 3
            is_busy = False
            for key in sorted(self.world.catalog.keys()):
                is_busy |= self.run_controller(key)
            for name in NODES:
                is_busy |= self.run_agent(name)
            if not is_busy:
                break
        else:
            raise AssertionError("the story does not come to rest")
        self.no_address_is_held_twice()
        self.no_address_is_held_unaccepted()
        self.no_address_is_programmed_for_two_routes()
        for each in self.world.catalog.objects.values():
            if isinstance(each, GKEIPRoute):
                self.check_route(each)
        wanted = {
            (each.spec.holder.node_name, prefix)
            for each in self.world.attachments()
            if each.spec.holder is not None
            for prefix in each.spec.held_prefixes
        }
        for name, kernel in self.kernels.items():
            machine = self.world.catalog.objects.get(ObjectKey(Kind.NODE, "", name))
            if isinstance(machine, Node) and not machine.out_of_service:
                assert {(name, entry.prefix) for entry in kernel.state.entries} <= wanted, "nothing is left behind"

    def check_route(self, found: GKEIPRoute) -> None:
        """Ready is True exactly when each address leads to the Pod that the status names."""
        view = self.world.catalog.view(found.key, self.world.now)
        assert isinstance(view, RouteView)
        plan = plan_route(view)
        if plan.verdict.is_refused:
            assert view.attachment is None, "what is refused is drained, and its attachment gone"
        if not plan.verdict.is_ours:
            return
        ready = find_condition(found.status.conditions, "Ready")
        assert ready is not None
        assert ready.observed_generation == found.meta.generation
        spec = view.attachment.spec if view.attachment is not None else None
        may_be = plan.verdict.is_accepted and plan.holder is not None
        if ready.status != Status.TRUE:
            report = view.attachment.report_of(spec.holder.node_name) if view.attachment and spec.holder else None
            assert not may_be or (report is not None and report.state == NodeStateName.FAILED), ready
            return
        assert may_be
        assert spec is not None
        assert spec.holder == plan.holder
        assert found.status.pods == (spec.holder.pod_name,)
        routes_there = {
            entry.prefix: entry.pod_ip
            for entry in self.kernels[spec.holder.node_name].state.entries
            if isinstance(entry, RouteEntry)
        }
        for claim in plan.verdict.claims:
            assert routes_there[claim.prefix] in spec.holder.pod_ips


def test_any_story_keeps_the_promises_and_ends_well() -> None:
    """No address is ever held, granted or programmed twice or unaccepted, and left alone everything comes to rest."""
    run_state_machine_as_test(Story, settings=settings(stateful_step_count=50))

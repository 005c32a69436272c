"""
Does a Cluster keep its promises?

In: a ClusterWorld around the Cluster to be judged.  Out: one test for every promise of
``persistip.strategies.Cluster`` and of the actions it carries out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

import attrs

from persistip.model.actions import (
    ConfirmNodeGone,
    CreateAttachment,
    DeleteAttachment,
    Outcome,
    OutcomeState,
    RecordEvent,
    ReplaceAttachment,
    ReportClass,
    ReportGateway,
    ReportNode,
    ReportRoute,
    SetFinalizers,
)
from persistip.model.attachment import AddressAttachment, NodeReport, NodeStateName
from persistip.model.conditions import Condition, Status
from persistip.model.gateway import Gateway, GatewayClass, GatewayStatus, ListenerStatus
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.model.route import GKEIPRoute, RouteStatus
from persistip.strategies import ClusterObject
from persistip.testing import builders
from persistip.testing.cluster_world import ClusterWorld, apply_one, attachment_of, create, following
from persistip.testing.running import whole
from persistip.wire.decode import to_model
from persistip.wire.encode import from_model

T = TypeVar("T")


def _condition(type_: str, status: Status = Status.TRUE) -> Condition:
    return Condition(type=type_, status=status, reason="Because", message="said so", last_transition_at=builders.START)


class ClusterContract(ABC):
    """Every promise of Cluster."""

    @abstractmethod
    def make(self) -> AbstractAsyncContextManager[ClusterWorld]:
        """A fresh world for one test."""

    @whole
    async def test_existing_objects_come_before_synced(self) -> None:
        """The first batches end with ``synced``, and by then everything that exists was delivered."""
        async with self.make() as world:
            await world.put(from_model(builders.pod()))
            await world.put(from_model(builders.node()))
            async with following(world.cluster()) as reader:
                await reader.until(lambda _: True)
                assert builders.pod().key in reader.objects
                assert builders.node().key in reader.objects

    @whole
    async def test_first_batches_name_every_kind_as_resynced(self) -> None:
        """Each kind's complete list is said to be one, so that nothing known before survives a new start."""
        async with self.make() as world, following(world.cluster()) as reader:
            named: set[str] = set()
            while not reader.is_synced:
                named |= (await reader.read()).resynced
            assert named == {str(kind) for kind in Kind}

    @whole
    async def test_change_is_delivered_as_latest_state(self) -> None:
        """A changed object arrives as it stands."""
        async with self.make() as world, following(world.cluster()) as reader:
            await reader.until(lambda _: True)
            await world.put(from_model(builders.pod(ready=False)))
            await reader.until(lambda objects: builders.pod().key in objects)
            await world.put(from_model(builders.pod(ready=True)))
            await reader.until(lambda objects: getattr(objects[builders.pod().key], "ready", False))

    @whole
    async def test_object_gone_is_delivered_as_none(self) -> None:
        """What is deleted is known to be gone."""
        async with self.make() as world:
            await world.put(from_model(builders.namespace()))
            async with following(world.cluster()) as reader:
                await reader.until(lambda objects: builders.namespace().key in objects)
                await world.remove("Namespace", "", "tenant")
                await reader.until(lambda objects: builders.namespace().key not in objects)

    @whole
    async def test_gap_in_the_watch_hides_nothing(self) -> None:
        """After an interruption, what came and went meanwhile is known."""
        async with self.make() as world:
            await world.put(from_model(builders.namespace("old")))
            async with following(world.cluster()) as reader:
                await reader.until(lambda objects: builders.namespace("old").key in objects)
                await world.interrupt()
                await world.remove("Namespace", "", "old")
                await world.put(from_model(builders.namespace("new")))
                await reader.until(
                    lambda objects: (
                        builders.namespace("old").key not in objects and builders.namespace("new").key in objects
                    )
                )

    @whole
    async def test_agent_sees_the_attachments_that_name_its_node(self) -> None:
        """An agent's view holds an attachment from the write that names its node to the one that no longer does."""
        async with self.make() as world, following(world.cluster(node_name="node-b")) as reader:
            cluster = world.cluster()
            await world.put(from_model(builders.pod()))
            made = await create(cluster, builders.attachment(holder=builders.pod(node="node-a")))
            moved = attrs.evolve(builders.attachment(holder=builders.pod(node="node-b"), epoch=2), meta=made.meta)
            moved = attrs.evolve(moved, meta=attrs.evolve(made.meta, labels=moved.spec.node_labels()))
            outcome = await apply_one(cluster, ReplaceAttachment(moved))
            await reader.until(lambda objects: made.key in objects)
            assert set(reader.objects) == {made.key}
            left = builders.attachment(epoch=3)
            left = attrs.evolve(left, meta=attrs.evolve(attachment_of(outcome).meta, labels={}))
            assert (await apply_one(cluster, ReplaceAttachment(left))).is_done
            await reader.until(lambda objects: made.key not in objects)

    @whole
    async def test_create_returns_what_stands(self) -> None:
        """The object written comes back with UID and version, and its status empty."""
        async with self.make() as world:
            wanted = builders.attachment(holder=builders.pod())
            made = await create(world.cluster(), wanted)
            assert made.meta.uid
            assert made.meta.resource_version
            assert (made.spec, made.nodes) == (wanted.spec, ())
            assert dict(made.meta.labels) == dict(wanted.meta.labels)
            assert made.meta.finalizers == wanted.meta.finalizers

    @whole
    async def test_create_of_a_taken_name_is_stale(self) -> None:
        """A name that is taken says that the world had changed."""
        async with self.make() as world:
            await create(world.cluster(), builders.attachment())
            outcome = await apply_one(world.cluster(), CreateAttachment(builders.attachment()))
            assert (outcome.is_done, outcome.stale) == (False, True), outcome

    @whole
    async def test_replace_with_an_old_version_changes_nothing(self) -> None:
        """The second of two writes decided on one state is stale, and the first stands."""
        async with self.make() as world, following(world.cluster()) as reader:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment())
            first = attrs.evolve(made, spec=attrs.evolve(made.spec, epoch=5))
            second = attrs.evolve(made, spec=attrs.evolve(made.spec, epoch=6))
            outcomes = await cluster.apply([ReplaceAttachment(first), ReplaceAttachment(second)])
            assert [(outcome.is_done, outcome.stale) for outcome in outcomes] == [(True, False), (False, True)]
            await reader.until(lambda objects: made.key in objects)
            stands = reader.objects[made.key]
            assert isinstance(stands, AddressAttachment)
            assert stands.spec.epoch == 5

    @whole
    async def test_replace_keeps_the_status(self) -> None:
        """Status is a subresource: a write of the spec, whatever status it carries, leaves the reports alone."""
        async with self.make() as world:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment(holder=builders.pod()))
            report = NodeReport(node_name="node-a", epoch=1, state=NodeStateName.PROGRAMMED, at=builders.START)
            agent = world.cluster(node_name="node-a")
            reported = attachment_of(
                await apply_one(agent, ReportNode(name=made.meta.name, uid=made.meta.uid, report=report))
            )
            assert reported.nodes == (report,)
            changed = attrs.evolve(reported, nodes=(), spec=attrs.evolve(reported.spec, epoch=9))
            written = attachment_of(await apply_one(cluster, ReplaceAttachment(changed)))
            assert (written.spec.epoch, written.nodes) == (9, (report,))

    @whole
    async def test_epoch_that_falls_is_refused(self) -> None:
        """The API itself refuses an older decision, and looking again would not help."""
        async with self.make() as world:
            made = await create(world.cluster(), builders.attachment(epoch=7))
            fallen = attrs.evolve(made, spec=attrs.evolve(made.spec, epoch=6))
            outcome = await apply_one(world.cluster(), ReplaceAttachment(fallen))
            assert (outcome.is_done, outcome.stale) == (False, False)
            assert "epoch" in outcome.message

    @whole
    async def test_delete_waits_for_the_finalizer(self) -> None:
        """A deleted attachment stays, terminating, until its finalizer is taken away."""
        async with self.make() as world, following(world.cluster()) as reader:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment())
            await reader.until(lambda objects: made.key in objects)
            version = made.meta.resource_version
            deletion = DeleteAttachment(name=made.meta.name, uid=made.meta.uid, resource_version=version)
            assert (await apply_one(cluster, deletion)).is_done
            await reader.until(lambda objects: cast("AddressAttachment", objects[made.key]).meta.is_terminating)
            waiting = cast("AddressAttachment", reader.objects[made.key])
            freed = attrs.evolve(waiting, meta=attrs.evolve(waiting.meta, finalizers=()))
            assert (await apply_one(cluster, ReplaceAttachment(freed))).is_done
            await reader.until(lambda objects: made.key not in objects)

    @whole
    async def test_delete_of_another_uid_or_version_is_stale(self) -> None:
        """The same name made again, or the same object changed, is not deleted."""
        async with self.make() as world:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment())
            meta = made.meta
            right = DeleteAttachment(name=meta.name, uid=meta.uid, resource_version=meta.resource_version)
            outcomes = await cluster.apply(
                [
                    attrs.evolve(right, uid="00000000-0000-0000-0000-000000000000"),
                    attrs.evolve(right, resource_version="1"),
                    attrs.evolve(right, name="r-none"),
                ]
            )
            assert [(outcome.is_done, outcome.stale) for outcome in outcomes] == [(False, True)] * 3

    @whole
    async def test_route_status_is_applied_beside_that_of_others(self) -> None:
        """Our conditions are written, a condition of another controller stays, and so does the spec."""
        async with self.make() as world, following(world.cluster()) as reader:
            theirs = _condition("example.com/Theirs")
            wanted = builders.route()
            stands = await self._put(world, attrs.evolve(wanted, status=RouteStatus(conditions=(theirs,))), GKEIPRoute)
            status = RouteStatus(pods=("nat-0",), conditions=(_condition("Accepted"), _condition("Ready")))
            assert (await apply_one(world.cluster(), self._report(stands, status))).is_done
            await reader.until(lambda objects: bool(getattr(objects.get(stands.key), "status", RouteStatus()).pods))
            found = cast("GKEIPRoute", reader.objects[stands.key])
            assert set(found.status.conditions) == {theirs, *status.conditions}
            assert found.addresses == wanted.addresses

    @whole
    async def test_route_status_no_longer_applied_goes(self) -> None:
        """What a second report leaves out is taken away."""
        async with self.make() as world:
            cluster = world.cluster()
            stands = await self._put(world, builders.route(), GKEIPRoute)
            first = RouteStatus(pods=("nat-0",), conditions=(_condition("Ready"),))
            assert (await apply_one(cluster, self._report(stands, first))).is_done
            now = await self._read(world, stands)
            assert (await apply_one(cluster, self._report(now, RouteStatus(conditions=first.conditions)))).is_done
            assert (await self._read(world, stands)).status == RouteStatus(conditions=first.conditions)

    @whole
    async def test_route_status_decided_on_an_old_version_is_stale(self) -> None:
        """A status goes to the object it was decided on, or nowhere."""
        async with self.make() as world:
            stands = await self._put(world, builders.route(), GKEIPRoute)
            status = RouteStatus(pods=("nat-0",))
            assert (await apply_one(world.cluster(), self._report(stands, status))).is_done
            outcome = await apply_one(world.cluster(), self._report(stands, RouteStatus(pods=("nat-1",))))
            assert (outcome.is_done, outcome.stale) == (False, True), outcome

    @whole
    async def test_same_status_again_writes_nothing(self) -> None:
        """A report that changes nothing leaves the object's version alone."""
        async with self.make() as world:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment())
            action = ReportNode(
                name=made.meta.name, uid=made.meta.uid, report=NodeReport(node_name="node-a", at=builders.START)
            )
            agent = world.cluster(node_name="node-a")
            first, again = [attachment_of(await apply_one(agent, action)) for _ in range(2)]
            assert first.meta.resource_version == again.meta.resource_version

    @whole
    async def test_gateway_and_class_status_are_applied(self) -> None:
        """Addresses, listeners and conditions of a Gateway and a class's conditions are read back as written."""
        async with self.make() as world, following(world.cluster()) as reader:
            pool = await self._put(world, builders.gateway(), Gateway)
            of = await self._put(world, builders.gateway_class(), GatewayClass)
            status = GatewayStatus(
                addresses=pool.addresses,
                conditions=(_condition("Accepted"),),
                listeners=(ListenerStatus(name="any", attached_routes=0, conditions=(_condition("Accepted"),)),),
            )
            outcomes = await world.cluster().apply(
                [
                    ReportGateway(
                        key=pool.key, uid=pool.meta.uid, resource_version=pool.meta.resource_version, status=status
                    ),
                    ReportClass(
                        key=of.key,
                        uid=of.meta.uid,
                        resource_version=of.meta.resource_version,
                        conditions=status.conditions,
                    ),
                ]
            )
            assert [outcome.state for outcome in outcomes] == [OutcomeState.DONE] * 2

            def is_written(objects: Mapping[ObjectKey, ClusterObject]) -> bool:
                found, behaviour = objects.get(pool.key), objects.get(of.key)
                # Beside ours may stand what the CRD itself puts into a new object's status.
                return (
                    isinstance(found, Gateway)
                    and isinstance(behaviour, GatewayClass)
                    and (found.status.addresses, found.status.listeners) == (status.addresses, status.listeners)
                    and set(status.conditions) <= set(found.status.conditions)
                    and set(status.conditions) <= set(behaviour.conditions)
                )

            await reader.until(is_written)

    @whole
    async def test_finalizers_are_set_and_nothing_else(self) -> None:
        """Finalizers of a class are those asked for, then those asked for next; its spec and status stay."""
        async with self.make() as world:
            cluster = world.cluster()
            wanted = attrs.evolve(builders.gateway_class(), conditions=(_condition("Accepted"),))
            before = await self._put(world, wanted, GatewayClass)
            for finalizers in (("example.com/theirs", "example.com/ours"), ("example.com/theirs",), ()):
                stands = await self._class(world, before)
                outcome = await apply_one(cluster, self._finalizers(stands, *finalizers))
                assert outcome.is_done, outcome
                after = await self._class(world, before)
                assert after.meta.finalizers == finalizers
                assert attrs.evolve(after, meta=before.meta) == before

    @whole
    async def test_finalizers_on_an_old_version_or_another_uid_change_nothing(self) -> None:
        """A finalizer that another wrote in the meantime is not taken away, nor one set on a class made again."""
        async with self.make() as world:
            cluster = world.cluster()
            stands = await self._put(world, builders.gateway_class(), GatewayClass)
            other = attrs.evolve(stands.meta, uid="00000000-0000-0000-0000-000000000000")
            outcomes = await cluster.apply(
                [
                    self._finalizers(stands, "example.com/first"),
                    self._finalizers(stands, "example.com/second"),
                    self._finalizers(attrs.evolve(stands, meta=other), "example.com/third"),
                ]
            )
            assert [(each.is_done, each.stale) for each in outcomes] == [(True, False), (False, True), (False, True)]
            assert (await self._class(world, stands)).meta.finalizers == ("example.com/first",)

    @whole
    async def test_deleted_object_goes_with_its_last_finalizer(self) -> None:
        """A class that its user deleted stays until the finalizer is taken away, and then is gone."""
        async with self.make() as world, following(world.cluster()) as reader:
            cluster = world.cluster()
            stands = await self._put(world, builders.gateway_class(), GatewayClass)
            assert (await apply_one(cluster, self._finalizers(stands, "example.com/ours"))).is_done
            await world.remove("GatewayClass", "", stands.meta.name)
            await reader.until(lambda objects: getattr(objects.get(stands.key), "meta", stands.meta).is_terminating)
            waiting = cast("GatewayClass", reader.objects[stands.key])
            assert (await apply_one(cluster, self._finalizers(waiting))).is_done
            await reader.until(lambda objects: stands.key not in objects)

    @whole
    async def test_object_that_cannot_be_read_hides_no_other(self) -> None:
        """One that makes no sense is delivered as unreadable, with why, beside its neighbours; mended, as itself."""
        async with self.make() as world:
            good = from_model(builders.node("node-a"))
            broken = from_model(builders.node("node-b"))
            mended = from_model(builders.node("node-b"))
            broken["status"]["addresses"] = [{"type": "InternalIP", "address": "no address"}]
            await world.put(good)
            await world.put(broken)
            async with following(world.cluster()) as reader:
                await reader.until(lambda _: True)
                assert builders.node("node-a").key in reader.objects
                assert builders.node("node-b").key not in reader.objects
                assert "no address" in reader.unreadable[builders.node("node-b").key]
                await world.put(mended)
                await reader.until(lambda objects: builders.node("node-b").key in objects)
                assert not reader.unreadable
                await world.put(broken)
                await reader.until(lambda _: bool(reader.unreadable))
                await world.remove("Node", "", "node-b")
                await reader.until(lambda _: not reader.unreadable)
                assert builders.node("node-b").key not in reader.objects

    @whole
    async def test_forgotten_entries_of_the_status_go_and_no_other(self) -> None:
        """A replacement takes away what nodes without a part have said, whoever wrote it, and leaves the rest."""
        async with self.make() as world:
            cluster = world.cluster()
            made = await create(cluster, builders.attachment())
            for name in ("node-a", "node-b", "node-c"):
                report = NodeReport(node_name=name, epoch=1, at=builders.START)
                action = ReportNode(name=made.meta.name, uid=made.meta.uid, report=report)
                made = attachment_of(await apply_one(world.cluster(node_name=name), action))
            wanted = attrs.evolve(made, spec=attrs.evolve(made.spec, epoch=9))
            written = attachment_of(await apply_one(cluster, ReplaceAttachment(wanted, forgotten=("node-a", "node-c"))))
            assert (written.spec.epoch, [each.node_name for each in written.nodes]) == (9, ["node-b"])
            again = ReportNode(name=made.meta.name, uid=made.meta.uid, report=NodeReport(node_name="node-a", epoch=9))
            names = {
                each.node_name
                for each in attachment_of(await apply_one(world.cluster(node_name="node-a"), again)).nodes
            }
            assert names == {"node-a", "node-b"}

    @whole
    async def test_agents_write_their_own_entries_only(self) -> None:
        """Two agents report, one again: each has its newest entry and nobody lost one."""
        async with self.make() as world:
            made = await create(world.cluster(), builders.attachment())
            names = ("node-a", "node-b")
            agents = {name: world.cluster(node_name=name) for name in names}
            outcome = None
            for name, epoch in (("node-a", 1), ("node-b", 1), ("node-a", 2)):
                report = NodeReport(node_name=name, epoch=epoch, at=builders.START)
                outcome = await apply_one(
                    agents[name], ReportNode(name=made.meta.name, uid=made.meta.uid, report=report)
                )
            assert outcome is not None
            assert {each.node_name: each.epoch for each in attachment_of(outcome).nodes} == {"node-a": 2, "node-b": 1}

    @whole
    async def test_report_for_another_uid_is_stale(self) -> None:
        """A report about an attachment that was made again in the meantime is not written."""
        async with self.make() as world:
            made = await create(world.cluster(), builders.attachment())
            report = NodeReport(node_name="node-a", epoch=1)
            action = ReportNode(name=made.meta.name, uid="00000000-0000-0000-0000-000000000000", report=report)
            outcome = await apply_one(world.cluster(node_name="node-a"), action)
            assert (outcome.is_done, outcome.stale) == (False, True), outcome

    @whole
    async def test_node_is_confirmed_gone_by_what_stands_now(self) -> None:
        """A Node absent, of another UID or out of service is confirmed gone; one that is there is not."""
        async with self.make() as world:
            cluster = world.cluster()
            stands = await self._put(world, builders.node("node-a"), Node)

            async def ask(uid: str) -> Outcome:
                attachment = builders.attachment().key
                return await apply_one(
                    cluster, ConfirmNodeGone(name="node-a", uid=uid, attachment=attachment, resource_version="1")
                )

            present = await ask(stands.meta.uid)
            assert (present.is_done, present.stale) == (False, True)
            assert (await ask("00000000-0000-0000-0000-000000000000")).is_done
            off = await self._put(world, attrs.evolve(stands, out_of_service=True), Node)
            assert (await ask(off.meta.uid)).is_done
            await world.remove("Node", "", "node-a")
            assert (await ask(stands.meta.uid)).is_done

    @whole
    async def test_failed_action_does_not_stop_the_next(self) -> None:
        """Each action has its own outcome, in order, and one of a kind unknown is unsupported."""
        async with self.make() as world:
            made = await create(world.cluster(), builders.attachment())
            right = attrs.evolve(made, spec=attrs.evolve(made.spec, epoch=2))
            event = RecordEvent(
                regarding=made.key, uid=made.meta.uid, reason="Moved", action="Move", message="a to b", warning=True
            )
            unknown: Any = object()
            outcomes = await world.cluster().apply(
                [CreateAttachment(made), unknown, ReplaceAttachment(right), event, event]
            )
            assert [outcome.state for outcome in outcomes] == [
                OutcomeState.FAILED,
                OutcomeState.UNSUPPORTED,
                OutcomeState.DONE,
                OutcomeState.DONE,
                OutcomeState.DONE,
            ]

    @staticmethod
    async def _put(world: ClusterWorld, wanted: ClusterObject, _: type[T]) -> T:
        return cast("T", to_model(await world.put(from_model(wanted))))

    @staticmethod
    async def _class(world: ClusterWorld, stands: GatewayClass) -> GatewayClass:
        async with following(world.cluster()) as reader:
            await reader.until(lambda _: True)
            return cast("GatewayClass", reader.objects[stands.key])

    @staticmethod
    def _finalizers(stands: GatewayClass, *finalizers: str) -> SetFinalizers:
        meta = stands.meta
        return SetFinalizers(
            key=stands.key, uid=meta.uid, resource_version=meta.resource_version, finalizers=finalizers
        )

    @staticmethod
    async def _read(world: ClusterWorld, stands: GKEIPRoute) -> GKEIPRoute:
        async with following(world.cluster()) as reader:
            await reader.until(lambda _: True)
            return cast("GKEIPRoute", reader.objects[stands.key])

    @staticmethod
    def _report(stands: GKEIPRoute, status: RouteStatus) -> ReportRoute:
        meta = stands.meta
        return ReportRoute(key=stands.key, uid=meta.uid, resource_version=meta.resource_version, status=status)

"""
How do a controller and an agent use the API server?

In: an Access to it.  Out: batches of model objects; outcomes of actions.

    a Follower a kind ──latest objects──> Mailbox ──one Batch──> whoever iterates
    actions ──a chain an object──> Writer ──one request each──> outcomes
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Hashable, Sequence
from typing import Self

from persistip.backends.apiserver.access import Load
from persistip.backends.apiserver.client import Client
from persistip.backends.apiserver.follower import Follower
from persistip.backends.apiserver.lease import ApiServerLease
from persistip.backends.apiserver.mailbox import Mailbox
from persistip.backends.apiserver.recording import Recorder
from persistip.backends.apiserver.reporting import Sightings
from persistip.backends.apiserver.served import Served
from persistip.backends.apiserver.writing import Writer
from persistip.decide.extracts import reader
from persistip.errors import BackendError
from persistip.model.actions import (
    ClusterAction,
    CreateAttachment,
    DeleteAttachment,
    Outcome,
    RecordEvent,
    ReplaceAttachment,
    ReportNode,
)
from persistip.model.keys import DOMAIN, Kind, ObjectKey, node_label, short_hash
from persistip.runtime.retry import outcome_of
from persistip.strategies import Batch, Clock

CONTROLLER = "persistip-controller"


class ApiServerCluster:
    """
    The Cluster on a Kubernetes API server; enter it before use.

    With *node_name* it is an agent's: it watches the attachments that carry the node's label and nothing else.
    *manager* is the field manager of its status writes; each agent needs its own, which is the default. *instance*
    names this process in Events and spreads its requests in time. Where *annotations* are given, Pods and Nodes are
    delivered with these and with those that the rules read, and without the many that others write on them: give what
    the reaction modes read that are plugged in.
    """

    def __init__(
        self,
        load: Load,
        clock: Clock,
        *,
        node_name: str | None = None,
        manager: str = "",
        instance: str = "",
        annotations: Collection[str] | None = None,
    ) -> None:
        instance = instance or f"{socket.gethostname()}-{os.getpid()}"
        role = CONTROLLER if node_name is None else "persistip-agent"
        manager = manager or (role if node_name is None else f"{role}-{short_hash(node_name)}")
        self.client = Client(load, user_agent=role)
        self._instance = instance
        self._served = Served()
        self._kinds = tuple(Kind) if node_name is None else (Kind.ATTACHMENT,)
        self._is_read = reader(annotations) if annotations is not None else None
        self._labels = "" if node_name is None else node_label(node_name)
        recorder = Recorder(self.client, self._served, clock, controller=f"{DOMAIN}/{role}", instance=instance[:128])
        self._sightings = Sightings() if node_name is not None else None
        self._writer = Writer(self.client, self._served, recorder, self._sightings or Sightings(), manager=manager)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.client.__aexit__(*details)

    def lease(self, namespace: str, name: str) -> ApiServerLease:
        """The record by which replicas agree on one of them."""
        return ApiServerLease(self.client, namespace, name)

    async def changes(self) -> AsyncIterator[Batch]:
        """Batches of latest objects; raises BackendError when a kind cannot be followed any longer."""
        mailbox = Mailbox(self._kinds)
        followers = [
            Follower(
                self.client,
                self._served,
                kind,
                mailbox,
                labels=self._labels,
                seed=self._instance,
                is_read=self._is_read,
            )
            for kind in self._kinds
        ]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        try:
            while True:
                batch = await mailbox.take()
                if self._sightings is not None:
                    self._sightings.learn(batch)
                yield batch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Carry out *actions*: those about one object in order, others side by side; what fails is an Outcome."""
        outcomes: dict[int, Outcome] = {}
        chains: dict[Hashable, list[int]] = {}
        for number, action in enumerate(actions):
            chains.setdefault(_subject(action), []).append(number)

        async def run(chain: Sequence[int]) -> None:
            for number in chain:
                try:
                    outcomes[number] = await self._writer.write(actions[number])
                except BackendError as error:
                    outcomes[number] = outcome_of(error)

        async with asyncio.TaskGroup() as group:
            for chain in chains.values():
                group.create_task(run(chain))
        return [outcomes[number] for number in range(len(actions))]


def _subject(action: ClusterAction) -> Hashable:
    """What an action is about: two about one thing are done one after the other."""
    match action:
        case CreateAttachment(attachment=attachment) | ReplaceAttachment(attachment=attachment):
            return attachment.key
        case DeleteAttachment(name=name) | ReportNode(name=name):
            return ObjectKey(Kind.ATTACHMENT, "", name)
        case RecordEvent():
            return ("Event", action.regarding)
        case _:
            return getattr(action, "key", None)

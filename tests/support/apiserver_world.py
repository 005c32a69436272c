"""
A real API server as the contract of Cluster and a test see it.

In: the session's control plane.  Out: an empty cluster, the hands of its users, and a cable that can be cut: every
connection of what is under test goes through a relay of ours.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controlplane import LOOPBACK, Answer, ControlPlane

from persistip.backends.apiserver import ApiServerCluster, find_access
from persistip.model.actions import ClusterAction, Outcome
from persistip.model.keys import Kind
from persistip.runtime.clock import SystemClock
from persistip.strategies import Batch, ClusterObject
from persistip.wire.kinds import RESOURCES

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
ITS_OWN = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
SERVERS_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation")


class Relay:
    """Passes every connection on to an API server, until it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.is_refusing = False
        self.is_frozen = asyncio.Event()
        self.is_frozen.set()
        self.requests_pass = asyncio.Event()
        """Clear: what is asked stays here, and what the server tells goes on arriving."""
        self.requests_pass.set()

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._pass_on, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.is_refusing = True
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break every connection there is."""
        for end in tuple(self._ends):
            end.transport.abort()

    def redirect(self, port: int) -> None:
        """Break every connection, and pass the next ones on to another server."""
        self._to = port
        self.is_frozen.set()
        self.cut()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._to)
        except OSError:
            writer.transport.abort()
            return
        self._ends |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer, self.requests_pass), self._copy(far_reader, writer))
        self._ends -= {writer, far_writer}

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event | None = None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.is_frozen.wait()
                if passing is not None:
                    await passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Lazy:
    """A cluster that is entered when it is first used."""

    def __init__(self, inner: ApiServerCluster, stack: AsyncExitStack) -> None:
        self._inner, self._stack, self._entering = inner, stack, asyncio.Lock()
        self._is_entered = False

    async def entered(self) -> ApiServerCluster:
        """Return the cluster, its client open."""
        async with self._entering:
            if not self._is_entered:
                self._is_entered = True
                await self._stack.enter_async_context(self._inner)
        return self._inner

    async def changes(self) -> AsyncIterator[Batch]:
        """Pass on its changes."""
        batches = (await self.entered()).changes()
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Pass *actions* on."""
        return await (await self.entered()).apply(actions)


class ApiServerWorld:
    """An API server with nothing in it, and the hands of its users."""

    def __init__(self, plane: ControlPlane, relay: Relay, stack: AsyncExitStack) -> None:
        self.plane, self.relay, self._stack = plane, relay, stack

    # ------------------------------------------------------------ what is under test
    def kubeconfig(self, *, token: str = "") -> Path:
        """Return a kubeconfig that leads through the relay, the administrator's by default."""
        content = json.loads(self.plane.kubeconfig.read_text())
        if token:
            content["users"][0]["user"] = {"token": token}
        cluster = content["clusters"][0]["cluster"]
        cluster["server"] = urlsplit(cluster["server"])._replace(netloc=f"{LOOPBACK}:{self.relay.port}").geturl()
        path = self.plane.folder / f"through-{self.relay.port}.kubeconfig"
        path.write_text(json.dumps(content))
        return path

    def cluster(self, *, node_name: str | None = None, instance: str = "", token: str = "") -> Lazy:
        """Return a controller's or an agent's cluster."""
        load = find_access(str(self.kubeconfig(token=token)), "", os.environ)
        return Lazy(ApiServerCluster(load, SystemClock(), node_name=node_name, instance=instance), self._stack)

    # ------------------------------------------------------------ users
    async def put(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create or change an object, its status too."""
        kind, meta = str(obj["kind"]), obj["metadata"]
        if namespace := meta.get("namespace"):
            await self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        metadata = {field: value for field, value in meta.items() if field not in SERVERS_OWN}
        wanted: dict[str, Any] = {**obj, "metadata": metadata}
        status = wanted.pop("status", None)
        if kind == "Pod":
            wanted["spec"] = {"containers": [{"name": "main", "image": "none.invalid/none"}], **obj.get("spec", {})}
        path = path_of(kind, namespace or "", meta["name"])
        made = await self.ask("POST", path.rpartition("/")[0], wanted)
        if made.status == 409:
            change = {field: value for field, value in wanted.items() if kind != "Pod" or field != "spec"}
            await self.must("PATCH", path, change, MERGE_PATCH)
        elif not made.is_success:
            raise AssertionError(f"{path}: {made.status} {made.message}")
        if status is not None:
            stands = await self.must("GET", path)
            await self.must("PUT", f"{path}/status", {**stands, "status": status})
        found: Mapping[str, Any] = await self.must("GET", path)
        return found

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object; it is gone when this returns, unless a finalizer holds it."""
        path = path_of(kind, namespace, name)
        await self.must("DELETE", path, {"gracePeriodSeconds": 0})
        if kind == "Namespace":  # no controller runs that would
            found = await self.must("GET", path)
            await self.must("PUT", f"{path}/finalize", {**found, "spec": {"finalizers": []}})

    async def interrupt(self) -> None:
        """Break every connection."""
        self.relay.cut()

    async def get(self, kind: str, namespace: str, name: str) -> Mapping[str, Any]:
        """Return an object as it stands."""
        found: Mapping[str, Any] = await self.must("GET", path_of(kind, namespace, name))
        return found

    async def look(self, kind: str, namespace: str, name: str) -> Answer:
        """Return what is answered to who asks for an object; nothing while the server is away."""
        try:
            return await self.ask("GET", path_of(kind, namespace, name))
        except OSError as error:
            return Answer(503, {"message": str(error)})

    async def apply_status(self, of: ClusterObject, status: Mapping[str, Any], *, manager: str) -> None:
        """Apply a status as another controller would, by force."""
        resource = RESOURCES[of.key.kind]
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": of.meta.name, "namespace": of.meta.namespace},
            "status": status,
        }
        path = path_of(of.key.kind, of.meta.namespace, of.meta.name)
        await self.must("PATCH", f"{path}/status?fieldManager={manager}&force=true", body, APPLY_PATCH)

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
        """Ask as the administrator, past the relay."""
        return await asyncio.to_thread(self.plane.request, method, path, body, content_type=content_type)

    async def must(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """Ask for what must succeed."""
        return await asyncio.to_thread(self.plane.must, method, path, body, content_type=content_type)

    async def empty(self) -> None:
        """Take away all that a test may have left."""
        kept = {Kind.DEFINITION, Kind.NAMESPACE}
        for kind in (*(kind for kind in Kind if kind not in kept), "Lease", Kind.NAMESPACE):
            await self._empty(kind)

    async def _empty(self, kind: str) -> None:
        for each in await self._left(kind):
            meta = each["metadata"]
            path = path_of(kind, meta.get("namespace", ""), meta["name"])
            if meta.get("finalizers"):
                await self.ask("PATCH", path, {"metadata": {"finalizers": None}}, MERGE_PATCH)
            if kind == Kind.NAMESPACE:
                await self.remove(kind, "", meta["name"])
            else:
                await self.ask("DELETE", path, {"gracePeriodSeconds": 0})

    async def _left(self, kind: str) -> Iterator[Mapping[str, Any]]:
        listed = await self.ask("GET", path_of(kind, "", ""))
        while listed.status == 429:  # a kind whose storage is being prepared
            await asyncio.sleep(0.2)
            listed = await self.ask("GET", path_of(kind, "", ""))
        items = listed.body["items"] if listed.is_success else ()
        return (
            each
            for each in items
            if each["metadata"]["name"] not in (ITS_OWN | {"kubernetes"})
            and each["metadata"].get("namespace") not in ITS_OWN
        )


def path_of(kind: str, namespace: str, name: str) -> str:
    """Return the path of an object; without a name that of all of its kind."""
    resource = RESOURCES[kind]
    prefix = "/apis" if "/" in resource.api_version else "/api"
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}/{resource.api_version}{where}/{resource.plural}" + (f"/{name}" if name else "")


@asynccontextmanager
async def empty_world(plane: ControlPlane) -> AsyncIterator[ApiServerWorld]:
    """Give a world on *plane* in which nothing of an earlier test is left."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(plane.servers[0].port))
        world = ApiServerWorld(plane, relay, stack)
        await world.empty()
        yield world

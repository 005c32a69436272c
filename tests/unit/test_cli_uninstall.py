"""Does `persistip uninstall` find what it has marked, where nothing is left of the manifests?"""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from commandline import Said, call

from persistip.manifests import Parameters
from persistip.model.gateway import IN_USE_FINALIZER

CLASSES = "/apis/gateway.networking.k8s.io/v1/gatewayclasses"
THEIRS = "example.org/kept"


class Shelf(ThreadingHTTPServer):
    """
    An API server that knows GatewayClasses alone.

    It gives a person's command one look, and has no pages and no watches: whoever follows it never knows everything.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.classes: dict[str, dict[str, Any]] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever has heard enough leaves in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def put(self, name: str, controller: str, finalizers: list[str], *, has_status: bool) -> None:
        """Make a class; *has_status*: the controller has said something of it."""
        manager = {"manager": "persistip-controller", "operation": "Apply", "subresource": "status"}
        meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": "7", "finalizers": finalizers}
        made: dict[str, Any] = {"metadata": meta, "spec": {"controllerName": controller}}
        if has_status:
            meta["managedFields"] = [manager]
            made["status"] = {"conditions": [{"type": "Accepted", "status": "True"}]}
        self.classes[name] = made

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Return status and body of the answer."""
        found = urlsplit(target)
        if method == "GET" and found.query:
            return 503, {"message": "no pages and no watches"}
        name = found.path.removeprefix(f"{CLASSES}/").removesuffix("/status")
        if found.path == CLASSES:
            return 200, {"items": list(self.classes.values())}
        if not found.path.startswith(CLASSES) or name not in self.classes:
            return 404, {"message": "no such thing"}
        standing = self.classes[name]
        if method == "PATCH" and found.path.endswith("/status"):
            assert "status" not in body, "what is applied anew without a status is taken away"
            standing.pop("status", None)
            standing["metadata"].pop("managedFields", None)
        elif method == "PATCH":
            assert body["metadata"]["resourceVersion"] == standing["metadata"]["resourceVersion"]
            standing["metadata"]["finalizers"] = body["metadata"]["finalizers"]
        return 200, standing


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Shelf)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, found = self.server.answer(self.command, self.path, json.loads(body or "null"))
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PATCH(self) -> None:
        self.do_GET()

    def log_request(self, *_: object) -> None:
        """Say nothing: a test reads what is printed."""


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """Give such a server, on which nothing stands."""
    with Shelf() as server:
        serving = Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def uninstall(shelf: Shelf, folder: Path, *words: str) -> Said:
    """Run the verb on that server."""
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{shelf.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    user = {"name": "c", "user": {"token": "mine"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
    path.write_text(json.dumps(content))
    return call("uninstall", "--kubeconfig", str(path), *words)


def test_uninstall_by_force_frees_a_class_that_a_user_made(shelf: Shelf, tmp_path: Path) -> None:
    """Our finalizer and status go from your class, which stays; others' finalizers and classes are not touched."""
    shelf.put("mine", Parameters().controller_name, [IN_USE_FINALIZER, THEIRS], has_status=True)
    shelf.put("others", "example.org/controller", [IN_USE_FINALIZER], has_status=False)
    said = uninstall(shelf, tmp_path, "--force", "--timeout", "0.2")
    assert (said.status, said.err) == (0, "")
    assert said.out == "kept GatewayClass mine: it is yours; what the controller said of it goes\n"
    assert shelf.classes["mine"]["metadata"]["finalizers"] == [THEIRS]
    assert "status" not in shelf.classes["mine"]
    assert shelf.classes["others"]["metadata"]["finalizers"] == [IN_USE_FINALIZER]
    again = uninstall(shelf, tmp_path)
    assert (again.out, again.err, again.status) == ("nothing of ours is there\n", "", 0)


def test_uninstall_waits_while_a_class_that_a_user_made_is_held(shelf: Shelf, tmp_path: Path) -> None:
    """A class in use is let go by the controller's own rules: not while the cluster does not tell everything."""
    shelf.put("mine", Parameters().controller_name, [IN_USE_FINALIZER], has_status=True)
    said = uninstall(shelf, tmp_path, "--timeout", "0.2")
    assert (said.status, said.out) == (1, "")
    assert "nothing else is removed" in said.err
    assert "status" in shelf.classes["mine"]


def test_uninstall_drops_what_was_said_of_a_class_that_a_user_made(shelf: Shelf, tmp_path: Path) -> None:
    """A class that nothing holds needs no agents: what the controller said of it goes at once."""
    shelf.put("mine", Parameters().controller_name, [], has_status=True)
    assert uninstall(shelf, tmp_path).status == 0
    assert "status" not in shelf.classes["mine"]


def test_uninstall_dry_run_says_that_a_class_of_a_user_stays(shelf: Shelf, tmp_path: Path) -> None:
    """It is told that the class stays, and nothing has changed."""
    shelf.put("mine", Parameters().controller_name, [IN_USE_FINALIZER], has_status=True)
    said = uninstall(shelf, tmp_path, "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert said.out == "would keep GatewayClass mine: it is yours; what the controller said of it goes\n"
    assert shelf.classes["mine"]["metadata"]["finalizers"] == [IN_USE_FINALIZER]
    assert "status" in shelf.classes["mine"]

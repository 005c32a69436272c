"""
How does a test get an admission webhook of somebody else's that is in our way?

In: a control plane, what the webhook is asked about, and whether it refuses or says nothing.  Out: a TLS server in a
thread of the test, registered with the API server until the end of the block.
"""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from controlplane import ControlPlane
from programs import LOOPBACK

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
NAME = "fridays.example.com"
PATIENCE_SECONDS = 1
"""For which an API server waits for the webhook's word."""


class Answers(StrEnum):
    """What it says to what it is asked."""

    NO = "no"
    NOTHING = "nothing"


class Webhook:
    """One that runs; ``asked`` are the user names of those whose writes it was asked about."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.is_over = threading.Event()

    def answer(self, review: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an AdmissionReview, unless this is one that gives none."""
        request = review["request"]
        self.asked.append(request["userInfo"]["username"])
        if self.answers is Answers.NOTHING:
            self.is_over.wait()
        refusal = {"code": 403, "reason": "Forbidden", "message": "not on a Friday"}
        response = {"uid": request["uid"], "allowed": False, "status": refusal}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


@contextmanager
def webhook(plane: ControlPlane, resource: str, name: str, answers: Answers) -> Iterator[Webhook]:
    """Have every update of *resource* of persistip.dev named *name* judged by a webhook that must be asked."""
    found = Webhook(answers)
    server = _serve(plane, found)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    judge = {
        "name": NAME,
        "clientConfig": {
            "url": f"https://{LOOPBACK}:{server.server_port}/",
            "caBundle": base64.b64encode(plane.authority.pem).decode(),
        },
        "rules": [{
            "apiGroups": ["persistip.dev"], "apiVersions": ["*"], "resources": [resource], "operations": ["UPDATE"],
        }],
        "matchConditions": [{"name": "one", "expression": f"object.metadata.name == '{name}'"}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": PATIENCE_SECONDS,
        "admissionReviewVersions": ["v1"],
    }  # fmt: skip
    plane.must("POST", CONFIGURATIONS, {"metadata": {"name": NAME}, "webhooks": [judge]})
    try:
        yield found
    finally:
        plane.must("DELETE", f"{CONFIGURATIONS}/{NAME}")
        found.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _serve(plane: ControlPlane, judge: Webhook) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the library's name
            """Answer, or not."""
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = json.dumps(judge.answer(review)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Who asked has gone: that is what some of the tests are about."""

    certificate, key = plane.authority.issue("webhook", hosts=(LOOPBACK,))
    files = [plane.folder / "webhook.crt", plane.folder / "webhook.key"]
    for file, content in zip(files, (certificate, key), strict=True):
        file.write_bytes(content)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(*files)
    server = Server((LOOPBACK, 0), Handler)
    server.socket = trust.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server

"""
How does the cluster get its control plane, and how do tests speak with it?

In: the machine that it runs on, booted.  Out: etcd, an API server, controllers and a scheduler there, kubectl, and
requests made from this process through that machine's network. A refusal is an answer; no answer is an error.
"""

import contextlib
import http.client
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from certificates import Authority, key_pem, new_key, public_pem
from programs import READY_SECONDS, Program, until

from realcluster.files import kubeconfig
from realcluster.machine import Machine
from realcluster.plan import CONTROL, SERVICE_OF_API, SERVICES4, SERVICES6, Place

IP = Place(CONTROL).ip4
PORT = 6443
URL = f"https://{IP}:{PORT}"
ISSUER = "https://kubernetes.default.svc"
NOTICED_SECONDS = 8
"""With fast settings: a node that has said nothing for so long is not Ready."""


class RefusedError(AssertionError):
    """The API server or kubectl refused what a test takes for granted."""


class _Connection(http.client.HTTPSConnection):
    """A connection made from the control plane's machine, whichever network this process is in."""

    def __init__(self, machine: Machine, context: ssl.SSLContext, seconds: float) -> None:
        super().__init__(IP, PORT, context=context, timeout=seconds)
        self._machine = machine

    def connect(self) -> None:
        with self._machine.network():
            super().connect()


class API:
    """The control plane."""

    def __init__(self, machine: Machine, programs: Path, folder: Path, *, fast: bool) -> None:
        self.machine, self.programs, self.folder, self.is_fast = machine, programs, folder, fast
        folder.mkdir(parents=True)
        self.authority = Authority()
        self.authority_file = folder / "ca.crt"
        self._write_keys()
        self.admin = self.write_kubeconfig("admin", groups=("system:masters",))
        self._context = self._trust()
        self.etcd = Program("etcd", self._command("etcd", *self._etcd_flags()), folder)
        self.server = Program("kube-apiserver", self._command("kube-apiserver", *self._server_flags()), folder)
        flags = self._controller_flags()
        self.controllers = Program("kube-controller-manager", self._command("kube-controller-manager", *flags), folder)
        flags = self._client_flags("kube-scheduler")
        self.scheduler = Program("kube-scheduler", self._command("kube-scheduler", *flags), folder)

    @property
    def parts(self) -> tuple[Program, ...]:
        """Return its programs in the order of their start."""
        return self.etcd, self.server, self.controllers, self.scheduler

    # ------------------------------------------------------------ life
    def start(self) -> None:
        """Start etcd and the API server, without waiting."""
        self.etcd.start()
        self.server.start()

    def await_ready(self) -> None:
        """Return when the API server serves; then start what needs it."""

        def serves() -> bool:
            for part in (self.etcd, self.server):
                if not part.is_running:
                    raise RuntimeError(f"{part.name} ended:\n{part.last_words()}")
            with contextlib.suppress(OSError):
                return self.request("GET", "/readyz")[0] == 200
            return False

        until(serves, lambda: f"the API server to be ready\n{self.server.last_words()}")
        for part in (self.controllers, self.scheduler):
            if not part.is_running:
                part.start()

    def stop(self) -> None:
        """End all of it."""
        for part in reversed(self.parts):
            part.end(signal.SIGKILL)

    # ------------------------------------------------------------ requests
    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Ask as the administrator; return the status and the body."""
        connection = _Connection(self.machine, self._context, READY_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": content_type})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return response.status, json.loads(raw)
        return response.status, raw.decode(errors="replace")

    def must(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """Ask for something that a test takes for granted; return the body."""
        status, answer = self.request(method, path, body, **how)
        if status >= 300:
            raise RefusedError(f"{method} {path}: {status} {answer}")
        return answer

    def watch(self, path: str, seconds: float) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Give each change under *path* with the instant at which it was heard (monotonic nanoseconds)."""
        connection = _Connection(self.machine, self._context, seconds)
        try:
            connection.request("GET", f"{path}{'&' if '?' in path else '?'}watch=true&timeoutSeconds={int(seconds)}")
            response = connection.getresponse()
            if response.status != 200:
                raise ConnectionError(f"watch of {path}: {response.status}")
            while line := response.readline():
                yield time.monotonic_ns(), json.loads(line)
        finally:
            connection.close()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator would and return what it printed."""
        return self.shell(shlex.join(("kubectl", *arguments)), stdin=stdin)

    def shell(self, script: str, *, stdin: str | None = None, seconds: float = READY_SECONDS) -> str:
        """Run a command of a page as a person at the control plane's machine would; return what was printed."""
        done = subprocess.run(
            self.machine.command("bash", "-o", "pipefail", "-c", script), input=stdin, capture_output=True, text=True,
            timeout=seconds, env=os.environ | self.environment(), check=False,
        )  # fmt: skip
        if done.returncode:
            raise RefusedError(f"{script}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return what a shell needs to find kubectl, persistip and the cluster."""
        path = f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"KUBECONFIG": str(self.admin), "PATH": path, "HOME": str(self.folder)}

    # ------------------------------------------------------------ identities
    def write_kubeconfig(self, name: str, *, groups: tuple[str, ...] = ()) -> Path:
        """Write a kubeconfig for an identity and return its path."""
        certificate, key = self.authority.issue(name, groups=groups)
        path = self.folder / f"{name.replace(':', '.')}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(kubeconfig(URL, self.authority.pem, certificate, key))
        return path

    def _write_keys(self) -> None:
        server, server_key = self.authority.issue(
            "kube-apiserver", hosts=(IP, "127.0.0.1", "localhost", "kubernetes.default.svc", SERVICE_OF_API)
        )
        client, client_key = self.authority.issue("kube-apiserver", groups=("system:masters",))
        admin, admin_key = self.authority.issue("admin", groups=("system:masters",))
        accounts = new_key()
        for name, content in {
            "ca.crt": self.authority.pem,
            "server.crt": server,
            "server.key": server_key,
            "kubelets.crt": client,
            "kubelets.key": client_key,
            "admin.pem": admin + admin_key,
            "accounts.key": key_pem(accounts),
            "accounts.pub": public_pem(accounts),
        }.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.load_cert_chain(self.folder / "admin.pem")
        return context

    # ------------------------------------------------------------ flags
    def _command(self, name: str, *flags: str) -> list[str]:
        return self.machine.command(str(self.programs / name), *flags)

    def _etcd_flags(self) -> tuple[str, ...]:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        return (
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _server_flags(self) -> tuple[str, ...]:
        files = self.folder
        flags = (
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={IP}",
            f"--secure-port={PORT}",
            f"--service-cluster-ip-range={SERVICES4},{SERVICES6}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={files / 'ca.crt'}",
            f"--tls-cert-file={files / 'server.crt'}",
            f"--tls-private-key-file={files / 'server.key'}",
            f"--kubelet-client-certificate={files / 'kubelets.crt'}",
            f"--kubelet-client-key={files / 'kubelets.key'}",
            # By name is the default, and there are no names here.
            "--kubelet-preferred-address-types=InternalIP",
            # Nobody uses it; the other programs complain all the time when it is missing.
            f"--requestheader-client-ca-file={files / 'ca.crt'}",
            "--requestheader-allowed-names=nobody",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={files / 'accounts.pub'}",
            f"--service-account-signing-key-file={files / 'accounts.key'}",
            "--profiling=false",
        )
        tolerated = ("not-ready", "unreachable") if self.is_fast else ()
        return flags + tuple(f"--default-{each}-toleration-seconds=5" for each in tolerated)

    def _client_flags(self, name: str) -> tuple[str, ...]:
        own = self.write_kubeconfig(f"system:{name}")
        return (
            *(f"--{each}kubeconfig={own}" for each in ("", "authentication-", "authorization-")),
            "--leader-elect=false",
            "--profiling=false",
            f"--cert-dir={self.folder / name}",
        )

    def _controller_flags(self) -> tuple[str, ...]:
        flags = (
            *self._client_flags("kube-controller-manager"),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            # With its own limits it takes seconds until the first Pod can be made.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            f"--flex-volume-plugin-dir={self.folder / 'plugins'}",
        )
        pace = (f"--node-monitor-grace-period={NOTICED_SECONDS}s", "--node-monitor-period=1s") if self.is_fast else ()
        return flags + pace

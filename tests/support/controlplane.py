"""
How does a test get a real Kubernetes API?

In: the programs that kubernetes_binaries finds.  Out: etcd and one or more API servers on loopback in about three
seconds, and, where a test wants real StatefulSets and Deployments, controllers and a scheduler. No fake: what is
refused here is refused by Kubernetes. An audit log says who used which permission, and what anything cost in requests.

Everything lives in one temporary folder and ends with its owner; of one that was killed the next takes the folder away.
"""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from audit import AuditLog
from certificates import Authority, key_pem, new_key, public_pem
from kubernetes_binaries import MissingError, find_crds, find_programs
from owned_folder import OwnedFolder
from programs import LOOPBACK, READY_SECONDS, Program, free_port, until

from persistip.manifests import Parameters, render

SERVICE_RANGE = "10.96.0.0/16"
AUDIENCE = "https://kubernetes.default.svc"

# Everything once, when it is answered; a watch also when it begins, since it is answered only when it ends.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300

    @property
    def message(self) -> str:
        """Return the sentence of a refusal."""
        return self.body.get("message", "") if isinstance(self.body, dict) else str(self.body)


class RefusedError(AssertionError):
    """The API server refused what a test takes for granted."""


@dataclass
class APIServer:
    """One API server of the control plane."""

    plane: "ControlPlane"
    name: str
    port: int
    program: Program

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def audit_log(self) -> Path:
        """Return the file with one request a line."""
        return self.plane.folder / f"{self.name}.audit"

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.program.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an upgrade would."""
        self.program.end(signal.SIGTERM)

    def start(self, *, wait: bool = True) -> None:
        """Start it again, on the same port."""
        self.program.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return when it serves."""

        def serves() -> bool:
            if not self.program.is_running:
                raise RuntimeError(f"{self.name} ended:\n{self.program.last_words()}")
            try:
                return self.plane.request("GET", "/readyz", server=self).is_success
            except OSError:
                return False

        until(serves, f"{self.name} to be ready")


class ControlPlane:
    """
    etcd and API servers; use it as a context manager.

    ``admin`` is a token of ``system:masters``; ``kubeconfig`` a file that uses it with the first server.
    """

    def __init__(self, *, servers: int = 1, programs: Path | None = None) -> None:
        self.programs = programs or find_programs()
        self._owned = OwnedFolder("persistip-kubernetes-")
        self.folder = self._owned.path
        self.admin = uuid.uuid4().hex
        self.etcd_port = free_port()
        self.authority = Authority()
        self._tokens = {"kube-controller-manager": uuid.uuid4().hex, "kube-scheduler": uuid.uuid4().hex}
        self._trust = ssl.create_default_context(cadata=self.authority.pem.decode())
        self._write_files()
        self.etcd = self._program("etcd", self._etcd_flags())
        self.servers = [self._make_server() for _ in range(servers)]
        self.workload_programs: list[Program] = []
        self.kubeconfig = self.write_kubeconfig("admin", self.admin)

    # ------------------------------------------------------------ life
    def __enter__(self) -> Self:
        try:
            # An API server waits for etcd by itself.
            for program in (self.etcd, *(server.program for server in self.servers)):
                program.start()
            for server in self.servers:
                server.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for program in (*self.workload_programs, *(server.program for server in self.servers), self.etcd):
            program.end()
        self._owned.remove()

    def add_server(self) -> APIServer:
        """Start another API server on the same etcd."""
        server = self._make_server()
        self.servers.append(server)
        server.start()
        return server

    def start_workloads(self, *, without: Iterable[str] = ("node-lifecycle-controller",)) -> None:
        """
        Start the controllers and the scheduler, so that StatefulSets and Deployments make Pods.

        *without* names controllers that are left out: by default the one that finds Nodes dead, since no kubelet runs.
        """
        if self.workload_programs:
            return
        self.start_controllers("*", *(f"-{name}" for name in without))
        self._start_workload_program("kube-scheduler")

    def start_controllers(self, *names: str) -> None:
        """Start these of Kubernetes' own controllers."""
        self._start_workload_program(
            "kube-controller-manager",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            f"--controllers={','.join(names)}",
            # Its own limits would make a rolling update of a few Pods take seconds.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )

    def _start_workload_program(self, name: str, *flags: str) -> None:
        if not (self.programs / name).exists():
            raise MissingError(f"{self.programs} has no {name}")
        kubeconfig = self.write_kubeconfig(name, self._tokens[name], server=self.servers[-1])
        authentication = (f"--{each}-kubeconfig={kubeconfig}" for each in ("authentication", "authorization"))
        common = (f"--kubeconfig={kubeconfig}", *authentication, "--leader-elect=false", "--profiling=false")
        bound = (f"--bind-address={LOOPBACK}", f"--secure-port={free_port()}", f"--cert-dir={self.folder / name}")
        program = self._program(name, (*common, *bound, *flags))
        program.start()
        self.workload_programs.append(program)

    def compact(self) -> None:
        """
        Forget every old version of every object, so that whoever resumes from one is told 410.

        An API server still serves those that it keeps in memory, until it is started again.
        """
        now = self._etcd("/v3/maintenance/status", {})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": now, "physical": True})

    # ------------------------------------------------------------ requests
    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        server: APIServer | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Ask the API server, as the administrator unless *token* says otherwise; a refusal is an answer too."""
        port = (server or self.servers[0]).port
        connection = http.client.HTTPSConnection(LOOPBACK, port, context=self._trust, timeout=READY_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {token or self.admin}", "Content-Type": content_type}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(raw), response.headers)
        except ValueError:
            return Answer(response.status, raw.decode(errors="replace"), response.headers)

    def must(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """Ask as `request` does for something that a test takes for granted; return the body."""
        answer = self.request(method, path, body, **how)
        if not answer.is_success:
            raise RefusedError(f"{method} {path}: {answer.status} {answer.message}")
        return answer.body

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl as a user would and return what it printed."""
        done = self.try_kubectl(*arguments, stdin=stdin, kubeconfig=kubeconfig)
        if done.returncode:
            raise RefusedError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it ended."""
        # Its cache of what the server can do would outlive a CRD of the test before.
        environment = os.environ | {"KUBECONFIG": str(kubeconfig or self.kubeconfig), "HOME": str(self.folder)}
        command = [str(self.programs / "kubectl"), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=READY_SECONDS, env=environment, check=False
        )

    def add_node(self, name: str, *, ip: str | None = None, pod_cidr: str | None = None) -> Any:
        """Make a Node that is Ready and has room for Pods, as a kubelet would; return it."""
        spec = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]} if pod_cidr else {}
        # The label by which Pods are spread; every kubelet sets it.
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        self.must("POST", "/api/v1/nodes", {"metadata": metadata, "spec": spec})
        room = {"pods": "1000", "cpu": "64", "memory": "64Gi"}
        status: dict[str, Any] = {"capacity": room, "allocatable": room}
        status["conditions"] = [{"type": "Ready", "status": "True", "reason": "Test", "message": "a test says so"}]
        status["addresses"] = [{"type": "InternalIP", "address": ip}] if ip else []
        how = "application/merge-patch+json"
        return self.must("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, content_type=how)

    def install(self, *files: Path | str) -> None:
        """Apply CRDs (files, or folders of them) and wait until they are served."""
        named = [f"--filename={file}" for file in files]
        self.kubectl("apply", "--server-side", *named)
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *named)

    def install_upstream(self) -> None:
        """Install the CRDs of Gateway API and of GKE's networks."""
        self.install(*find_crds())

    def install_persistip(self, **parameters: Any) -> None:
        """Install what `persistip manifests` prints, after the CRDs that it stands on."""
        self.install_upstream()
        self.kubectl("apply", "--filename=-", stdin=render(Parameters(**parameters)))
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")

    # ------------------------------------------------------------ identities
    def write_kubeconfig(self, name: str, token: str, *, server: APIServer | None = None, url: str = "") -> Path:
        """Write a kubeconfig that uses *token* with *server* (default: the first), or at *url*; return its path."""
        where = {"server": url or (server or self.servers[0]).url, "certificate-authority": str(self.folder / "ca.crt")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": where}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "tests", "user": name}}],
            "current-context": name,
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return path

    def token(self, namespace: str, account: str, *, bound_to: Mapping[str, Any] | None = None) -> str:
        """Return a token of a ServiceAccount; *bound_to* is the Pod or Node that it lives and dies with."""
        spec: dict[str, Any] = {"audiences": [AUDIENCE], "expirationSeconds": 3600}
        if bound_to is not None:
            meta = bound_to["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1", "kind": bound_to["kind"], "name": meta["name"], "uid": meta["uid"],
            }  # fmt: skip
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(account)}/token"
        token: str = self.must("POST", path, body)["status"]["token"]
        return token

    def token_on_node(self, namespace: str, account: str, node: str) -> str:
        """Return a token as a Pod of *account* on *node* gets it; Node and Pod are made where they are missing."""
        if self.request("GET", f"/api/v1/nodes/{node}").status == 404:
            self.add_node(node)
        pod = {
            "metadata": {"generateName": f"{account}-"},
            "spec": {
                "serviceAccountName": account,
                "nodeName": node,
                "containers": [{"name": "main", "image": "none.invalid/none"}],
            },
        }
        made = self.must("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        return self.token(namespace, account, bound_to={"kind": "Pod", "metadata": made["metadata"]})

    # ------------------------------------------------------------ audit
    @contextlib.contextmanager
    def audited(self) -> Iterator[AuditLog]:
        """Give the log of what is asked from here on; at the end of the block everything answered is in it."""
        log = AuditLog({server.audit_log: self._settled(server) for server in self.servers})
        yield log
        for server in self.servers:
            self._settled(server)

    def _settled(self, server: APIServer) -> int:
        """Return the length of a server's audit log once all that has been answered so far is in it."""
        if not server.program.is_running:
            return server.audit_log.stat().st_size if server.audit_log.exists() else 0
        mark = f"/healthz?mark={uuid.uuid4().hex}"
        start = server.audit_log.stat().st_size if server.audit_log.exists() else 0
        self.request("GET", mark, server=server)

        def logged() -> int:
            with server.audit_log.open("rb") as log:
                log.seek(start)
                found = log.read()
                at = found.find(mark.encode())
                return start + found.index(b"\n", at) + 1 if at >= 0 and b"\n" in found[at:] else 0

        length: int = until(logged, f"the audit log of {server.name}")
        return length

    # ------------------------------------------------------------ files and flags
    def _write_files(self) -> None:
        hosts = (LOOPBACK, "localhost", "kubernetes.default.svc", "10.96.0.1")
        certificate, key = self.authority.issue("kube-apiserver", hosts=hosts)
        accounts = new_key()
        users = [f"{self.admin},admin,admin,system:masters"]
        users += [f"{token},system:{name},{name}" for name, token in self._tokens.items()]
        for name, content in {
            "ca.crt": self.authority.pem,
            "server.crt": certificate,
            "server.key": key,
            "accounts.key": key_pem(accounts),
            "accounts.pub": public_pem(accounts),
            "tokens.csv": "\n".join(users).encode() + b"\n",
            "audit.yaml": json.dumps(_AUDIT_POLICY).encode(),
        }.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _program(self, name: str, flags: Iterable[str]) -> Program:
        return Program(name, (str(self.programs / name.partition(".")[0]), *flags), self.folder)

    def _etcd_flags(self) -> Sequence[str]:
        client, peer = f"http://{LOOPBACK}:{self.etcd_port}", f"http://{LOOPBACK}:{free_port()}"
        return (
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Nothing has to survive a power cut of this machine.
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        connection = http.client.HTTPConnection(LOOPBACK, self.etcd_port, timeout=READY_SECONDS)
        try:
            connection.request("POST", path, json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def _make_server(self) -> APIServer:
        name, port = f"kube-apiserver.{free_port()}", free_port()
        flags = (
            f"--etcd-servers=http://{LOOPBACK}:{self.etcd_port}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={port}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self.folder / 'server.crt'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--client-ca-file={self.folder / 'ca.crt'}",
            # Nobody uses it; the other programs complain all the time when it is missing.
            f"--requestheader-client-ca-file={self.folder / 'ca.crt'}",
            "--requestheader-allowed-names=nobody",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-issuer={AUDIENCE}",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # One would refuse every Pod until a controller has made the namespace's default ServiceAccount; the other
            # keeps Pods off every Node until a controller has seen a kubelet there.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.folder / name}.audit",
            # Begun anew at 100 MB, as it is by default, it would lose what a test has yet to count.
            "--audit-log-maxsize=100000",
            "--allow-privileged=true",
            "--profiling=false",
        )
        return APIServer(self, name, port, self._program(name, flags))


def main() -> int:
    """Start a control plane with all that is installed, leave it up for a person, and print its KUBECONFIG."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), ControlPlane() as plane:
        plane.install_persistip()
        print(f"export KUBECONFIG={plane.kubeconfig} PATH={plane.programs}:$PATH", flush=True)
        if sys.stdin.isatty():
            print("here is a shell with that setting; the control plane ends with it", flush=True)
            mine = {"KUBECONFIG": str(plane.kubeconfig), "PATH": f"{plane.programs}:{os.environ.get('PATH', '')}"}
            return subprocess.run([os.environ.get("SHELL", "sh")], env=os.environ | mine, check=False).returncode
        print("it ends with SIGINT or SIGTERM", flush=True)
        while True:
            signal.pause()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MissingError as missing:
        sys.exit(f"no control plane: {missing}")

"""How a process gets in: kubeconfig, a Pod's service account, exec plugins, tokens that change."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from controlplane import LOOPBACK, ControlPlane

from persistip.backends.apiserver import ApiServerCluster, find_access
from persistip.backends.apiserver.access import Load
from persistip.errors import ConfigError, RefusedError, UnavailableError
from persistip.runtime.clock import SystemClock

pytestmark = [pytest.mark.requires("apiserver"), pytest.mark.asyncio]

PLUGIN = """
import json, pathlib, sys
token = pathlib.Path(sys.argv[1]).read_text()
version = "client.authentication.k8s.io/v1"
print(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}))
"""


async def ask(load: Load, times: int = 1, between: Any = lambda: None) -> Sequence[bytes]:
    """Ask for the namespaces with that access, so many times."""
    async with ApiServerCluster(load, SystemClock()) as cluster:
        answers = []
        for _ in range(times):
            answers.append(await cluster.client.request("GET", "/api/v1/namespaces"))
            between()
        return answers


async def test_pod_uses_its_service_account_and_each_new_token(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A Pod needs no kubeconfig; the token that the kubelet puts in the old one's place is used from then on."""
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.pem)
    (tmp_path / "token").write_text(control_plane.admin)
    port = control_plane.servers[0].port
    environ = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(port)}

    def rotate() -> None:
        (tmp_path / "new").write_text("not a token")
        (tmp_path / "new").replace(tmp_path / "token")

    load = find_access("", "", environ, tmp_path)
    assert b"kube-system" in (await ask(load))[0]
    with pytest.raises(RefusedError, match="Unauthorized"):
        await ask(load, 2, between=rotate)


async def test_pod_with_an_ended_token_goes_on_with_the_next(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A process that the server no longer knows needs no restart: the kubelet's next token is used at once."""
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.pem)
    (tmp_path / "token").write_text("ended long ago")
    environ = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(control_plane.servers[0].port)}
    async with ApiServerCluster(find_access("", "", environ, tmp_path), SystemClock()) as cluster:
        with pytest.raises(RefusedError, match="Unauthorized"):
            await cluster.client.request("GET", "/api/v1/namespaces")
        (tmp_path / "new").write_text(f"{control_plane.admin}\n")
        (tmp_path / "new").replace(tmp_path / "token")
        assert b"kube-system" in await cluster.client.request("GET", "/api/v1/namespaces")


async def test_user_who_acts_as_another_has_the_rights_of_that_one(control_plane: ControlPlane, tmp_path: Path) -> None:
    """What the kubeconfig says of acting as somebody reaches the server, who names that one in its refusal."""
    content = json.loads(control_plane.kubeconfig.read_text())
    content["users"][0]["user"]["as"] = "nobody-in-particular"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(content))
    with pytest.raises(RefusedError, match='User "nobody-in-particular" cannot list'):
        await ask(find_access(str(path), "", os.environ))
    content["users"][0]["user"]["as-groups"] = ["system:masters"]
    path.write_text(json.dumps(content))
    assert b"kube-system" in (await ask(find_access(str(path), "", os.environ)))[0]


async def test_context_chooses_cluster_and_user(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The current context is used unless another is named, and one that is not there is a wrong setting."""
    content = json.loads(control_plane.kubeconfig.read_text())
    content["users"].append({"name": "nobody", "user": {"token": "wrong"}})
    content["contexts"].append({"name": "other", "context": {"cluster": "tests", "user": "nobody"}})
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(content))
    assert b"kube-system" in (await ask(find_access(str(path), "", os.environ)))[0]
    with pytest.raises(RefusedError, match="Unauthorized"):
        await ask(find_access(str(path), "other", os.environ))
    with pytest.raises(ConfigError, match="none-such"):
        await ask(find_access(str(path), "none-such", os.environ))


async def test_exec_plugin_is_asked_again_when_its_token_has_ended(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A token that the server no longer takes is replaced by what the plugin gives now, within the same request."""
    script, token = tmp_path / "plugin.py", tmp_path / "token"
    script.write_text(PLUGIN)
    token.write_text("ended long ago")
    content = json.loads(control_plane.kubeconfig.read_text())
    command = {"command": sys.executable, "args": [str(script), str(token)]}
    content["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", **command}
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(content))
    async with ApiServerCluster(find_access(str(path), "", os.environ), SystemClock()) as cluster:
        token.write_text(control_plane.admin)
        assert b"kube-system" in await cluster.client.request("GET", "/api/v1/namespaces")


async def test_certificate_of_somebody_else_is_not_trusted(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A server that the authority did not certify is told nothing, not even who asks."""
    content = json.loads(control_plane.kubeconfig.read_text())
    del content["clusters"][0]["cluster"]["certificate-authority"]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(content))
    with control_plane.audited() as log, pytest.raises(UnavailableError, match="certificate"):
        await ask(find_access(str(path), "", os.environ))
    assert [each for each in log.events() if "namespaces" in each["requestURI"]] == []

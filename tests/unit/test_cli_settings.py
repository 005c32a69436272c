"""Do the settings that change decisions reach them, from flags and from the environment?"""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
import yaml
from commandline import call

from persistip.cli import main, run
from persistip.model.views import Policy
from persistip.settings import ControllerSettings

CLASS = "gke-persistent-fast-regional-external-managed"
FAST = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: public-addresses, namespace: network}}
data: {{allowedAddresses: 192.0.2.0/24}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {CLASS}}}
spec:
  controllerName: persistip.dev/controller
  parametersRef: {{group: "", kind: ConfigMap, name: public-addresses, namespace: network}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: network}}
spec:
  gatewayClassName: {CLASS}
  addresses: [{{type: gke.networking.io/cidr, value: 192.0.2.128/27}}]
  listeners: [{{name: any, port: 1, protocol: none, allowedRoutes: {{namespaces: {{from: All}}}}}}]
---
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {{name: nat, namespace: phone}}
spec:
  parentRefs: [{{name: public, namespace: network}}]
  addresses: [{{type: IPAddress, value: 192.0.2.140}}]
  podSelector: {{matchLabels: {{app: nat}}}}
  nodeSelector: {{matchLabels: {{pool: edge}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-a, labels: {{pool: edge}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-b, labels: {{pool: edge}}}}
"""


def reasons(*arguments: str) -> dict[str, str]:
    """The reason of the condition Accepted of each object of ours, by kind."""
    said = call("plan", "-f", "-", "-o", "json", *arguments, documents=[FAST])
    items: list[dict[str, Any]] = yaml.safe_load(said.out)["items"]
    return {
        each["kind"]: condition["reason"]
        for each in items
        for condition in each["status"]["conditions"]
        if condition["type"] == "Accepted"
    }


def test_plan_without_settings_accepts() -> None:
    """What the other cases change is fine by default."""
    assert reasons() == {"GatewayClass": "Accepted", "Gateway": "Accepted", "GKEIPRoute": "Accepted"}


@pytest.mark.parametrize(
    ("arguments", "kind", "reason"),
    [
        (("--policy.node-cap", "1"), "GKEIPRoute", "TooManyNodes"),
        (("--policy.service-cidrs", "192.0.2.0/24"), "Gateway", "UnsupportedAddress"),
        (
            ("--policy.service-cidrs", "10.96.0.0/12", "--policy.service-cidrs", "192.0.2.140/32"),
            "Gateway",
            "UnsupportedAddress",
        ),
    ],
)
def test_plan_decides_by_the_settings_of_the_controller(arguments: tuple[str, ...], kind: str, reason: str) -> None:
    """A cap on nodes and Service ranges change what is said as they would in the cluster."""
    assert reasons(*arguments)[kind] == reason


def test_explain_takes_the_same_settings() -> None:
    """The verb that answers for one route decides by them too."""
    said = call("explain", "nat", "-f", "-", "--policy.node-cap", "1", documents=[FAST])
    assert "selects 2 nodes, at most 1 can be prepared" in said.out


def test_classes_of_another_controller_name_are_ours_if_we_are_told_so() -> None:
    """A setting, and not the name in our own examples, says which classes are served."""
    said = call("plan", "-f", "-", "--policy.controller-name", "example.com/other", documents=[FAST])
    assert "No GKEIPRoute of ours is given." in said.out
    assert "belongs to controller 'persistip.dev/controller'" in said.err


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[ControllerSettings]:
    """Which settings a controller would have been started with, instead of starting one."""
    found: list[ControllerSettings] = []

    async def controller(*arguments: object, **_: object) -> None:
        found.extend(each for each in arguments if isinstance(each, ControllerSettings))

    monkeypatch.setattr(run, "_controller", controller)
    monkeypatch.setattr(run, "configure_logs", lambda *_: None)
    return found


RANGES = (ip_network("10.96.0.0/12"), ip_network("fd00:1::/108"))


def test_controller_takes_settings_from_flags(taken: list[ControllerSettings]) -> None:
    """Ranges of both families may be given one by one."""
    ranges = [word for each in RANGES for word in ("--policy.service-cidrs", str(each))]
    call("run", "controller", "--cluster", "memory:/x", *ranges, "--policy.node-cap", "32")
    assert [each.policy for each in taken] == [Policy(service_cidrs=RANGES, node_cap=32)]


def test_controller_takes_settings_from_the_environment(
    taken: list[ControllerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest sets them without touching the command."""
    monkeypatch.setenv("PERSISTIP_POLICY_SERVICE_CIDRS", " ".join(map(str, RANGES)))
    monkeypatch.setenv("PERSISTIP_POLICY_NODE_CAP", "16")
    call("run", "controller", "--cluster", "memory:/x")
    assert [each.policy for each in taken] == [Policy(service_cidrs=RANGES, node_cap=16)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "controller", "--workers", "0"), "setting workers is 0; it must be at least 1"),
        (("run", "controller", "--writes-per-second", "0"), "setting writes_per_second is 0; it must be more than 0"),
        (("run", "controller", "--policy.damping-seconds=-1"), "setting policy.damping_seconds is -1; it must be at"),
        (("run", "controller", "--election.lease-seconds", "1"), "are 2, 10, 1; each must be more than the one before"),
        (("run", "agent", "--node-name", "a", "--rounds", "0"), "setting rounds is 0; it must be at least 1"),
        (
            ("run", "agent", "--node-name", "a", "--announce.every-seconds", "inf"),
            "setting announce.every_seconds is inf; it must be more than 0, and finite",
        ),
        (("plan", "-f", "-", "--policy.node-cap=-1"), "setting policy.node_cap is -1; it must be at least 0"),
        (("explain", "nat", "-f", "-", "--policy.damping-seconds", "nan"), "setting policy.damping_seconds is nan; it"),
    ],
)
def test_setting_out_of_bounds_is_a_sentence(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that cannot work is named with what would do, ends with status 2, and shows no traceback."""
    monkeypatch.setattr("sys.argv", ["persistip", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.err.startswith("persistip: setting")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize(
    ("command", "arguments", "setting"),
    [
        (run.controller, ("--workers", "0"), "workers"),
        (run.agent, ("--node-name", "a", "--rounds", "0"), "rounds"),
    ],
)
def test_process_of_its_own_name_says_the_same(
    command: Callable[[], None],
    arguments: tuple[str, ...],
    setting: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The console scripts of a container end like the verb."""
    monkeypatch.setattr("sys.argv", ["persistip-x", *arguments])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"persistip: setting {setting} is 0; it must be at least 1\n"

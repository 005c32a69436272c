"""Do `plan`, `explain` and `move` tell the truth about a live cluster, with the least rights, in human sentences?"""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from audit import permission
from commandline import Said, call, run_script
from controlplane import ControlPlane
from living import ROUTES, Living, account
from programs import until

from persistip.backends import apiserver
from persistip.backends.apiserver import find_access
from persistip.manifests import Parameters, build

pytestmark = pytest.mark.requires("apiserver")

READER = next(
    each for each in build(Parameters(), ["rbac.yaml"]) if each["metadata"]["name"] == "persistip-reader"
)  # fmt: skip
NOTHING = "Nothing would be written: what stands is what the rules give."
GIVE = """
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
cp "$0"/* /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""
IN_A_POD = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", GIVE)
"""Runs what follows with the files of the folder that comes next in the kubelet's place."""
PREFER = "persistip.dev/prefer"


@pytest.fixture(scope="module")
def living() -> Iterator[Living]:
    """Return a cluster at work, with one route held by the newer of two Pods, on node-b."""
    with ControlPlane() as plane:
        plane.install_persistip()
        cluster = Living(plane)
        with cluster.running():
            cluster.pool("tenant", "203.0.113.0/28")
            cluster.pod("tenant", "nat-0", "node-a", app="nat")
            until_next_second(cluster)
            cluster.pod("tenant", "nat-1", "node-b", app="nat")
            cluster.pod("tenant", "nat-2", "node-a", app="nat", ready=False)
            cluster.pod("tenant", "other", "node-a", app="other")
            cluster.pod("tenant", "solo-0", "node-a", app="solo")
            cluster.route("tenant", "nat", "203.0.113.5")
            cluster.route("tenant", "solo", "203.0.113.8")
            cluster.wait_held("tenant", "nat", "nat-1")
            cluster.wait_held("tenant", "solo", "solo-0")
            # Nobody who only looks may change anything: what is asked is counted from a cluster at rest.
            until(lambda: NOTHING in admin(cluster)("plan").out, "the cluster to be at rest")
            yield cluster


def until_next_second(cluster: Living) -> None:
    """Return when an object made now is newer than those that are there: Kubernetes counts in whole seconds."""

    def made() -> str:
        body = {"metadata": {"generateName": "clock-"}}
        return cluster.plane.must("POST", "/api/v1/namespaces/default/configmaps", body)["metadata"][
            "creationTimestamp"
        ]

    first = made()
    until(lambda: made() != first, "the next second")


Verb = Callable[..., Said]


def admin(living: Living) -> Verb:
    """Return the command line of the cluster's administrator."""
    return lambda *words: call(*words, "--kubeconfig", str(living.plane.kubeconfig))


@pytest.fixture(scope="module")
def reader(living: Living) -> Path:
    """Return the kubeconfig of a ServiceAccount that has the role persistip-reader and no other right."""
    return account(living, "eve", "persistip-reader")


def rows(text: str) -> list[str]:
    """Return the lines with one space where there are several."""
    return [re.sub(r" {2,}", " ", line.strip()) for line in text.splitlines()]


# ---------------------------------------------------------------- plan
def test_plan_of_cluster_at_rest_writes_nothing(living: Living, reader: Path) -> None:
    """A reader sees what is held, and that the controller has nothing to write."""
    said = call("plan", "--kubeconfig", str(reader))
    assert (said.status, said.err) == (0, "")
    assert "tenant/nat 203.0.113.5 nat-1 node-b True Ready" in rows(said.out)
    assert NOTHING in said.out


def test_plan_and_explain_need_the_readers_role_and_all_of_it(living: Living) -> None:
    """Who has the role persistip-reader can plan and explain; no right of it but to watch stays unused."""
    kubeconfig = account(living, "counted", "persistip-reader")
    with living.plane.audited() as log:
        for verb in ("plan",), ("explain", "nat"):
            assert call(*verb, "--kubeconfig", str(kubeconfig)).status == 0
    used = {permission(event) for event in log.by("system:serviceaccount:default:counted")}
    given = {
        (verb, group, resource)
        for rule in READER["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == {each for each in given if each[0] != "watch"}


def test_plan_while_controller_is_down_says_what_it_would_write(living: Living, reader: Path) -> None:
    """What stands and what the rules give are shown side by side when nobody acts on them."""
    living.stop("controller")
    try:
        living.route("tenant", "late", "203.0.113.6")
        living.pod("tenant", "late-0", "node-a", app="late")
        said = call("plan", "--kubeconfig", str(reader))
        written = rows(said.out.partition("What would be written?\n")[2])
        assert "GKEIPRoute tenant/late pods - late-0" in written
        (holder,) = [line for line in written if line.startswith("AddressAttachment") and " holder " in line]
        assert holder.endswith("holder - late-0 on node-a")
        assert any("Ready - False, Programming:" in line for line in written), "no node has programmed it"
        asked = json.loads(call("plan", "-o", "json", "--kubeconfig", str(reader)).out)
        assert {"object": "GKEIPRoute tenant/late", "what": "pods", "now": "", "then": "late-0"} in asked["writes"]
    finally:
        living.start("controller")
    living.wait_held("tenant", "late", "late-0")
    until(lambda: NOTHING in call("plan", "--kubeconfig", str(reader)).out, "the cluster to be at rest")


def test_plan_of_files_over_the_cluster_shows_the_difference(living: Living, reader: Path, tmp_path: Path) -> None:
    """A route in a file that claims what another holds in the cluster loses to it; the cluster does not change."""
    route = living.plane.must("GET", f"{ROUTES.format('tenant')}/nat")
    spec = route["spec"] | {"podSelector": {"matchLabels": {"app": "other"}}}
    thief = {"apiVersion": "networking.gke.io/v1", "kind": "GKEIPRoute", "spec": spec}
    file = tmp_path / "thief.yaml"
    file.write_text(yaml.safe_dump(thief | {"metadata": {"name": "thief", "namespace": "tenant"}}))
    said = call("plan", "-f", str(file), "--live", "--kubeconfig", str(reader))
    assert "tenant/nat 203.0.113.5 nat-1 node-b True Ready" in rows(said.out)
    assert "tenant/thief 203.0.113.5 - - False AddressConflict" in rows(said.out)
    # An edit of what is there, by the same file: the addresses would go.
    file.write_text(yaml.safe_dump(thief | {"metadata": {"name": "nat", "namespace": "tenant"}}))
    edited = call("plan", "-f", str(file), "--kubeconfig", str(reader))
    assert "GKEIPRoute tenant/nat pods nat-1 other" in rows(edited.out)
    assert living.status("tenant", "nat")["pods"] == ["nat-1"]


def test_plan_without_node_of_the_cluster_names_the_successor(living: Living, reader: Path) -> None:
    """What if node-b dies? is answered from the cluster itself."""
    said = call("plan", "--without-node", "node-b", "--kubeconfig", str(reader))
    assert "tenant/nat 203.0.113.5 nat-1 on node-b nat-0 on node-a newest" in rows(said.out)


# ---------------------------------------------------------------- explain
def test_explain_on_the_cluster_tells_pods_nodes_and_writes(living: Living, reader: Path) -> None:
    """Each Pod has its answer, each node its report, and nothing is left to write."""
    said = call("explain", "nat", "--kubeconfig", str(reader))
    assert (said.status, said.err) == (0, "")
    lines = rows(said.out)
    assert "nat-1 node-b holds the addresses" in lines
    assert "nat-2 node-a no, it is not Ready" in lines
    (report,) = [line for line in lines if line.startswith("node-b holds ")]
    assert "Programmed" in report
    assert "nothing: what stands is what the rules give" in lines


def test_explain_while_agent_is_down_says_what_is_missing(living: Living, reader: Path) -> None:
    """A holder on a node whose agent is silent is not Ready, and the node's line asks for the agent."""
    living.stop("node-a")
    try:
        living.pod("tenant", "silent-0", "node-a", app="silent")
        living.route("tenant", "silent", "203.0.113.7")
        until(lambda: living.status("tenant", "silent").get("pods") == ["silent-0"], "the controller to decide")
        said = call("explain", "silent", "--kubeconfig", str(reader))
        assert "not Ready, Programming" in said.out
        assert any("is its agent running?" in line for line in rows(said.out) if line.startswith("node-a holds"))
    finally:
        living.start("node-a")
    living.wait_held("tenant", "silent", "silent-0")


# ---------------------------------------------------------------- in a Pod
def test_verbs_in_a_pod_read_by_its_account(living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig the Pod's own files lead to the server, the reader's role is enough, nothing is written."""
    plane, (host, port) = living.plane, urlsplit(living.plane.servers[0].url).netloc.split(":")
    account(living, "in-pod", "persistip-reader")
    (tmp_path / "token").write_text(plane.token("default", "in-pod"))
    (tmp_path / "ca.crt").write_bytes((plane.folder / "ca.crt").read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    # The kubelet's place for these files is root's to write.
    monkeypatch.setattr(apiserver, "find_access", partial(find_access, folder=tmp_path))
    with plane.audited() as log:
        assert "tenant/nat 203.0.113.5 nat-1 node-b True Ready" in rows(call("plan").out)
        assert "nat-1" in call("explain", "tenant/nat").out
        said = call("move", "tenant/nat", "--to", "nat-0", "--dry-run")
    assert (said.status, "goes from nat-1 on node-b to nat-0 on node-a" in said.out) == (0, True)
    asked = log.by("system:serviceaccount:default:in-pod")
    assert {event["verb"] for event in asked} == {"get", "list"}


@pytest.mark.requires("kernel")
def test_move_in_a_pod_waits_until_it_delivers(unmoved: Living) -> None:
    """A Pod of a cluster, with nothing but what the kubelet gives it, moves the addresses by the console script."""
    plane = unmoved.plane
    account(unmoved, "mover", "persistip-reader")
    plane.kubectl("create", "clusterrole", "mover", "--verb=patch", "--resource=gkeiproutes.networking.gke.io")
    plane.kubectl("create", "clusterrolebinding", "moves", "--clusterrole=mover", "--serviceaccount=default:mover")
    files = plane.folder / "given"
    files.mkdir()
    (files / "token").write_text(plane.token_on_node("default", "mover", "node-b"))
    (files / "ca.crt").write_bytes((plane.folder / "ca.crt").read_bytes())
    (files / "namespace").write_text("tenant")
    host, port = urlsplit(plane.servers[0].url).netloc.split(":")
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "KUBECONFIG": "/nowhere"}
    with plane.audited() as log:
        said = run_script(
            "move", "nat", "--to", "nat-0", "--wait", inside=[*IN_A_POD, str(files)], environment=environment
        )
    assert (said.status, said.err) == (0, "")
    assert re.search(r"^nat-0 on node-a holds .*; it delivered after \d+ ms", said.out, re.MULTILINE)
    asked = log.by("system:serviceaccount:default:mover")
    writes = [permission(event) for event in asked if event["verb"] not in ("get", "list", "watch")]
    assert writes == [("patch", "networking.gke.io", "gkeiproutes")]


# ---------------------------------------------------------------- move
@pytest.fixture
def unmoved(living: Living) -> Iterator[Living]:
    """Return the cluster with nat-1 holding by the rule, and bring that back afterwards."""
    yield living
    assert admin(living)("move", "nat", "--clear").status == 0
    living.wait_held("tenant", "nat", "nat-1")


def test_move_to_pod_waits_until_it_delivers(unmoved: Living) -> None:
    """The address goes to the Pod that is named, and the milliseconds are told once its node delivers."""
    said = admin(unmoved)("move", "tenant/nat", "--to", "nat-0", "--wait")
    assert (said.status, said.err) == (0, "")
    first, last = said.out.splitlines()
    assert first.endswith("203.0.113.5 goes from nat-1 on node-b to nat-0 on node-a (preferred)")
    assert re.fullmatch(r"nat-0 on node-a holds .*; it delivered after \d+ ms, DPV2Ready after \d+ ms", last)
    assert unmoved.status("tenant", "nat")["pods"] == ["nat-0"]
    back = admin(unmoved)("move", "nat", "--clear", "--wait")
    assert back.out.splitlines()[0].endswith("goes from nat-0 on node-a to nat-1 on node-b (preferred no longer)")
    assert back.status == 0


def test_move_to_node_picks_the_pod_that_may(unmoved: Living) -> None:
    """Of the Pods on a Node the one that may hold the addresses gets them."""
    assert admin(unmoved)("move", "nat", "--to", "node/node-a", "--wait").status == 0
    route = unmoved.plane.must("GET", f"{ROUTES.format('tenant')}/nat")
    assert route["metadata"]["annotations"][PREFER] == "nat-0"


def test_move_to_present_holder_pins_it(unmoved: Living) -> None:
    """Who prefers the present holder keeps it against a newer Pod to come."""
    said = admin(unmoved)("move", "nat", "--to", "nat-1", "--wait")
    assert (said.status, "stays with nat-1 on node-b" in said.out) == (0, True)


def test_move_dry_run_writes_nothing(living: Living, reader: Path) -> None:
    """Who may only read is told what would happen, and nothing does."""
    said = call("move", "nat", "--to", "nat-0", "--dry-run", "--kubeconfig", str(reader))
    assert (said.status, "goes from nat-1 on node-b to nat-0 on node-a" in said.out) == (0, True)
    assert PREFER not in living.plane.must("GET", f"{ROUTES.format('tenant')}/nat")["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nat", "--to", "nat-2"], "Pod tenant/nat-2 may not hold the addresses: it is not Ready"),
        (["nat", "--to", "other"], "it does not match spec.podSelector (app=nat)"),
        (["nat", "--to", "nat-9"], "there is neither a Pod 'nat-9' in namespace tenant nor such a Node; did you mean"),
        (["nat", "--to", "node/nat-0"], "there is neither a Pod 'node/nat-0' in namespace tenant nor such a Node"),
        (["solo", "--to", "node-b"], "no Pod on Node node-b may hold the addresses: no Pod of the route is there"),
        (["nta", "--to", "nat-0"], "no GKEIPRoute 'nta' could be read; did you mean tenant/nat?"),
        (["nat"], "say where the addresses shall go with --to POD or --to NODE, or take it back with --clear"),
        (["nat", "--to", "nat-0", "--clear"], "say where the addresses shall go"),
    ],
)
def test_move_that_cannot_be_says_why(living: Living, words: list[str], why: str) -> None:
    """A Pod that may not hold the addresses, and a name that means nothing, are refused in a sentence."""
    said = admin(living)("move", *words)
    assert (said.status, said.out) == (2, "")
    assert why in said.err


def test_move_of_a_frozen_route_names_the_annotation(living: Living) -> None:
    """A route whose choice is frozen would not follow, and the rule that keeps it is named."""
    living.route("tenant", "nat", "203.0.113.5", **{"persistip.dev/hold": "true"})
    said = admin(living)("move", "nat", "--to", "nat-0")
    assert (said.status, "would not go to nat-0, but to nat-1 on node-b: held by annotation" in said.err) == (2, True)
    living.route("tenant", "nat", "203.0.113.5")


def test_move_while_controller_is_down_ends_in_time(unmoved: Living) -> None:
    """Who waits in vain is told that nobody has acted, and by the exit status."""
    unmoved.stop("controller")
    try:
        said = admin(unmoved)("move", "nat", "--to", "nat-0", "--wait", "--timeout", "0.5")
        assert said.status == 1
        assert "not done after 0.5 s: it is nat-1 on node-b that holds the addresses; is the controller" in said.err
    finally:
        unmoved.start("controller")
    unmoved.wait_held("tenant", "nat", "nat-0")


# ---------------------------------------------------------------- what cannot be
@pytest.mark.parametrize("verb", [["plan"], ["explain", "nat"], ["move", "nat", "--to", "nat-0"]])
def test_no_right_to_read_names_what_is_missing(living: Living, verb: list[str]) -> None:
    """Who may read nothing is told which kinds, for whom, and which role has them all."""
    stranger = living.plane.folder / "stranger.kubeconfig"
    if not stranger.exists():
        account(living, "stranger")
    said = call(*verb, "--kubeconfig", str(stranger))
    assert (said.status, said.out) == (2, "")
    assert 'User "system:serviceaccount:default:stranger" cannot list' in said.err
    assert "pods, nodes" in said.err
    assert "the ClusterRole persistip-reader has all of it" in said.err


def test_no_right_to_move_names_what_is_missing(living: Living, reader: Path) -> None:
    """Who may read and not write the route is told so, and nothing moves."""
    said = call("move", "nat", "--to", "nat-0", "--kubeconfig", str(reader))
    assert said.status == 2
    assert "you may not do this: " in said.err
    assert 'cannot patch resource "gkeiproutes"' in said.err
    assert living.status("tenant", "nat")["pods"] == ["nat-1"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--context", "nowhere"], "there is no context 'nowhere' in kubeconfig"),
        (["--kubeconfig", "/nowhere/config"], "no kubeconfig at /nowhere/config"),
    ],
)
def test_wrong_context_is_named(living: Living, words: list[str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context or a kubeconfig that is not there is named, with those that are."""
    monkeypatch.setenv("KUBECONFIG", str(living.plane.kubeconfig))
    said = call("plan", *words)
    assert (said.status, said.out) == (2, "")
    assert why in said.err
    assert "there are: admin" in said.err or "nowhere/config" in said.err


def test_stranger_and_dead_server_are_told_apart(living: Living, tmp_path: Path) -> None:
    """A token that nobody knows and a server that does not answer have a sentence each."""
    unknown = living.plane.write_kubeconfig("unknown", "nobody-knows-me")
    assert "the API server does not know you" in call("plan", "--kubeconfig", str(unknown)).err
    content = json.loads(unknown.read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    dead = tmp_path / "dead"
    dead.write_text(json.dumps(content))
    assert "the API server cannot be reached: " in call("plan", "--kubeconfig", str(dead)).err

"""`persistip plan` as people and programs use it: what it prints, on which stream, and how it ends."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from commandline import Said, call
from hypothesis import given
from hypothesis import strategies as st

from persistip.cli.tables import print_table

NO_POD = "no Pod in namespace phone matches spec.podSelector (app=nat)"
NOW = "2030-01-31T12:00:00Z"
CLASS = "gke-persistent-regional-external-managed"
FURNITURE = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: public-addresses, namespace: network}}
data: {{allowedAddresses: 192.0.2.128/25}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {CLASS}}}
spec:
  controllerName: persistip.dev/controller
  description: kept as it is
  parametersRef: {{group: "", kind: ConfigMap, name: public-addresses, namespace: network}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: network}}
spec:
  gatewayClassName: {CLASS}
  addresses: [{{type: gke.networking.io/cidr, value: 192.0.2.128/27}}]
  listeners: [{{name: any, port: 1, protocol: none, allowedRoutes: {{namespaces: {{from: All}}}}}}]
"""


def route(name: str, *addresses: str, app: str = "nat", **metadata: str) -> str:
    """Return a route of namespace phone."""
    return yaml.safe_dump(
        {
            "apiVersion": "networking.gke.io/v1",
            "kind": "GKEIPRoute",
            "metadata": {"name": name, "namespace": "phone", **metadata},
            "spec": {
                "parentRefs": [{"name": "public", "namespace": "network"}],
                "addresses": [{"type": "IPAddress", "value": each} for each in addresses],
                "podSelector": {"matchLabels": {"app": app}},
            },
        }
    )


def pod(name: str, node: str, *, app: str = "nat", ready: bool = True, hour: int = 8) -> str:
    """Return a Pod of namespace phone that is as old as *hour* says."""
    ip = f"10.0.{ord(node[-1]) - 96}.{len(name) + hour}"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "phone",
                "labels": {"app": app},
                "creationTimestamp": f"2030-01-31T{hour:02}:00:00Z",
            },
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }
    )


def node(name: str) -> str:
    """Return a Node."""
    return f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"


NAT = route("nat", "192.0.2.140")
PODS = (pod("nat-0", "node-a"), pod("nat-1", "node-b", hour=9))
CLUSTER = (FURNITURE, NAT, *PODS, node("node-a"), node("node-b"))
CONFLICT = (
    route("early", "192.0.2.150", creationTimestamp="2030-01-01T00:00:00Z"),
    route("late", "192.0.2.150", "192.0.2.151", creationTimestamp="2030-01-02T00:00:00Z"),
)


@attrs.frozen
class Planned(Said):
    """What `persistip plan` said."""

    @property
    def plain(self) -> dict[str, Any]:
        """What was printed for programs."""
        found: dict[str, Any] = yaml.safe_load(self.out)
        return found

    def item(self, kind: str, name: str) -> dict[str, Any]:
        """The one object of that kind and name."""
        (found,) = (each for each in self.plain["items"] if (each["kind"], each["metadata"]["name"]) == (kind, name))
        return dict(found)


def plan(*arguments: str, documents: Iterable[str] = CLUSTER) -> Planned:
    """Run `persistip plan -f -`."""
    when = () if "--now" in arguments else ("--now", NOW)
    return Planned(*attrs.astuple(call("plan", "-f", "-", *arguments, *when, documents=documents)))


def test_table_says_who_holds_what() -> None:
    """By default people get a table of routes and Gateways, and nothing else when nothing is wrong."""
    said = plan()
    assert said == Planned(
        "ROUTE       ADDRESSES     POD     NODE     READY   REASON\n"
        "phone/nat   192.0.2.140   nat-1   node-b   True    Ready\n"
        "\n"
        "GATEWAY          ADDRESSES        LISTENERS       PROGRAMMED   REASON\n"
        "network/public   192.0.2.128/27   any (1 route)   True         Programmed\n",
        "",
        0,
    )


def test_table_says_what_is_wrong_below() -> None:
    """What is not as its owner wished is said in a line for each object."""
    said = plan(documents=(FURNITURE, NAT, route("far", "198.51.100.1")))
    assert "phone/nat   192.0.2.140    -     -      False   NoEligiblePod\n" in said.out
    assert f"GKEIPRoute phone/nat: {NO_POD}\n" in said.out
    assert "GKEIPRoute phone/far: spec.addresses[0].value: 198.51.100.1 is not in the pool of Gateway" in said.out
    assert said.status == 0


def test_gateway_and_class_that_are_wrong_are_said_below() -> None:
    """A class whose parameters are missing is named as the cause, at the class and at its Gateway."""
    _, *rest = FURNITURE.split("---")
    said = plan(documents=("---".join(rest),))
    assert "No GKEIPRoute of ours is given.\n" in said.out
    for subject in (f"GatewayClass {CLASS}", "Gateway network/public"):
        assert f"{subject}: spec.parametersRef names ConfigMap network/public-addresses, which does" in said.out


BAD_LISTENER = FURNITURE.replace("listeners: [", "listeners: [{name: web, port: 80, protocol: HTTP}, ")
AND_AN_ADDRESS = "value: 192.0.2.128/27}, {type: IPAddress, value: 203.0.113.1}"


@pytest.mark.parametrize(
    ("furniture", "said"),
    [
        (BAD_LISTENER, ("listener 'web'",)),
        (BAD_LISTENER.replace("value: 192.0.2.128/27}", AND_AN_ADDRESS), ("listener 'web'", "203.0.113.1 ")),
    ],
)
def test_bad_listener_beside_a_good_one_is_said_below_once(furniture: str, said: tuple[str, ...]) -> None:
    """A Gateway that stays accepted has one line for what is wrong with it, its listeners included."""
    lines = [
        line for line in plan(documents=(furniture,)).out.splitlines() if line.startswith("Gateway network/public")
    ]
    assert len(lines) == 1
    assert all(lines[0].count(words) == 1 for words in said)


def test_address_without_a_value_has_words_in_the_table() -> None:
    """An address without a value is no gap between commas, and nobody is promised that one will be reserved."""
    said = plan(documents=(FURNITURE.replace("value: 192.0.2.128/27}", "value: 192.0.2.128/27}, {type: IPAddress}"),))
    assert "network/public   192.0.2.128/27, (no value)   " in said.out


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_list_holds_our_objects_with_status_and_the_attachments(form: str) -> None:
    """Programs get a v1 List: objects as they were given, with the status they would get, and the attachments."""
    said = plan("-o", form)
    shown = json.loads(said.out) if form == "json" else said.plain
    assert (shown["apiVersion"], shown["kind"]) == ("v1", "List")
    assert [each["kind"] for each in shown["items"]] == ["GatewayClass", "Gateway", "GKEIPRoute", "AddressAttachment"]
    class_, gateway, nat, attachment = shown["items"]
    assert class_["spec"]["description"] == "kept as it is"
    assert nat["metadata"] == {"name": "nat", "namespace": "phone"}
    assert nat["status"]["pods"] == ["nat-1"]
    assert gateway["status"]["listeners"][0]["attachedRoutes"] == 1
    assert attachment["spec"]["pod"]["name"] == "nat-1"
    assert "releasing" not in attachment["spec"]
    assert "resourceVersion" not in attachment["metadata"]
    assert "pending" not in attachment["spec"]["addresses"][0]


def test_status_of_others_stays_in_the_list() -> None:
    """Of a status we replace what is ours, also what is no longer true, and leave the rest."""
    own = {"type": "Example", "status": "True", "reason": "Theirs", "message": "", "lastTransitionTime": NOW}
    given = yaml.safe_load(FURNITURE.split("---")[1])
    given["status"] = {"supportedFeatures": [{"name": "x"}], "conditions": [own]}
    nat = yaml.safe_load(NAT)
    nat["status"] = {"pods": ["long-gone"]}
    said = plan("-o", "yaml", documents=(yaml.safe_dump(given), yaml.safe_dump(nat)))
    status = said.item("GatewayClass", CLASS)["status"]
    assert status["supportedFeatures"] == [{"name": "x"}]
    assert {each["type"] for each in status["conditions"]} == {"Example", "Accepted", "SupportedVersion"}
    assert "pods" not in said.item("GKEIPRoute", "nat")["status"]


# ---------------------------------------------------------------- without
def test_without_node_says_what_moves_and_what_is_left() -> None:
    """With a node gone, the table shows the cluster after it, and then each address that changes hands or has none."""
    documents = (*CLUSTER, route("sip", "192.0.2.141", app="sip"), pod("sip-0", "node-b", app="sip"))
    said = plan("--without-node", "node-b", documents=documents)
    assert "phone/nat   192.0.2.140   nat-0   node-a   True    Ready\n" in said.out
    assert said.out.partition("Without node-b:\n")[2].splitlines() == [
        "ROUTE       ADDRESSES     FROM              TO                WHY",
        "phone/nat   192.0.2.140   nat-1 on node-b   nat-0 on node-a   newest",
        f"phone/sip   192.0.2.141   sip-0 on node-b   nobody            {NO_POD.replace('nat', 'sip')}",
    ]


def test_without_pods_says_the_same_to_programs() -> None:
    """The List has the objects after the loss and, beside them, the changes."""
    said = plan("-o", "yaml", "--without-pod", "phone/nat-1", "phone/nat-0")
    assert said.plain["changes"] == [
        {
            "route": {"namespace": "phone", "name": "nat"},
            "addresses": ["192.0.2.140"],
            "from": {"pod": "nat-1", "nodeName": "node-b"},
            "to": None,
            "reason": NO_POD,
        }
    ]
    assert "pod" not in next(each for each in said.plain["items"] if each["kind"] == "AddressAttachment")["spec"]


def test_without_what_holds_nothing_says_that_nothing_moves() -> None:
    """A loss that concerns no address is said to concern none."""
    assert plan("--without-pod", "phone/nat-0").out.endswith("\nWithout phone/nat-0: nothing moves.\n")
    assert plan("--without-pod", "phone/nat-0", "-o", "json").plain["changes"] == []


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--without-node", "node-c", "persistip: there is no Node 'node-c' to be without; did you mean node-"),
        ("--without-pod", "nat-1", "persistip: there is no Pod 'nat-1' to be without; did you mean phone/nat-1?"),
        ("--without-node", "x", "persistip: there is no Node 'x' to be without; there are: node-a, node-b\n"),
    ],
)
def test_without_the_unknown_is_refused(option: str, name: str, said: str) -> None:
    """A name that nothing has ends with status 2 and what was probably meant."""
    answer = plan(option, name)
    assert (answer.out, answer.status) == ("", 2)
    assert answer.err.startswith(said)


# ---------------------------------------------------------------- exit status
@pytest.mark.parametrize(
    ("documents", "status"),
    [
        (CLUSTER, 0),
        ((FURNITURE, NAT), 1),
        ((*CLUSTER, route("far", "198.51.100.1")), 1),
        ((*CLUSTER, "kind: GKEIPRoute\nmetadata: {name: x}\n"), 1),
        ((FURNITURE.replace(f"kind: GatewayClass\nmetadata: {{name: {CLASS}}}", "kind: Role"), NAT), 1),
        ((*CLUSTER[1:], FURNITURE.replace("persistip.dev/controller", "networking.gke.io/gateway")), 0),
    ],
    ids=["held", "unheld", "refused", "unreadable", "class-not-given", "of-another-controller"],
)
def test_strict_fails_for_routes_that_nobody_holds(documents: tuple[str, ...], status: int) -> None:
    """With --strict every route that should be ours and is not held counts; without it none does."""
    assert plan("--strict", documents=documents).status == status
    assert plan(documents=documents).status == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "persistip: without -f a cluster is read, and no kubeconfig at /nowhere/config, and this is no Pod"),
        (["plan", "-f", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory\n"),
        (["plan", "-f", "-", "--now", "yesterday"], "persistip: --now 'yesterday' is no instant; write it as 2030-"),
        (["plan", "-f", "-", "--now", "2030-01-31T12:00:00"], "persistip: --now '2030-01-31T12:00:00' is no instant"),
        (["plan", "-f", "-", "--allocator", "acme"], "persistip: no backend 'acme' among the allocators; there are:"),
    ],
)
def test_nothing_to_work_on_ends_with_status_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and options that cannot be used at all are told from routes that are refused."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    answer = call(*arguments, documents=CLUSTER)
    assert (answer.out, answer.status) == ("", 2)
    assert answer.err.startswith(said)


def test_empty_input_ends_with_status_2() -> None:
    """Standard input without any object is a mistake, and said."""
    answer = plan(documents=())
    assert answer.err == "stdin: holds no object\npersistip: there is no object to work on in these files\n"
    assert (answer.out, answer.status) == ("", 2)


def test_file_that_is_missing_among_others_ends_with_status_2_after_the_plan(tmp_path: Path) -> None:
    """What can be read is planned all the same, but a misspelt path must not look like success."""
    (tmp_path / "all.yaml").write_text("---\n".join(CLUSTER))
    answer = call("plan", "-f", str(tmp_path / "all.yaml"), "-f", str(tmp_path / "nowhere"))
    assert "nat-1" in answer.out
    assert answer.err.endswith("nowhere: cannot be read: No such file or directory\n")
    assert answer.status == 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("apiVersion: v1\nkind: List\nitems: {kind: Pod}\n", "items: is an object; a List has its objects there"),
        ("kind: [GKEIPRoute\n", "is no YAML, the rest of this document is lost"),
    ],
)
def test_document_of_which_nothing_can_be_told_ends_with_status_2_after_the_plan(document: str, said: str) -> None:
    """The others are planned all the same, but what was in it may be what was asked about."""
    answer = plan(documents=(*CLUSTER, document))
    assert "nat-1   node-b   True" in answer.out
    assert said in answer.err
    assert answer.status == 2


def test_condition_of_a_move_is_shown_without_what_the_event_needs() -> None:
    """Where a move began is kept in the condition for the Event at its end; in a table it only distracts."""
    broken = "apiVersion: persistip.dev/v1alpha1\nkind: AddressAttachment\nmetadata: {name: r-x}\nspec: {epoch: many}\n"
    answer = plan(documents=(*CLUSTER, broken))
    assert "nothing is granted until it is mended or deleted\n" in answer.out
    assert "; before: nobody; rule: newest" in plan("-o", "yaml", documents=(*CLUSTER, broken)).out


def test_class_that_is_not_given_is_told_with_where_to_get_it() -> None:
    """The manifests of a how-to begin with a Gateway; its class is among what is installed."""
    answer = plan(documents=(FURNITURE.replace(f"kind: GatewayClass\nmetadata: {{name: {CLASS}}}", "kind: Role"), NAT))
    assert f"GatewayClass {CLASS!r} is not given; `persistip manifests` prints it\n" in answer.err


# ---------------------------------------------------------------- files
def test_folders_and_several_files_are_read(tmp_path: Path) -> None:
    """A folder, files after it as a shell writes them, and standard input all count."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "base.yaml").write_text(FURNITURE)
    (tmp_path / "nat.yml").write_text(NAT)
    (tmp_path / "pod.json").write_text(json.dumps(yaml.safe_load(PODS[0])))
    names = [str(tmp_path / each) for each in ("folder", "nat.yml", "pod.json")]
    answer = call("plan", "-f", *names, "-f", "-", documents=[node("node-a")])
    assert answer.err == ""
    assert "nat-0   node-a   True" in answer.out


def test_fault_is_said_with_its_place_and_costs_its_object_alone() -> None:
    """A mistake is named by file, line, object and field, with the fix; every other object is planned."""
    broken = route("broken", "192.0.2.141").replace("podSelector", "podselector")
    said = plan(documents=(*CLUSTER, broken))
    assert "GKEIPRoute phone/broken: spec.podselector: unknown field; did you mean podSelector?\n" in said.err
    assert said.err.startswith("stdin:")
    assert "nat-1   node-b   True" in said.out
    assert "broken" not in said.out


def test_object_that_rests_on_a_fault_is_not_judged() -> None:
    """A Gateway with a typing error exists: its routes are not told that there is none."""
    said = plan("-o", "yaml", documents=(FURNITURE.replace("listeners:", "listener:"), *CLUSTER[1:]))
    assert (
        "persistip: GKEIPRoute phone/nat is not judged, since what it rests on could not be read (Gateway" in said.err
    )
    assert [each["kind"] for each in said.plain["items"]] == ["GatewayClass"]
    assert plan("--strict", documents=(FURNITURE.replace("listeners:", "listener:"), *CLUSTER[1:])).status == 1


def test_other_kinds_are_ignored_with_one_line() -> None:
    """What nothing is decided by is counted in one line, Istio's Gateway and kinds unknown to us included."""
    others = [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nspec: {nonsense: 1}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: c}\n",
        "apiVersion: example.com/v1\nkind: HTTPRoute\nmetadata: {name: d}\n",
        "apiVersion: networking.gke.io/v1\nkind: NetworkInterface\nmetadata: {name: e}\n",
    ]
    said = plan(documents=(*CLUSTER, *others))
    assert said.err == (
        "persistip: ignored, since nothing is decided by them: "
        "1 Gateway.networking.istio.io, 1 HTTPRoute, 1 NetworkInterface, 2 Secret\n"
    )
    assert said.out == plan().out


@pytest.mark.parametrize("kind", ["GKEIProute", "GKEIPRout", "gateway"])
def test_kind_misspelt_is_a_fault_and_not_ignored(kind: str) -> None:
    """A kind that is all but one of ours is a slip, which must not cost a route in silence."""
    said = plan(documents=(*CLUSTER, f"apiVersion: networking.gke.io/v1\nkind: {kind}\nmetadata: {{name: x}}\n"))
    assert f"kind: unknown kind '{kind}'; did you mean G" in said.err


def test_nodes_are_assumed_with_one_line_where_none_is_given() -> None:
    """Files without Nodes are taken at their word; with some, a Pod elsewhere is refused with the reason."""
    said = plan(documents=CLUSTER[:4])
    assert said.err == "persistip: no Node is given: node-a, node-b are taken to exist, out of Pods\n"
    assert "nat-1   node-b   True" in said.out
    some = plan(documents=CLUSTER[:5])
    assert some.err == ""
    assert "nat-0   node-a   True" in some.out


@pytest.mark.parametrize("form", ["table", "yaml"])
def test_gateway_of_another_controller_is_left_alone_and_said(form: str) -> None:
    """What is not ours is no part of the answer, and one line for each says so."""
    other = FURNITURE.replace("persistip.dev/controller", "networking.gke.io/gateway")
    said = plan("-o", form, documents=(other, NAT))
    assert f"Gateway network/public is left alone: GatewayClass '{CLASS}' belongs to controller" in said.err
    assert f"GKEIPRoute phone/nat is left alone: Gateway network/public is not ours (GatewayClass '{CLASS}'" in said.err
    assert "192.0.2" not in said.out


# ---------------------------------------------------------------- properties
@given(st.randoms(use_true_random=False), st.sampled_from(["table", "yaml"]))
def test_any_order_of_documents_prints_the_same(shuffle: random.Random, form: str) -> None:
    """The order of documents and files means nothing."""
    documents = [*FURNITURE.split("---\n"), *CLUSTER[1:], *CONFLICT, route("idle", "192.0.2.152", app="none")]
    straight = plan("-o", form, documents=documents)
    shuffle.shuffle(documents)
    assert plan("-o", form, documents=documents).out == straight.out


@given(
    st.lists(st.sampled_from([*CLUSTER[1:], *CONFLICT, pod("nat-2", "node-a", ready=False, hour=10)]), unique=True),
    st.sampled_from([NOW, "2031-01-31T12:00:00Z"]),
)
def test_plan_fed_back_with_its_input_is_unchanged(documents: list[str], later: str) -> None:
    """What was printed, in place of what was given and beside the rest, comes to the same at any later time."""
    said = plan("-o", "yaml", documents=(FURNITURE, *documents))
    printed = {(each["kind"], each["metadata"]["name"]) for each in said.plain["items"]}
    given_ = [each for text in (FURNITURE, *documents) for each in yaml.safe_load_all(text)]
    rest = [yaml.safe_dump(each) for each in given_ if (each["kind"], each["metadata"]["name"]) not in printed]
    assert plan("-o", "yaml", "--now", later, documents=(said.out, *rest)).out == said.out


# ---------------------------------------------------------------- as a process
def test_process_prints_to_a_pipe_that_closes_without_a_traceback() -> None:
    """`persistip plan … | head` ends quietly when the reader has read enough."""
    process = subprocess.Popen(
        [sys.executable, "-m", "persistip.cli", "plan", "-f", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write("---\n".join(CLUSTER))
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 141


def test_table_on_a_terminal_is_coloured_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal rich draws the table; everywhere else it is plain and the same for every width."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    rows = [("a" * 40, "True"), ("", "False")]
    with redirect_stdout(Terminal()) as terminal:
        print_table(("NAME", "READY"), rows)
    assert "\x1b[32mTrue" in terminal.getvalue()
    assert "a" * 40 not in terminal.getvalue()
    with redirect_stdout(io.StringIO()) as plain:
        print_table(("NAME", "READY"), rows)
    assert plain.getvalue().splitlines()[1:] == [f"{'a' * 40}   True", f"-{' ' * 42}False"]

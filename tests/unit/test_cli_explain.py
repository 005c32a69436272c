"""`persistip explain`: are parents, rivals, Pods and the rule that decided said as they are?"""

import json
import re

import pytest
import yaml
from commandline import Said, call

from persistip.backends.apiserver.snapshot import Snapshot
from persistip.backends.registry import find_reaction_modes
from persistip.cli.move import _Case
from persistip.errors import ConfigError
from persistip.model.keys import Kind, ObjectKey
from persistip.model.views import Policy
from persistip.runtime.standins import complete
from persistip.wire.files import read_text

BASE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: allowed, namespace: net}
data: {allowedAddresses: 192.0.2.128/25}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: gke-persistent-regional-external-managed}
spec:
  controllerName: persistip.dev/controller
  parametersRef: {group: "", kind: ConfigMap, name: allowed, namespace: net}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: net}
spec:
  gatewayClassName: gke-persistent-regional-external-managed
  addresses: [{type: gke.networking.io/cidr, value: 192.0.2.128/27}]
  listeners:
  - {name: all, port: 1, protocol: none, allowedRoutes: {namespaces: {from: All}}}
  - {name: own, port: 1, protocol: none}
  - {name: odd, port: 1, protocol: odd}
---
apiVersion: v1
kind: Node
metadata: {name: a}
"""


def route(name: str = "nat", *addresses: str, hour: int = 1, **spec: object) -> str:
    """Return a route of namespace phone."""
    default = {
        "parentRefs": [{"name": "public", "namespace": "net"}],
        "addresses": [{"type": "IPAddress", "value": each} for each in addresses or ("192.0.2.140",)],
        "podSelector": {"matchLabels": {"app": "nat"}},
    }
    metadata = {"name": name, "namespace": "phone", "creationTimestamp": f"2030-01-31T{hour:02}:00:00Z"}
    return yaml.safe_dump(
        {"apiVersion": "networking.gke.io/v1", "kind": "GKEIPRoute", "metadata": metadata, "spec": default | spec}
    )


def pod(name: str, *, hour: int = 1, node: str = "a", ready: str = "True", ips: tuple[str, ...] | None = None) -> str:
    """Return a Pod that the routes select, with an IP of its own."""
    ips = (f"10.0.0.{10 + sum(name.encode()) % 200}",) if ips is None else ips
    metadata = {"name": name, "namespace": "phone", "labels": {"app": "nat"}}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata | {"creationTimestamp": f"2030-01-31T{hour:02}:00:00Z"},
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": ip} for ip in ips],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }
    )


def explain(name: str, *documents: str, arguments: tuple[str, ...] = ()) -> Said:
    """Run `persistip explain NAME -f -` over the base and *documents*."""
    return call("explain", name, "-f", "-", "--now", "2030-02-01T00:00:00Z", *arguments, documents=(BASE, *documents))


def section(said: Said, question: str) -> list[str]:
    """Return the lines below a question, with one space where there are several."""
    body = said.out.partition(f"\n{question}\n")[2].partition("\n\n")[0]
    return [re.sub(r" {2,}", " ", line.strip()) for line in body.splitlines()]


def test_holder_is_explained_from_parents_to_conditions() -> None:
    """Each question of a route that is well has its section, in the order in which the answers follow."""
    said = explain("nat", route(), pod("old"), pod("new", hour=2))
    assert said.out.startswith("GKEIPRoute phone/nat is Ready: held by Pod new on Node a\n")
    questions = [line for line in said.out.splitlines() if line.endswith("?")]
    assert questions == [
        "Which parents admit it?",
        "What may it claim?",
        "Which Pods match app=nat?",
        "Which rule decided?",
        "What does its status say?",
    ]
    assert section(said, "What may it claim?")[1:] == ["192.0.2.140 yes, it is in the pool of Gateway net/public"]
    assert section(said, "Which rule decided?") == ["newest"]
    assert (said.err, said.status) == ("", 0)


def test_every_pod_is_told_why() -> None:
    """Each Pod that the selector matches has its own answer, whether it holds, could hold, or may not."""
    pods = [
        pod("web-0"),
        pod("web-1"),
        pod("web-2", ready="False"),
        pod("web-3", node="z"),
        pod("web-4", ips=()),
        pod("web-5", hour=0),
    ]
    said = explain("nat", route(), *pods)
    answers = section(said, "Which Pods match app=nat?")[1:]
    assert re.fullmatch(r"web-3 z no, it is on .*Node.* does not exist", answers.pop(3))
    assert answers == [
        "web-0 a holds the addresses",
        "web-1 a eligible, and as old as web-0",
        "web-2 a no, it is not Ready",
        "web-4 a no, it has no IPv4 address yet",
        "web-5 a eligible, and older than web-0",
    ]
    assert section(said, "Which rule decided?") == ["newest; of those as old, the first by name"]


def test_present_holder_is_told_from_the_first_by_name() -> None:
    """Of Pods of one age the one that the files already show as holder stays, and that is the reason given."""
    held = call(
        "plan", "-f", "-", "-o", "yaml", "--now", "2030-01-31T12:00:00Z", documents=(BASE, route(), pod("web-1"))
    )
    attachment = next(each for each in yaml.safe_load(held.out)["items"] if each["kind"] == "AddressAttachment")
    said = explain("nat", route(), pod("web-0"), pod("web-1"), yaml.safe_dump(attachment))
    assert "web-1 a holds the addresses" in section(said, "Which Pods match app=nat?")
    assert section(said, "Which rule decided?") == ["newest; of those as old, the present holder"]


def test_only_pod_is_said_to_be_the_only_one() -> None:
    """Being the newest of one is no merit."""
    said = explain("nat", route(), pod("web-0"), pod("web-1", ready="False"))
    assert section(said, "Which rule decided?") == ["newest; no other Pod is eligible"]


def test_newer_pod_that_does_not_hold_is_told_by_which_rule() -> None:
    """An annotation that bends the rule is named, and the newer Pod is shown as such."""
    preferring = route().replace("metadata:\n", "metadata:\n  annotations: {persistip.dev/prefer: web-0}\n")
    said = explain("nat", preferring, pod("web-0"), pod("web-1", hour=2))
    assert "web-1 a eligible, and newer than web-0" in section(said, "Which Pods match app=nat?")
    assert section(said, "Which rule decided?") == ["preferred by annotation"]


def test_pod_that_waits_for_its_ip_is_chosen_and_holds_nothing() -> None:
    """With Exists a Pod without IP is chosen by a rule of its own, while nothing is programmed."""
    said = explain("nat", route(reactionMode="Exists"), pod("web-0", ips=()))
    assert section(said, "Which Pods match app=nat?")[1:] == ["web-0 a no, it has no IPv4 address yet"]
    assert section(said, "Which rule decided?") == ["newest, waiting for its IP; no other Pod is eligible"]


def test_damped_pod_is_told_when_it_is_asked_again() -> None:
    """A decision that time alone may change says when."""
    held = call(
        "plan", "-f", "-", "-o", "yaml", "--now", "2030-01-31T23:59:50Z", documents=(BASE, route(), pod("web-0"))
    )
    attachment = next(each for each in yaml.safe_load(held.out)["items"] if each["kind"] == "AddressAttachment")
    attachment["spec"]["damped"] = {"podUID": "file:Pod/phone/web-1", "until": "2030-02-01T00:00:05Z"}
    said = explain("nat", route(), pod("web-0"), pod("web-1", hour=2), yaml.safe_dump(attachment))
    assert section(said, "Which rule decided?") == [
        "newest but for a Pod that was not Ready; decided anew at 2030-02-01T00:00:05Z"
    ]


def test_no_pod_is_said_so() -> None:
    """Where nothing matches, the namespace that was searched is named."""
    said = explain(
        "nat", route(podSelector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]})
    )
    assert section(said, "Which Pods match app In (x, y)?") == ["none in namespace phone"]
    assert section(said, "Which rule decided?") == ["none: no Pod may hold the addresses"]


def test_loser_and_winner_are_told_why_as_the_files_have_it() -> None:
    """Who wins a conflict is explained by what decided it, not by the outcome."""
    documents = (route("early"), route("late", hour=2), pod("web-0"))
    loser, winner = explain("late", *documents), explain("early", *documents)
    why = "192.0.2.140 belongs to GKEIPRoute phone/early, which is older; take it from one of the two"
    assert section(loser, "Who claims it too?")[1:] == [f"phone/early 192.0.2.140 wins: {why}"]
    assert section(winner, "Who claims it too?")[1:] == [f"phone/late 192.0.2.140 loses: {why}"]
    assert section(loser, "What may it claim?")[1].startswith("192.0.2.140 no, AddressConflict: 192.0.2.140 belongs to")
    assert section(loser, "Which Pods match app=nat?")[1:] == ["web-0 a eligible"]
    assert section(loser, "Which rule decided?") == ["none: there is nothing to hold (AddressConflict)"]


def test_rivals_without_a_say_are_told_apart() -> None:
    """A rival that is refused, one that lost to a third, and one that is met by nobody are not called winners."""
    chain = (
        route("a", "192.0.2.140", "192.0.2.141"),
        route("b", "192.0.2.141", "192.0.2.142", hour=2),
        route("c", "192.0.2.142", hour=3),
        route("d", "192.0.2.142", "198.51.100.1"),
    )
    fix = "take it from one of the two"
    other = f"spec.addresses[0].value: 192.0.2.141 belongs to GKEIPRoute phone/a, which is older; {fix}"
    assert section(explain("c", *chain), "Who claims it too?")[1:] == [
        f"phone/b 192.0.2.142 loses to another: {other}",
        "phone/d 192.0.2.142 has no say: it is refused, AddressNotInPool",
    ]
    answers = section(explain("d", *chain), "Who claims it too?")[1:]
    assert answers[1] == "phone/c 192.0.2.142 meets no resistance: this route is refused"


def test_rival_of_another_controller_is_left_alone() -> None:
    """A claim by a route that is not ours has no part in the decision."""
    foreign = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: theirs, namespace: net}\n"
        "spec: {gatewayClassName: theirs, listeners: []}\n"
    )
    other = route("other", parentRefs=[{"name": "theirs", "namespace": "net"}])
    said = explain("nat", route(), other, foreign)
    assert section(said, "Who claims it too?")[1:] == ["phone/other 192.0.2.140 is left alone: it is not ours"]
    assert explain("other", route(), other, foreign).out == (
        "GKEIPRoute phone/other is left alone: Gateway net/theirs is not ours (GatewayClass 'theirs' is not given).\n"
    )


def test_parents_and_their_listeners_are_told_one_by_one() -> None:
    """Each parent says by which listener it admits the route and why the others do not, or why it fails."""
    refs = [
        {"name": "public", "namespace": "net"},
        {"name": "public", "namespace": "net", "sectionName": "own"},
        {"name": "nowhere"},
    ]
    said = explain("nat", route(parentRefs=refs), pod("web-0"))
    first, second, third = section(said, "Which parents admit it?")[1:]
    assert first.startswith("Gateway net/public yes, by listener 'all'; listener 'own' admits namespace 'net' only")
    assert "listener 'odd': protocol 'odd' is unknown" in first
    assert second.startswith("Gateway net/public (own) no, NotAllowedByListeners: ")
    assert third.startswith("Gateway phone/nowhere no, NoMatchingParent: there is no Gateway phone/nowhere")


def test_route_refused_shows_every_fault_in_its_place() -> None:
    """Faults of parents, of addresses and of the rest are shown where they belong, and no Pod is called chosen."""
    refused = route("nat", "192.0.2.140", "nonsense", parentRefs=[], reactionMode="Sometimes")
    said = explain("nat", refused, pod("web-0"))
    assert section(said, "Which parents admit it?")[1:] == ["- spec.parentRefs is empty"]
    why = "'nonsense' is not an IPv4 or IPv6 address or CIDR; write it in full, such as 203.0.113.10, 2001:db8::10 or "
    assert section(said, "What may it claim?")[1:] == [
        "192.0.2.140 no, since no parent admits the route",
        f"nonsense no, UnsupportedAddress: {why}203.0.113.0/28",
    ]
    others = section(said, "What else is wrong with it?")
    assert any("spec.reactionMode: 'Sometimes' is unknown" in line for line in others)
    assert section(said, "Which rule decided?") == ["none: a route that is refused (MissingParent) holds nothing"]


def test_empty_selector_considers_no_pod() -> None:
    """A selector that would match everything is refused, and no Pod is looked at."""
    said = explain("nat", route(podSelector={}), pod("web-0"))
    assert section(said, "Which Pods match an empty selector?") == ["none in namespace phone"]


def test_without_a_node_the_cluster_after_it_is_explained() -> None:
    """The same questions can be asked of a cluster that has lost something."""
    said = explain("nat", route(), pod("web-0"), arguments=("--without-node", "a"))
    assert said.out.startswith("GKEIPRoute phone/nat is not Ready, NoEligiblePod: no Pod in namespace phone matches")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("phone/natt", "persistip: no GKEIPRoute 'phone/natt' could be read; did you mean phone/nat?\n"),
        ("x", "persistip: no GKEIPRoute 'x' could be read; there are: other/nat, phone/nat\n"),
        ("nat", "persistip: several routes are named 'nat': other/nat, phone/nat\n"),
    ],
)
def test_route_that_is_not_one_is_refused(name: str, said: str) -> None:
    """A name that fits no route or several ends with status 2."""
    answer = explain(name, route(), route().replace("phone", "other"))
    assert answer == Said("", said, 2)


def test_file_that_is_missing_ends_with_status_2_after_the_answer() -> None:
    """What could be read is explained, but a misspelt path must not look like success."""
    answer = explain("phone/nat", route(), arguments=("-f", "nowhere.yaml"))
    assert answer.out.startswith("GKEIPRoute phone/nat is not Ready")
    assert answer.status == 2


NETWORK = """
apiVersion: networking.gke.io/v1
kind: Network
metadata: {name: blue}
spec: {type: L3}
status: {conditions: [{type: Ready, status: "True", reason: NetworkReady, message: ""}]}
---
apiVersion: v1
kind: Node
metadata:
  name: b
  annotations: {networking.gke.io/networks: '[{"name": "blue", "cidrs": ["10.9.0.0/24"]}]'}
"""


def on_blue(name: str, ip: str) -> str:
    """Return a Pod on Node b that claims *ip* on the secondary network."""
    claim = f"""  annotations: {{networking.gke.io/pod-ips: '[{{"networkName": "blue", "ip": "{ip}"}}]'}}\n"""
    return pod(name, node="b").replace("metadata:\n", f"metadata:\n{claim}")


def test_secondary_network_believes_ips_in_the_range_of_the_node_alone() -> None:
    """A Pod is eligible by its IP on the route's network, if its Node has that range; nothing is programmed."""
    said = explain("nat", route(network="blue"), NETWORK, on_blue("in", "10.9.0.7"), on_blue("out", "10.8.0.7"))
    assert section(said, "Which Pods match app=nat?")[1:] == [
        "in b eligible",
        "out b no, it has no IPv4 address on network blue inside the ranges that its Node has of it yet",
    ]
    assert section(said, "Which rule decided?") == [
        "none: network 'blue' is a secondary network, which this version judges and does not program"
    ]


def test_move_on_a_secondary_network_refuses_an_ip_outside_the_range_of_the_node() -> None:
    """Of two Pods the one with an IP in its Node's range may be named, the other is told why it may not."""
    pods = (on_blue("in", "10.9.0.7"), on_blue("out", "10.8.0.7"))
    manifests = read_text("---\n".join((BASE, route(network="blue"), NETWORK, *pods)), file="test", kinds=tuple(Kind))
    found = complete([each.model for each in manifests.objects if each.model is not None], now=0.0).objects
    snapshot = Snapshot(objects=found, unreadable={}, absent=frozenset())
    case = _Case(snapshot, ObjectKey(Kind.ROUTE, "phone", "nat"), Policy(), find_reaction_modes(()))
    assert case.select("in").meta.name == "in"
    with pytest.raises(
        ConfigError, match="Pod phone/out may not hold the addresses: it has no IPv4 address on network blue"
    ):
        case.select("out")


def annotated(**annotations: str) -> str:
    """Return the route with annotations of ours."""
    said = json.dumps({f"persistip.dev/{name}": value for name, value in annotations.items()})
    return route().replace("metadata:\n", f"metadata:\n  annotations: {said}\n")


def test_first_grant_of_a_route_with_hold_is_told_by_its_rule() -> None:
    """Where nobody held before there was nothing to keep: the Pod was the newest."""
    said = explain("nat", annotated(hold="true"), pod("web-0"), pod("web-1", hour=2))
    assert section(said, "Which rule decided?") == ["newest"]


def test_holder_that_is_kept_by_hold_is_told_so() -> None:
    """A Pod that the files show as holder stays by the annotation, though another is newer."""
    first = call("plan", "-f", "-", "-o", "yaml", "--now", "2030-01-31T12:00:00Z", documents=(BASE, route(), pod("a")))
    attachment = next(each for each in yaml.safe_load(first.out)["items"] if each["kind"] == "AddressAttachment")
    said = explain("nat", annotated(hold="true"), pod("a"), pod("b", hour=2), yaml.safe_dump(attachment))
    assert section(said, "Which rule decided?") == ["held by annotation"]


def test_selector_that_is_not_valid_is_told_in_place_of_its_pods() -> None:
    """An operator that is none selects nothing, which is no matter of the namespace."""
    selector = {"matchExpressions": [{"key": "app", "operator": "in", "values": ["nat"]}]}
    (line,) = section(explain("nat", route(podSelector=selector), pod("web-0")), "Which Pods match app in (nat)?")
    assert line.startswith("the selector is not valid: operator 'in' of key 'app' is unknown; use In, ")


@pytest.mark.parametrize(
    ("preferred", "rule"),
    [
        ("nobody", "newest; prefer names nobody, which is no Pod that the selector matches"),
        ("web-2", "newest; prefer names web-2, which is not Ready"),
        ("web-0", "preferred by annotation"),
    ],
)
def test_preference_that_has_no_say_is_told_why(preferred: str, rule: str) -> None:
    """A Pod that `prefer` names and that is not there, or may not hold, is named beside the rule."""
    pods = (pod("web-0"), pod("web-1", hour=2), pod("web-2", ready="False"))
    assert section(explain("nat", annotated(prefer=preferred), *pods), "Which rule decided?") == [rule]


def test_preference_is_told_where_no_pod_may_hold() -> None:
    """Also the only Pod has its refusal, where `prefer` names it."""
    said = explain("nat", annotated(prefer="web-0"), pod("web-0", ready="False"))
    assert section(said, "Which rule decided?") == [
        "none: no Pod may hold the addresses; prefer names web-0, which is not Ready"
    ]


def test_route_without_any_gateway_is_left_to_another_controller() -> None:
    """Where others may serve routes too, one whose Gateways do not exist is nobody's, and that is the reason."""
    said = explain("nat", route(parentRefs=[{"name": "nowhere"}]), arguments=("--policy.no-sole-controller",))
    assert said.out == (
        "GKEIPRoute phone/nat is left alone: no Gateway that it names exists, and another controller may serve it.\n"
    )

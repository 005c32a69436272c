"""Does a user's mistake get a sentence that names file, object, field and fix, and cost nothing else?"""

from pathlib import Path

import pytest

from persistip.model.keys import Kind, ObjectKey
from persistip.wire.files import Other, find_doubts, join_manifests, read_files, read_text

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: pool, namespace: net}
spec:
  gatewayClassName: gke-persistent-regional-external-managed
  addresses: [{type: IPAddress, value: 203.0.113.9}]
  listeners: [{name: any, port: 1, protocol: none, allowedRoutes: {namespaces: {from: All}}}]
"""
ROUTE = """
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: nat-0, namespace: telco}
spec:
  parentRefs: [{name: pool, namespace: net}]
  addresses: [{type: IPAddress, value: 203.0.113.9}]
  podSelector: {matchLabels: {app: nat}}
"""
WORKLOAD = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: nat}
spec:
  replicas: 2
  serviceName: nat
  selector: {matchLabels: {app: nat}}
  template:
    metadata: {labels: {app: nat}}
    spec: {containers: [{name: main, image: nat}]}
"""


def messages(text: str) -> list[str]:
    """Return what reading *text* as the file m.yaml complains about."""
    return [str(fault) for fault in read_text(text, file="m.yaml").faults]


def test_good_documents_are_read_without_a_fault() -> None:
    """Objects come in order, with a model where decisions look at the kind and the namespace filled in."""
    read = read_text(f"{GATEWAY}---{ROUTE}---{WORKLOAD}", namespace="mine")
    assert read.faults == ()
    assert [(each.subject, each.model is not None) for each in read.objects] == [
        ("Gateway net/pool", True),
        ("GKEIPRoute telco/nat-0", True),
        ("StatefulSet mine/nat", False),
    ]
    assert read.objects[2].body["metadata"]["namespace"] == "mine"
    assert find_doubts(read) == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("podSelector:", "podselector:", "spec.podselector: unknown field; did you mean podSelector?"),
        ("value: 203", "vaule: 203", "spec.addresses[0].vaule: unknown field; did you mean value?"),
        ("app: nat", "app: yes", "spec.podSelector.matchLabels.app: must be a string, but is the boolean true; put it"),
        ("app: nat", "app: yes", 'in quotes: "yes"'),
        ("app: nat", "app: 010", 'but is the number 8; put it in quotes: "010"'),
        (
            "app: nat",
            "1: nat",
            'document 1): spec.podSelector.matchLabels: key 1 is no string to YAML; put it in quotes: "1"',
        ),
        (
            "  podSelector:",
            "  x: [y]\n  podSelector:",
            "m.yaml:8 (document 1): GKEIPRoute telco/nat-0: spec.x: unknown",
        ),
        ("  podSelector:", "podSelector:", "podSelector: unknown field; it belongs under spec"),
        ("  podSelector: {matchLabels: {app: nat}}", "", "spec.podSelector: is required and missing"),
        ("[{name: pool, namespace: net}]", "{name: pool}", "spec.parentRefs: must be a list, but is an object (begin"),
        ("name: nat-0, ", "", "metadata.name: is required and missing"),
        ("name: nat-0, ", "name: ~, ", "metadata.name: is required and missing"),
        ("name: nat-0, ", "name: Nat_0, ", "metadata.name: 'Nat_0' is no name in Kubernetes"),
        ("kind: GKEIPRoute", "kind: GKEIProute", "unknown kind 'GKEIProute'; did you mean GKEIPRoute?"),
        ("kind: GKEIPRoute", "kind: Zebra", "unknown kind 'Zebra'; known are GatewayClass, Gateway"),
        (
            "networking.gke.io/v1",
            "networking.gke.io/v2",
            "apiVersion: is 'networking.gke.io/v2'; GKEIPRoute is written",
        ),
        ("metadata:", "metadata: {}\nmetadata:", "metadata: key 'metadata' appears twice, first on line 4; keep one"),
        ("[{name: pool", "[[{name: pool", "but got '<scalar>' (it began on line 6)"),
        ("  addresses", "\taddresses", "indent with spaces, not tabs"),
        ("nat-0", "&x nat-0", ""),
        ("[{name: pool, namespace: net}]", "&x [*x]", "is too large or too deep once its aliases are followed"),
        ("nat-0", "!!python/object:os.system x", "could not determine a constructor for the tag"),
        ("nat-0", "!!int x", "tag tag:yaml.org,2002:int has no meaning in JSON"),
    ],
)
def test_mistake_is_named_and_costs_only_its_object(old: str, new: str, said: str) -> None:
    """Each mistake gets its sentence; the documents before and behind it are still read."""
    assert old in ROUTE
    text = "\n---".join((ROUTE.replace(old, new, 1), GATEWAY))
    read = read_text(text, file="m.yaml")
    if said:
        assert any(said in str(fault) for fault in read.faults), [str(fault) for fault in read.faults]
    assert [each.name for each in read.objects if each.kind == "Gateway"] == ["pool"]
    assert [each.name for each in read.objects if each.kind == "GKEIPRoute"] == ([] if said else ["nat-0"])


def test_every_fault_of_an_object_is_told_at_once() -> None:
    """Two mistakes in one object are two faults."""
    text = ROUTE.replace("podSelector", "podSelectr").replace("value", "valeu")
    assert len([each for each in messages(text) if "did you mean" in each]) == 2


def test_list_is_flattened() -> None:
    """Items of a List are objects of their own, and their faults carry the line in the file."""
    body = "".join(f"  {line}\n" for line in ROUTE.strip().splitlines())
    broken = body.replace("nat-0", "nat-1").replace("value", "valeu")
    text = f"apiVersion: v1\nkind: List\nitems:\n-\n{body}-\n{broken}"
    read = read_text(text, file="m.yaml")
    assert [each.name for each in read.objects] == ["nat-0"]
    assert [str(fault) for fault in read.faults] == [
        "m.yaml:18 (document 1): GKEIPRoute telco/nat-1: spec.addresses[0].valeu: unknown field; did you mean value?"
    ]


def test_object_given_twice_is_used_once() -> None:
    """The second of two objects with one name is a fault that tells where the first stands."""
    read = read_text(f"{ROUTE}---{ROUTE}", file="m.yaml")
    assert len(read.objects) == 1
    assert "is defined twice, first at m.yaml:2, which is used; remove one" in str(read.faults[0])


def test_dates_and_sexagesimals_stay_strings() -> None:
    """What YAML 1.1 would make a date or a number to the base of sixty is text, as it is for kubectl."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: 2020-01-31, b: 1:30, c: 2001:db8::1}\n"
    assert read_text(text).objects[0].body["data"] == {"a": "2020-01-31", "b": "1:30", "c": "2001:db8::1"}


def test_merge_keys_and_anchors_are_followed() -> None:
    """A mapping merged with << has the other's keys, its own winning."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: c, labels: &l {a: b, c: d}}\ndata: {<<: *l, c: e}\n"
    assert read_text(text).objects[0].body["data"] == {"a": "b", "c": "e"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("replicas: 2", "replicas: -1", "spec.replicas: is -1; 0 or more"),
        ("replicas: 2", "replicas: '2'", "spec.replicas: must be a whole number, but is the string '2'"),
        ("replicas: 2", "replcas: 2", "did you mean replicas?"),
        ("{labels: {app: nat}}", "{labels: {app: tan}}", "selector does not match these labels"),
        ("selector: {matchLabels: {app: nat}}", "selector: {}", "spec.selector: selects everything"),
    ],
)
def test_workload_mistake_is_named(old: str, new: str, said: str) -> None:
    """What the lab reads of a StatefulSet is checked; the rest is Kubernetes' business."""
    assert old in WORKLOAD
    assert any(said in each for each in messages(WORKLOAD.replace(old, new)))


def test_value_that_only_the_model_refuses_is_named() -> None:
    """A string of the right type and the wrong meaning is found before it reaches anybody."""
    text = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec:\n  podCIDRs:\n  - 10.0.0.0/8\n  - 10.0.0.0/33\n"
    (said,) = messages(text)
    assert said.startswith("m.yaml:7 (document 1): Node n: spec.podCIDRs[1]: ")
    assert "10.0.0.0/33" in said


@pytest.mark.parametrize(
    ("kind", "items", "said"),
    [
        ("List", "{kind: Node}", "is an object; a List has its objects there, as a list"),
        ("List", "none", "is the string 'none'; a List has its objects there, as a list"),
        ("NodeList", "7", "is the number 7; a NodeList has its objects there, as a list"),
    ],
)
def test_list_that_holds_no_list_is_a_fault_that_names_the_field(kind: str, items: str, said: str) -> None:
    """It may have held anything, so it is not passed over as some other kind would be; a List within a List as well."""
    text = f"apiVersion: v1\nkind: {kind}\nitems: {items}\n"
    read = read_text(text, file="m.yaml", kinds=tuple(Kind))
    assert [str(each) for each in read.faults] == [f"m.yaml:3 (document 1): items: {said}"]
    inner = f"apiVersion: v1\nkind: List\nitems:\n- kind: {kind}\n  items: {items}\n"
    assert messages(inner) == [f"m.yaml:5 (document 1): items[0].items: {said}"]


@pytest.mark.parametrize("items", ["items: []", "items: null", "metadata: {}"])
def test_list_without_items_holds_nothing(items: str) -> None:
    """Go writes an empty list as null, or not at all."""
    read = read_text(f"apiVersion: v1\nkind: PodList\n{items}\n", kinds=tuple(Kind))
    assert (read.objects, read.faults, read.others) == ((), (), ())


def test_kind_that_only_sounds_like_a_list_is_another_kind() -> None:
    """Somebody's own kind may end in List and have anything under items."""
    read = read_text("apiVersion: example.com/v1\nkind: AllowList\nitems: {a: 1}\n", kinds=tuple(Kind))
    assert (read.faults, [each.kind for each in read.others]) == ((), ["AllowList"])


def test_doubts_name_unusable_addresses_and_missing_gateways() -> None:
    """What only the controller refuses keeps its object and is told with its line and the fix."""
    text = "---".join((GATEWAY, ROUTE.replace("203.0.113.9", "203.0.113.9/24").replace("name: pool", "name: pol")))
    read = read_text(text, file="m.yaml")
    assert read.faults == ()
    host_bits = (
        "'203.0.113.9/24' has host bits set; write 203.0.113.0/24 for the network or 203.0.113.9/32 for the address"
    )
    missing = "no Gateway net/pol exists; did you mean net/pool?"
    assert [str(doubt) for doubt in find_doubts(read)] == [
        f"m.yaml:15 (document 2): GKEIPRoute telco/nat-0: spec.addresses[0].value: {host_bits}",
        f"m.yaml:14 (document 2): GKEIPRoute telco/nat-0: spec.parentRefs[0].name: {missing}",
    ]


def test_doubts_name_a_route_without_parent_and_without_selector() -> None:
    """What the API need not refuse and nobody could serve is told where it should stand, with the fix."""
    text = "apiVersion: networking.gke.io/v1\nkind: GKEIPRoute\nmetadata: {name: r}\nspec:\n  podSelector: {}\n"
    text += "  addresses: [{type: IPAddress, value: 203.0.113.9}]\n"
    read, route = read_text(text, file="m.yaml"), "(document 1): GKEIPRoute default/r"
    assert read.faults == ()
    assert [str(doubt) for doubt in find_doubts(read)] == [
        f"m.yaml:4 {route}: spec.parentRefs: is missing; name the Gateway whose addresses the route claims",
        f"m.yaml:5 {route}: spec.podSelector: is empty; name labels of the Pods that may hold the addresses",
    ]


def test_files_and_directories_are_read(tmp_path: Path) -> None:
    """A directory gives its manifests; a missing file and one that is no text are faults beside them."""
    (tmp_path / "b.yaml").write_text(ROUTE)
    (tmp_path / "a.yml").write_bytes(b"\xef\xbb\xbf" + GATEWAY.encode())
    (tmp_path / "c.json").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("not: read")
    read = read_files([tmp_path, tmp_path / "none.yaml"])
    assert [each.kind for each in read.objects] == ["Gateway", "GKEIPRoute"]
    assert [str(fault) for fault in read.faults] == [
        f"{tmp_path}/c.json: is no UTF-8 text (byte 0); save it as UTF-8",
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize("text", ["", "---\n---\n", "# only this\n", "%YAML 1.1\n---\n"])
def test_nothing_written_is_nothing_wrong(text: str) -> None:
    """Empty documents and comments are no objects and no faults."""
    assert read_text(text) == read_text("")
    assert read_text(text).faults == ()


@pytest.mark.parametrize("text", ["3", "[" * 5000, "\x00", "- a", '"\\x"', "a: b: c"])
def test_no_manifest_at_all_is_a_fault(text: str) -> None:
    """Text that is no manifest is one fault, whatever it is."""
    assert len(read_text(text).faults) == 1


def test_reader_of_some_kinds_is_told_of_the_others() -> None:
    """Kinds that were not asked for are counted and not looked at, by whoever they are defined; slips are faults."""
    kinds = ("Gateway", "GKEIPRoute")
    istio = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\n"
    old = GATEWAY.replace("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha1")
    slip = ROUTE.replace("kind: GKEIPRoute", "kind: GKEIPRout")
    read = read_text("---\n".join((GATEWAY, WORKLOAD.replace("replicas", "nonsense"), istio, old, slip)), kinds=kinds)
    assert [each.kind for each in read.objects] == ["Gateway"]
    assert read.others == (Other("StatefulSet"), Other("Gateway.networking.istio.io"))
    assert [fault.path for fault in read.faults] == ["apiVersion", "kind"]


def test_fault_names_the_object_that_is_lost() -> None:
    """A fault tells which object cannot be read, where kind and name are known and decisions look at the kind."""
    broken = ROUTE.replace("podSelector", "podselector").replace(", namespace: telco", "")
    texts = (
        broken,
        ROUTE.replace("metadata: {name: nat-0", "metadata: {x: y"),
        WORKLOAD.replace("replicas: 2", "replicas: -1"),
        "[]",
    )
    faults = read_text("\n---\n".join(texts), namespace="mine").faults
    assert {fault.key for fault in faults} == {ObjectKey(Kind.ROUTE, "mine", "nat-0"), None}
    node = read_text("apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b}\n").faults
    assert [fault.key for fault in node] == [ObjectKey(Kind.NODE, "", "a")]
    unfit = ROUTE.replace("metadata", "status: {pods: [1]}\nmetadata")
    assert read_text(unfit).faults[0].key == ObjectKey(Kind.ROUTE, "telco", "nat-0")


def test_several_readings_are_joined_as_one() -> None:
    """What stands in two readings is a fault, and faults and other kinds of all of them stay."""
    kinds = ("Gateway", "GKEIPRoute")
    parts = [
        read_text(text, file=name, kinds=kinds) for name, text in (("a", GATEWAY + "---" + WORKLOAD), ("b", GATEWAY))
    ]
    joined = join_manifests([*parts, read_text("[]", file="c")])
    assert [each.file for each in joined.objects] == ["a"]
    assert ["is defined twice" in fault.message for fault in joined.faults] == [True, False]
    assert joined.others == (Other("StatefulSet"),)


def test_large_export_is_read_and_a_bomb_of_aliases_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """How large a document may be is set by what is written in it, not by a number: a cluster is one List."""
    monkeypatch.setattr("persistip.wire.documents._MAX_NODES", 10)
    items = "".join(f"- {{apiVersion: v1, kind: Namespace, metadata: {{name: n{number}}}}}\n" for number in range(50))
    read = read_text(f"apiVersion: v1\nkind: List\nitems:\n{items}")
    assert len(read.objects) == 50
    assert [dict(each.lines)["metadata", "name"] for each in read.objects] == list(range(4, 54))
    layers = "".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 9)}]\n" for n in range(6))
    assert "is too large or too deep" in str(read_text(f"l0: &l0 x\n{layers}").faults[0])

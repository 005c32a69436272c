"""Are the manifests whole, do they say what the code says, and are bad parameters refused?"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from commandline import call
from msgspec import inspect

import persistip
from persistip.cli.run import app
from persistip.cli.serving import HEALTH, READINESS
from persistip.manifests import Parameters, build
from persistip.model.gateway import CLASSES
from persistip.runtime.endpoint import parse_address
from persistip.wire import structs

OBJECTS = build(Parameters())
UNUSED = ".spec.releasing[].pod.ips"
CRDS = {each["spec"]["names"]["kind"]: each for each in OBJECTS if each["kind"] == "CustomResourceDefinition"}


def schema(kind: str) -> Mapping[str, Any]:
    """Return the schema of a kind of ours."""
    found: Mapping[str, Any] = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every field below *node* with its path."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if "items" in node:
        yield from fields(node["items"], f"{path}[]")


def wire_fields(struct: type[structs.Wire], path: str) -> Iterator[str]:
    """Yield every field that we read or write, as the schema names them."""
    for field in inspect.type_info(struct).fields:
        yield f"{path}.{field.encode_name}"
        yield from _below(field.type, f"{path}.{field.encode_name}")


def _below(type_: inspect.Type, path: str) -> Iterator[str]:
    match type_:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _below(each, path)
        case inspect.VarTupleType(item_type=item):
            yield from _below(item, f"{path}[]")
        case inspect.StructType(cls=cls):
            yield from wire_fields(cls, path)


@pytest.mark.parametrize("kind", CRDS)
def test_every_field_has_a_text(kind: str) -> None:
    """Every field of our kinds but `metadata`, whose text is Kubernetes' own, says what it means."""
    silent = [path for path, child in fields(schema(kind)) if "description" not in child and path != ".metadata"]
    assert silent == []


@pytest.mark.parametrize(
    ("kind", "spec", "status"),
    [
        ("GKEIPRoute", structs.RouteSpec, structs.RouteStatus),
        ("AddressAttachment", structs.AttachmentSpec, structs.AttachmentStatus),
    ],
)
def test_schema_has_the_fields_of_the_code(kind: str, spec: type[structs.Wire], status: type[structs.Wire]) -> None:
    """What the code reads and writes is in the schema, and the schema has nothing that the code does not know."""
    known = {path for path, _ in fields(schema(kind)) if path.startswith((".spec.", ".status."))}
    # One struct serves for both Pods; a former holder's is written without its IPs.
    assert known | {UNUSED} == {*wire_fields(spec, ".spec"), *wire_fields(status, ".status"), UNUSED}


def test_rules_have_sentences() -> None:
    """Every rule of every schema has a sentence for whoever broke it."""
    rules = [
        rule
        for crd in CRDS.values()
        for _, child in [("", schema(crd["spec"]["names"]["kind"])), *fields(schema(crd["spec"]["names"]["kind"]))]
        for each in (child, child.get("items", {}))
        for rule in each.get("x-kubernetes-validations", ())
    ]
    assert len(rules) > 20
    assert [rule["rule"] for rule in rules if not rule.get("message")] == []


def test_classes_are_those_the_controller_knows() -> None:
    """There is a GatewayClass for each class with a behaviour, and all name our controller."""
    classes = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "GatewayClass"}
    assert classes.keys() == CLASSES.keys()
    assert {spec["controllerName"] for spec in classes.values()} == {"persistip.dev/controller"}


def test_parameters_reach_every_place() -> None:
    """Namespace, image, controller name, replicas and log level stand wherever they matter; nothing is left open."""
    said = call(
        *("manifests", "--namespace", "addresses", "--image", "registry.example/persistip:1"),
        *("--controller-name", "example.com/ours", "--replicas", "3", "--log-level", "debug"),
    )
    assert said.status == 0
    assert "${" not in said.out
    for default in ("persistip-system", "image: persistip:", "persistip.dev/controller", "replicas: 2", "=info"):
        assert default not in said.out
    for given in ("addresses:persistip-agent", "image: registry.example/persistip:1", "=example.com/ours", "=debug"):
        assert given in said.out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--namespace", "Addresses"),
        ("--namespace", "a'b"),
        ("--image", "a b"),
        ("--image", "x\nkind: Secret"),
        ("--controller-name", "ours"),
        ("--replicas", "0"),
    ],
)
def test_parameter_that_cannot_be_is_refused(option: str, value: str) -> None:
    """A value that would break the YAML or that Kubernetes would refuse is named with its option."""
    said = call("manifests", option, value)
    assert (said.status, said.out) == (2, "")
    assert option in said.err


def test_pods_run_this_version_and_pull_it_once() -> None:
    """Both parts start the image of this version, named as one, which a node that has it does not pull again."""
    pods = [each["spec"]["template"]["spec"] for each in OBJECTS if each["kind"] in {"Deployment", "DaemonSet"}]
    containers = [container for pod in pods for container in pod["containers"]]
    assert [(each["image"], each["imagePullPolicy"]) for each in containers] == [
        (f"persistip:{persistip.__version__}", "IfNotPresent")
    ] * 2


@pytest.mark.parametrize(("process", "kind"), [("controller", "Deployment"), ("agent", "DaemonSet")])
def test_containers_call_the_command_line_that_there_is(process: str, kind: str) -> None:
    """The arguments of the controller and of the agent are ones that their programs take."""
    (workload,) = [each for each in OBJECTS if each["kind"] == kind]
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert container["command"] == [f"persistip-{process}"]
    app.parse_args([process, *container["args"]], exit_on_error=False, print_error=False)


@pytest.mark.parametrize(("component", "kind"), [("controller", "Deployment"), ("agent", "DaemonSet")])
def test_probes_ask_where_the_process_answers(component: str, kind: str) -> None:
    """Each process is told to listen at the port that its probes ask, which ask for pages that there are."""
    (workload,) = (each for each in OBJECTS if each["kind"] == kind)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    (listen,) = (each.partition("=")[2] for each in container["args"] if each.startswith("--listen="))
    host, port = parse_address(listen.replace("$(HOST_IP)", "2001:db8::1"))
    assert host == ("2001:db8::1" if component == "agent" else None)
    (declared,) = container["ports"]
    assert (declared["name"], declared["containerPort"]) == ("http", port)
    # On the host's network the two are one.
    assert declared.get("hostPort", port) == port
    for probe, page in (("livenessProbe", HEALTH), ("readinessProbe", READINESS)):
        assert container[probe]["httpGet"] == {"path": page, "port": "http"}

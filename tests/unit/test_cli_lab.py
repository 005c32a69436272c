"""Does `persistip lab` understand what a user gives it, and say what is wrong in words that help?"""

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from persistip.cli import lab as verb
from persistip.cli import make_app
from persistip.lab import sandbox
from persistip.lab.prompt import VERBS, Command, Prompt, find_pod, parse, parse_all, run_prompt
from persistip.lab.report import make_console
from persistip.lab.results import Flow, LabResult, Place, RouteResult, Sight
from persistip.lab.site import ProbeFailedError
from persistip.wire.files import find_doubts, read_files

BAD_ROUTE = """
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: bad, namespace: phone}
spec:
  parentRefs: [{name: public, namespace: network}]
  addresses: [{type: IPAddress, value: 192.0.2.150}]
  podSelector: {matchLabels: {app: nat}}
"""


def test_example_is_small_and_without_fault() -> None:
    """The example has no fault and no doubt, at most eight Pods and six addresses, and one route for each mode."""
    found = read_files([verb.EXAMPLE])
    assert (found.faults, find_doubts(found)) == ((), ())
    bodies = [each.body for each in found.objects]
    assert sum(body["spec"]["replicas"] for body in bodies if body["kind"] in ("StatefulSet", "Deployment")) <= 8
    routes = [body["spec"] for body in bodies if body["kind"] == "GKEIPRoute"]
    assert sum(len(spec["addresses"]) for spec in routes) <= 6
    assert {spec.get("reactionMode", "ReadyCondition") for spec in routes} == {"ReadyCondition", "Exists"}


def test_printed_example_reads_like_the_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What --print-example prints is the example: saved to a file, it gives the same objects."""
    with pytest.raises(SystemExit) as ended:
        verb.app(["--print-example"])
    assert ended.value.code == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(capsys.readouterr().out)
    assert [each.body for each in verb.read_input([copy]).manifests] == [
        each.body for each in verb.read_input([]).manifests
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "bad.yaml:1"),
        (BAD_ROUTE.replace("GKEIPRoute", "GKEIProute"), "unknown kind 'GKEIProute'; did you mean GKEIPRoute?"),
        (BAD_ROUTE.replace("podSelector", "podSelektor"), "spec.podSelektor: unknown field; did you mean podSelector?"),
        (BAD_ROUTE.replace("{app: nat}", "{app: 7}"), 'must be a string, but is the number 7; put it in quotes: "7"'),
        (
            BAD_ROUTE.replace("192.0.2.150", "192.0.2.150/24"),
            "spec.addresses[0].value: '192.0.2.150/24' has host bits set; write 192.0.2.0/24 for the network",
        ),
        (
            BAD_ROUTE.replace("name: public", "name: pubic"),
            "spec.parentRefs[0].name: no Gateway network/pubic exists; did you mean network/public?",
        ),
    ],
)
def test_bad_input_is_named_and_the_rest_is_used(text: str, said: str, tmp_path: Path) -> None:
    """File, field and fix are told, the object is left out by name, and all others make the run."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(text)
    given = verb.read_input([verb.EXAMPLE, bad])
    told = [str(fault) for fault in given.faults]
    assert all(each.startswith(str(bad)) for each in told)
    assert any(said in each for each in told)
    assert len(given.left_out) == 1
    assert [each.subject for each in given.manifests] == [each.subject for each in verb.read_input([]).manifests]


@pytest.mark.parametrize(
    ("file", "before", "after", "left_out", "used"),
    [
        (
            "40-nat.yaml",
            "kind: Deployment",
            "kind: Deployment\nspeck: 1",
            ("Deployment phone/nat", "GKEIPRoute phone/nat (it rests on Deployment phone/nat)"),
            {"registrar", "sip-0", "sip-1"},
        ),
        (
            "20-gateway.yaml",
            "value: 192.0.2.128/27",
            "value: 192.0.2.129/27",
            tuple(
                f"GKEIPRoute phone/{name} (it rests on Gateway network/public)" for name in ("nat", "sip-0", "sip-1")
            ),
            {"registrar"},
        ),
    ],
)
def test_route_that_rests_on_a_faulty_object_is_left_out_with_its_cause(  # noqa: PLR0917 - a table of cases
    file: str, before: str, after: str, left_out: tuple[str, ...], used: set[str], tmp_path: Path
) -> None:
    """A slip in a workload or a pool costs the routes that need it, by name and cause, and no other route."""
    for path in verb.EXAMPLE.glob("*.yaml"):
        text = path.read_text()
        assert path.name != file or before in text
        (tmp_path / path.name).write_text(text.replace(before, after) if path.name == file else text)
    given = verb.read_input([tmp_path])
    assert given.left_out == left_out
    assert {each.name for each in given.manifests if each.kind == "GKEIPRoute"} == used


def test_tutorial_breaks_the_example_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence that the tutorial shows for an address outside the pool is the one that plan prints."""
    tutorial = (Path(__file__).parents[2] / "docs" / "tutorials" / "your-first-address.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^GKEIPRoute phone/sip-0: .*$", tutorial, re.MULTILINE)
    broken = tmp_path / "lab.yaml"
    broken.write_text(verb.example_text().replace("192.0.2.130", "198.51.100.7"))
    with pytest.raises(SystemExit):
        make_app()(["plan", "-f", str(broken)])
    output = capsys.readouterr().out
    assert sentence in output.splitlines()
    assert "NoEligiblePod" in output


@pytest.mark.parametrize("content", [None, "", "# nothing\n"])
def test_nothing_to_read_is_told(content: str | None, tmp_path: Path) -> None:
    """An empty file and a folder without manifests are named, with what is missing in them."""
    path = tmp_path
    if content is not None:
        path = tmp_path / "empty.yaml"
        path.write_text(content)
    (fault,) = verb.read_input([path]).faults
    said = "holds no *.yaml, *.yml or *.json" if content is None else "holds no document"
    assert str(fault).startswith(f"{path}: {said}; ")


def test_missing_api_version_is_called_missing(tmp_path: Path) -> None:
    """A manifest without apiVersion is told so, with what to write."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD_ROUTE.replace("apiVersion: networking.gke.io/v1\n", ""))
    assert "apiVersion: is missing; GKEIPRoute is written with networking.gke.io/v1" in str(
        verb.read_input([path]).faults[0]
    )


OK = LabResult(seed=0, datapath="memory", rootless=False)


@pytest.mark.parametrize("text", ["a: [", "", BAD_ROUTE, "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n"])
def test_input_without_a_usable_route_ends_with_status_2(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no route is left there is nothing to watch: every fault is told, and the status is 2."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(text)
    with pytest.raises(SystemExit) as ended:
        verb.app(["-f", str(bad)])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "nothing is left to run: no usable GKEIPRoute" in errors
    assert text != BAD_ROUTE or "no Gateway network/public exists; define it" in errors


def test_file_that_does_not_exist_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A missing file is a fault like any other."""
    with pytest.raises(SystemExit) as ended:
        verb.app(["-f", str(tmp_path / "nowhere.yaml")])
    assert ended.value.code == 2
    assert "nowhere.yaml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_unknown_event_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in an event's name is told with all names, and nothing is run."""
    with pytest.raises(SystemExit) as ended:
        verb.app(["--event", "pod-deletd"])
    assert ended.value.code == 2
    assert "no event pod-deletd; there are process-killed, pod-deleted," in capsys.readouterr().err


def test_machine_without_namespaces_is_offered_simulated_packets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel refuses namespaces, what is missing is told, and what still works."""

    def refuse(*_: object) -> int:
        raise sandbox.SandboxUnavailableError([sandbox.Obstacle("unshare", 1)])

    monkeypatch.setattr(sandbox, "run", refuse)
    monkeypatch.setattr(sandbox, "current", lambda: None)
    with pytest.raises(SystemExit) as ended:
        verb.app([])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "unshare: Operation not permitted" in errors
    assert "persistip lab --datapath memory" in errors


def test_interpreter_that_cannot_be_started_inside_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interpreter may not be read from within a user namespace, that is said in a sentence with status 2."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied", "/opt/venv/bin/python")

    monkeypatch.setattr(sandbox, "run", refuse)
    monkeypatch.setattr(sandbox, "current", lambda: None)
    with pytest.raises(SystemExit) as ended:
        verb.app([])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "/opt/venv/bin/python cannot be started in namespaces of its own: Permission denied" in errors
    assert "persistip lab --datapath memory" in errors


def test_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyroute2 the message says what to install."""
    monkeypatch.setattr(sandbox, "current", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        verb.app([])
    assert ended.value.code == 2
    assert "pip install 'persistip[lab]'" in capsys.readouterr().err


def test_command_in_the_sandbox_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that is run inside has every flag that was given outside, and understands it the same way."""
    given = ["-f", "a.yaml", "b.yaml", "--json", "--keep", "--seed", "-3", "--without-agents", "--event", "pod-deleted"]
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(verb, "_run", lambda *arguments: seen.append(arguments) or 0)
    for arguments in (given, None):
        with pytest.raises(SystemExit):
            verb.app(verb._arguments(*seen[0]) if arguments is None else arguments)  # type: ignore[arg-type]
    assert seen[0] == seen[1]
    assert seen[0][1:] == ((Path("a.yaml"), Path("b.yaml")), True)


@pytest.mark.parametrize(("flags", "status"), [(("--event", "address-conflict"), 0), (("--without-agents",), 1)])
def test_json_alone_is_on_standard_output(
    flags: tuple[str, ...], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json standard output holds one document, and the status tells the same as it does."""
    with pytest.raises(SystemExit) as ended:
        verb.app(["--datapath", "memory", "--json", *flags])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == status
    assert found["ok"] == (not found["failures"]) == (status == 0)
    assert [each["route"] for each in found["routes"]] == ["phone/nat", "phone/registrar", "phone/sip-0", "phone/sip-1"]


@pytest.mark.parametrize("place", ["persistip.lab.story.run", "persistip.lab.story._tell"])
@pytest.mark.parametrize("flags", [("--json",), ()])
def test_fault_of_the_lab_itself_is_a_failure_and_no_mere_traceback(
    place: str, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks in the lab's own look, the run fails by a sentence, as a document too, with status 1."""

    def slip(*_: object) -> LabResult:
        raise KeyError("no such Pod")

    monkeypatch.setattr(place, slip)
    with pytest.raises(SystemExit) as ended:
        verb.app(["--datapath", "memory", *flags])
    output, errors = capsys.readouterr()
    said = "the lab itself failed and saw no more: KeyError: 'no such Pod'"
    assert ended.value.code == 1
    assert "Traceback" in errors
    assert said in " ".join(output.split())
    if flags:
        found = json.loads(output)
        assert (found["ok"], found["failures"]) == (False, [said])


# ---------------------------------------------------------------- the prompt


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("delete pod sip-0", Command("delete pod", ("sip-0",))),
        ("  kill agent node-a  # now", Command("kill agent", ("node-a",))),
        (
            "in node-a ip -6 route show 'table local'",
            Command("in", ("node-a", "ip", "-6", "route", "show", "table local")),
        ),
        ("probe 192.0.2.1 2.5", Command("probe", ("192.0.2.1", "2.5"))),
        ("exit", Command("quit")),
        ("?", Command("help")),
        ("", None),
        ("# nothing", None),
        ("kill node-a", "write `kill pod POD` or `kill agent NODE`"),
        ("delete pod", "write `delete pod POD`"),
        ("status now", "write `status`"),
        ("probe 192.0.2.1 soon", "'soon' is no number of seconds"),
        ("probe 192.0.2.1 -1", "'-1' is no number of seconds"),
        ("frobnicate", "unknown command 'frobnicate'; `help` lists all"),
        ("in node-a 'ip", "No closing quotation; close the quotes, or put a backslash before them"),
    ],
)
def test_line_is_understood_or_answered(line: str, parsed: Command | str | None) -> None:
    """A line is a command, or nothing, or gets a sentence that says what to write."""
    assert parse(line) == parsed


def pod(namespace: str, name: str) -> dict[str, Any]:
    """Return a Pod."""
    return {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"nodeName": "node-a"},
        "status": {"podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "Ready", "status": "True"}]},
    }


PODS = (pod("phone", "nat-x1"), pod("phone", "nat-x2"), pod("phone", "nat-x"), pod("shop", "web-0"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nat-x1", PODS[0]),
        ("nat-x", PODS[2]),
        ("shop/web-0", PODS[3]),
        ("web", PODS[3]),
        ("nat", "nat may be any of phone/nat-x, phone/nat-x1, phone/nat-x2"),
        ("phone/web-0", "there is no Pod phone/web-0; there are phone/nat-x, phone/nat-x1, phone/nat-x2, shop/web-0"),
    ],
)
def test_pod_is_found_by_name_or_its_beginning(text: str, found: object) -> None:
    """A Pod may be named in full or by as much as is unmistakable."""
    assert find_pod(PODS, text) == found


class FakeLab:
    """Takes the prompt's calls down."""

    nodes = ("node-a", "node-b")

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Any:
        """Return a method that only notes its call."""
        if name in ("signal_pod", "signal_agent", "cut", "restore"):
            return lambda *arguments: self.calls.append((name, *arguments))

        async def note(*arguments: object) -> int:
            self.calls.append((name, *arguments))
            return 3

        return note

    async def pods(self) -> Sequence[Mapping[str, Any]]:
        """Return the Pods."""
        return PODS

    async def routes(self) -> tuple[RouteResult, ...]:
        """Return one route."""
        place = Place("nat-x1", "node-a")
        return (
            RouteResult(
                route="phone/nat", addresses=("192.0.2.1",), place=place, conditions={"Ready": ("True", "Ready")}
            ),
        )

    def agents(self) -> Mapping[str, bool]:
        """Return who runs."""
        return {"node-a": True, "node-b": False}

    async def measure(self, address: str, seconds: float) -> Sight:
        """Answer for one address, know nothing of another, and fail otherwise."""
        sent = int(seconds * 1000)
        match address:
            case "192.0.2.1":
                return Sight(
                    who=("nat-x1@u1", "nat-x2@u2"),
                    ingress=Flow(sent=sent, lost=2, blackout_ms=3.04),
                    egress=Flow(sent=sent, lost=0, blackout_ms=0.5),
                )
            case "192.0.2.9":
                silent = Flow(sent=sent, lost=sent, blackout_ms=1000 * seconds)
                return Sight(who=(), ingress=silent, egress=Flow(sent=0, lost=0, blackout_ms=1000 * seconds))
            case "192.0.2.66":
                raise RuntimeError("a slip of ours")
        raise ProbeFailedError("the probe fell silent")


def typed(*lines: str) -> tuple[FakeLab, str]:
    """Carry *lines* out, and return what the lab was asked and what was said."""
    lab, file = FakeLab(), io.StringIO()
    prompt = Prompt(lab, make_console(file))  # type: ignore[arg-type]

    async def work() -> None:
        for line in lines:
            command = parse(line)
            assert isinstance(command, Command)
            await prompt.run(command)

    asyncio.run(work())
    return lab, file.getvalue()


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("delete pod nat-x1", ("delete", "Pod", "phone", "nat-x1")),
        ("kill pod web", ("signal_pod", "shop", "web-0", signal.SIGKILL)),
        ("unready nat-x1", ("signal_pod", "phone", "nat-x1", signal.SIGUSR1)),
        ("ready nat-x1", ("signal_pod", "phone", "nat-x1", signal.SIGUSR2)),
        ("cordon node-b", ("patch", "Node", "", "node-b", {"spec": {"unschedulable": True}})),
        ("uncordon node-b", ("uncordon", "node-b")),
        ("drain node-b", ("drain", "node-b")),
        ("kill agent node-a", ("signal_agent", "node-a", signal.SIGKILL)),
        ("start agent node-a", ("start_agent", "node-a")),
        ("cut node-a", ("cut", "node-a")),
        ("restore node-a", ("restore", "node-a")),
        ("in node-a ip route", ("run_inside", "node-a", ("ip", "route"))),
        (
            "label namespace - phone tier=gold old-",
            ("patch", "Namespace", "", "phone", {"metadata": {"labels": {"tier": "gold", "old": None}}}),
        ),
        ("label pod phone nat-x1 a=", ("patch", "Pod", "phone", "nat-x1", {"metadata": {"labels": {"a": ""}}})),
    ],
)
def test_command_asks_the_lab(line: str, call: tuple[object, ...]) -> None:
    """Each command becomes the one request that it stands for."""
    assert typed(line)[0].calls == [call]


def test_look_around_tells_routes_pods_and_agents() -> None:
    """Status names holders, conditions, Pods and which agents run; help names every command."""
    text = typed("status", "help", "probe 192.0.2.1 0.3", "probe 192.0.2.9 0.1", "in node-a false")[1]
    assert "phone/nat: 192.0.2.1, held by nat-x1 on node-a" in text
    assert "phone/nat-x1: node-a, Ready, 10.244.1.2" in text
    assert "agents: node-a runs, node-b does not run" in text
    assert all(each.name in text and each.help in text for each in VERBS)
    assert "answered by nat-x1, then nat-x2" in text
    assert "in   300 sent, 2 lost; the longest silence was 3.0 ms" in text
    assert "out  300 sent, 0 lost; the longest silence was 0.5 ms" in text
    assert "nobody answers" in text
    assert "in   nothing came of 100 sent" in text
    assert "out  nothing was heard" in text
    assert "exit status 3" in text


def test_mistaken_command_is_answered_and_asks_nothing(tmp_path: Path) -> None:
    """A wrong name is answered with the right ones; manifests with faults are told as everywhere."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD_ROUTE + "  x: y\n---\n" + BAD_ROUTE.replace("bad", "good"))
    lab, text = typed("cut node-z", "delete pod zebra", f"apply {bad}")
    assert "there is no node node-z; there are node-a, node-b" in text
    assert "there is no Pod zebra" in text
    assert "spec.x: unknown field" in text
    assert [call[:1] for call in lab.calls] == [("apply",)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("probe foo", "'foo' does not appear to be an IPv4 or IPv6 address"),
        ("probe 192.0.2.5", "the probe fell silent"),
        ("probe 192.0.2.66", "probe failed: RuntimeError: a slip of ours"),
        ("label pod phone nat-x1 a", "'a': write KEY=VALUE, or KEY- to remove a label"),
        ("label secret phone x a=b", "no labels of a secret here; KIND is one of Pod, Node,"),
        ("label node phone node-a a=b", "a Node belongs to no namespace; write - for it"),
        ("label pod - nat-x1 a=b", "a Pod belongs to a namespace"),
    ],
)
def test_command_that_fails_is_a_sentence_and_the_prompt_goes_on(line: str, said: str) -> None:
    """Whatever becomes of a command, its reason is told and the next one is carried out."""
    lab, text = typed(line, "cut node-a")
    assert said in " ".join(text.split())
    assert lab.calls == [("cut", "node-a")]


def test_line_may_hold_several_commands() -> None:
    """A semicolon outside quotes ends a command; what is wrong has its sentence in its place."""
    assert parse_all("delete pod a; probe 192.0.2.1 5;; bogus # ; x") == [
        Command("delete pod", ("a",)),
        Command("probe", ("192.0.2.1", "5")),
        "unknown command 'bogus'; `help` lists all",
    ]
    assert parse_all("in node-a sh -c 'a; b'") == [Command("in", ("node-a", "sh", "-c", "a; b"))]
    assert parse_all("in node-a 'ip") == [parse("in node-a 'ip")]


def test_prompt_reads_a_pipe_to_its_end_or_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal the commands come from a pipe: the last one needs no newline, and quit ends it."""
    for text, count in ((b"cut node-a\nnonsense\n\ncut node-b", 2), (b"cut node-a\nquit\ncut node-b\n", 1)):
        reader, writer = os.pipe()
        os.write(writer, text)
        os.close(writer)
        with open(reader) as pipe:  # noqa: PTH123 - a descriptor, not a path
            monkeypatch.setattr(sys, "stdin", pipe)
            lab, file = FakeLab(), io.StringIO()
            asyncio.run(run_prompt(lab, make_console(file)))  # type: ignore[arg-type]
        assert len(lab.calls) == count
        assert "lab> " not in file.getvalue()

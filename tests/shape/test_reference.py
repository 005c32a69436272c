"""
Do the reference pages say what the code says?

Every page of docs/reference is made here, from the names, defaults and texts that stand in the code. Nothing in them is
written by hand: change the code, refresh the pages, and let the review see the diff.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

import griffe
import pytest
from cyclopts import App
from cyclopts.argument import Argument

from persistip import errors
from persistip.cli import EXIT_INTERRUPTED, EXIT_PIPE, VERBS
from persistip.decide.cause import MEANINGS as CAUSES
from persistip.decide.cause import Cause
from persistip.decide.fields import ANNOTATIONS
from persistip.decide.parameters import PARAMETERS, why_unserved
from persistip.manifests import Parameters, build
from persistip.model.conditions import ACCEPTANCE_ORDER, ConditionType, Reason
from persistip.model.gateway import CLASSES, DEFAULT_CONTROLLER
from persistip.model.meanings import MEANINGS, Meaning, Subject
from persistip.runtime.metrics import METRICS, OTHER, Histogram, Process
from persistip.testing.compute_engine.faults import WHAT, FaultKind
from persistip.testing.compute_engine.kinds import TRUST
from persistip.testing.compute_engine.methods import make_methods
from persistip.testing.compute_engine.service import KINDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
REFRESH = "python tests/shape/test_reference.py"
MADE = f"<!-- Made from the code. Do not edit; refresh with: {REFRESH} -->"
LIMITS = (
    ("persistip.decide.fields", "MAX_ADDRESSES"),
    ("persistip.decide.pool", "MAX_ADDRESSES"),
    ("persistip.decide.listeners", "MAX_LISTENERS"),
    ("persistip.decide.fields", "MAX_PARENTS"),
    ("persistip.decide.acceptance", "MAX_NODES"),
)
MARKS = (
    ("persistip.model.attachment", "RELEASE_FINALIZER"),
    ("persistip.model.keys", "CLASS_LABEL"),
    ("persistip.model.keys", "NODE_LABELS"),
    ("persistip.model.gateway", "IN_USE_FINALIZER"),
    ("persistip.decide.suspects", "NAME"),
    ("persistip.backends.linux.snapshot", "PROTOCOL"),
    ("persistip.backends.linux.ruleset", "TABLE_NAME"),
)
PROCESSES = ("controller", "agent")
SUBCOMMANDS = {"run": PROCESSES, "lab": ("", "compute")}

# What the pages say beside their tables.
ABOUT_CONDITIONS = """\
`kubectl describe` shows them. The message of a condition names the field, the object or the node; the reason is one of
these words. “—” in the last column: there is nothing to do. Whenever a route, a Gateway, a listener or a GatewayClass
is refused, or refused in other words than before, an Event of type Warning says so; a listener's is its Gateway's."""
ABOUT_ORDER = "When a route has several faults, all are in the message, and the first in this order gives the reason"
ABOUT_READY = "False: reason and message are those of the first of the other three that is not True."
ABOUT_EVENTS = (
    "A refusal, and a failure of the node, is an Event of type Warning with the reason of its condition. Besides:"
)
ABOUT_PARAMETERS = """\
`spec.parametersRef` may name a ConfigMap. A key that is unknown, or a value that cannot be read, makes the class
`Accepted` False/`InvalidParameters`, and nothing in the ConfigMap is used."""
ABOUT_MARKS = """\
A process that starts without memory knows by these what is its own, in the cluster and in the kernel. It changes and
removes nothing else. What carries a mark in a node's kernel and is in no attachment is removed."""
ABOUT_RIGHTS = """\
Of the manifests that `persistip manifests` prints. Each part runs with these rights and no other; attachments are in no
role that Kubernetes aggregates. What an agent may write is narrowed further, to its own node's report, by the policy
`persistip-agent-reports`; and whoever else has a right on attachments cannot use it, by `persistip-decisions`.

Why these, and not fewer or others:

- **The controller lists and watches ConfigMaps everywhere.** A GatewayClass may name one in any namespace, at any
  time, and RBAC can name only those that are known beforehand. It decides on those alone that a class of ours names,
  and on one in its own namespace. It has no right on Secrets; whoever keeps secrets in ConfigMaps lets it read them.
- **Its Leases**: to create one has no name to give a right on; all else is of one name in its own namespace.
- **An agent writes no Events.** What happens on a node stands in that node's entry of the attachment. The controller
  makes conditions of it, and one Event where something has changed, so that a failing node cannot flood the cluster
  with them, nor a stolen token write any.
- **An agent reads every attachment**, since RBAC cannot narrow a watch to a label. There is no secret in them.
- **In its container an agent has two capabilities.** `NET_ADMIN`: routes, rules, neighbours and nftables of the node,
  which are what it is there for. `NET_RAW`: sockets that send ARP and neighbour advertisements as frames, by which
  the neighbourhood learns of a move at once. Without it addresses still move, and neighbours send to the old node
  until their entry is too old. It runs as root, since capabilities that are added reach no other user, with nothing
  else of root: the rest is dropped, the root file system is read-only, there is no host PID, and of the node it has
  `/var/lib/persistip` and `/proc/sys/net`.
- **The controller has no capability**, is no root, and mounts nothing.
- **Who may connect**: to port 8080 of the controller (probes and metrics) and to port 8081 of an agent, at the node's
  own address. A NetworkPolicy narrows the first; [an
  example](../how-to/install-on-a-cluster.md#narrow-who-may-connect). An agent uses the node's network, on which
  NetworkPolicies have no effect; a firewall of the nodes does."""
ABOUT_VERBS = f"""\
`persistip VERB --help` says the same. Of every verb: a command line that cannot be understood ends with status 2,
Ctrl-C with {EXIT_INTERRUPTED}, and a reader that closes the pipe early with {EXIT_PIPE}."""
ABOUT_SETTINGS = """\
Each is an option of its process, an environment variable, and a field of `persistip.ControllerSettings` or
`persistip.AgentSettings` for whoever embeds the process. An option outweighs a variable."""
ABOUT_METRICS = f"""\
What `/metrics` says of a process that was started with `--listen` ([settings](settings.md)); beside these there are
`persistip_build_info` (labels `process`, `version`) and Prometheus' own `process_…`. Labels have these values and no
others, but for `{OTHER}`, which stands for what is unknown here: no name of an object ever is one. Which of them to
be woken by is told in [Watch persistip](../how-to/watch-persistip.md)."""
ABOUT_CAUSES = f"""\
A move begins when the change that costs the holder the addresses reaches the controller. For `NotReady` the Pod's own
`lastTransitionTime` counts instead where it is more than a second older, as after a start of the controller; it is in
whole seconds. A move ends when the controller sees that the new holder's node has confirmed. So an outage leaves out
what the API took to tell of its cause, and contains what it took to tell of its end; packets may flow a little sooner.
No instant comes from a node's clock. A controller that begins to lead knows of moves under way from their decision on
(`{Cause.TAKEN_OVER}`). Addresses that were withdrawn for good, since their route was deleted or refused, are no move;
neither is the first grant."""
ABOUT_COMPUTE = """\
Of `persistip lab compute` and `persistip.testing.compute_engine`;
[how to use it](../how-to/run-against-an-emulated-compute-engine.md). What is not among these methods is answered with
501, an unknown field, word or query parameter with 400."""
ABOUT_RULES = """\
What breaks one is refused when it is asked for, or as the error of the operation when that completes. How each is known
is said by a letter; **none of them was compared with the live service by us**:"""
ABOUT_ERRORS = """\
What a backend raises, named for what the loop does next. All are names of `persistip`. A user's mistake is none of
these: it is a [condition](conditions.md)."""


# ---------------------------------------------------------------- Markdown
def page(title: str, *parts: str) -> str:
    """Return a whole page."""
    return "\n\n".join([f"# {title}", MADE, *(part for part in parts if part)]) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell is on one line and ends no column early."""
    lines = [[*columns], ["---"] * len(columns), *([cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return *text* as it may stand in a table."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def code(value: object) -> str:
    """Return *value* as code."""
    return f"`{value}`"


# ---------------------------------------------------------------- conditions and Events
def conditions() -> str:
    """Return the page of conditions: for each subject and type, what a reason means and what to do."""
    order = ", ".join(code(reason) for reason in ACCEPTANCE_ORDER)
    parts = [ABOUT_CONDITIONS, f"{ABOUT_ORDER}: {order}."]
    for subject in reversed(Subject):
        told = [meaning for meaning in MEANINGS if meaning.subject is subject]
        for type_ in dict.fromkeys(meaning.type for meaning in told):
            parts.append(f"## {subject}: {type_ or 'Events'}")
            if type_ is ConditionType.READY:
                parts.append(ABOUT_READY)
            if type_ is None:
                parts.append(ABOUT_EVENTS)
            parts.append(meanings_table([meaning for meaning in told if meaning.type is type_]))
    return page("Conditions and reasons", *parts)


def meanings_table(told: Sequence[Meaning]) -> str:
    """Return the rows of one condition type, or of the Events."""
    if told[0].type is None:
        return table(("reason", "says"), [(code(each.reason), each.means) for each in told])
    rows = [(str(each.status), code(each.reason), each.means, each.advice or "—") for each in told]
    return table(("status", "reason", "means", "what to do"), rows)


# ---------------------------------------------------------------- annotations, class parameters, limits
def annotations() -> str:
    """Return the page of annotations."""
    rows = []
    for each in ANNOTATIONS:
        values = " or ".join(code(value) for value in sorted(each.values - each.unserved)) or each.form
        unserved = ", ".join(code(value) for value in sorted(each.unserved))
        values += f"; {unserved}: refused, not served in this version" if unserved else ""
        rows.append((code(each.key), values, each.default, each.means))
    return page(
        "Annotations",
        "They stand on a GKEIPRoute. An unknown key or value of ours refuses the route with `UnsupportedValue`, since "
        "ignored it would look as if it worked.",
        table(("annotation", "values", "when absent", "means"), rows),
    )


def class_parameters() -> str:
    """Return the page of classes and their parameters."""
    classes = [
        (
            code(name),
            "external" if behaviour.external else "internal",
            code(behaviour.mode),
            "no: routes are judged, and nothing is attached for them" if why_unserved(behaviour) else "yes",
        )
        for name, behaviour in CLASSES.items()
    ]
    keys = [(code(each.key), each.form, each.default, each.means) for each in PARAMETERS]
    return page(
        "Classes and their parameters",
        f"A GatewayClass is ours when its `spec.controllerName` is `{DEFAULT_CONTROLLER}`, or what the setting "
        "`--policy.controller-name` says. Its name says how addresses move:",
        table(("GatewayClass", "addresses", "mode", "acted on"), classes),
        ABOUT_PARAMETERS,
        table(("key", "value", "when absent", "means"), keys),
    )


def limits() -> str:
    """Return the page of limits."""
    rows = []
    for path, name in LIMITS:
        said, end, how = docstring_of(path, name).partition("; ")
        rows.append((said, str(getattr(import_module(path), name)), how if end else ""))
    return page("Limits", table(("what", "at most", "beyond"), rows))


def marks() -> str:
    """Return the page of the names by which what is ours is known."""
    rows = [
        (
            code(getattr(import_module(path), name)),
            re.sub(r":\s`[^`]+`$", "", docstring_of(path, name)),
            command_of(path, name),
        )
        for path, name in MARKS
    ]
    return page("Marks: how what is ours is known", ABOUT_MARKS, table(("mark", "is", "shown by"), rows))


def command_of(path: str, name: str) -> str:
    """Return the command at the end of a mark's text, if it ends with one."""
    found = re.search(r":\s(`[^`]+`)$", docstring_of(path, name))
    return found[1] if found else ""


def docstring_of(module: str, name: str) -> str:
    """Return the text that stands under an assignment."""
    loaded = griffe.load(module, search_paths=[str(ROOT / "src")])[name].docstring
    assert loaded is not None, f"{module}.{name} needs a docstring"
    return str(loaded.value).rstrip(".")


# ---------------------------------------------------------------- rights
def rights() -> str:
    """Return the page of roles: who has each, and every rule in it."""
    objects = build(Parameters())
    bound = {}
    for each in objects:
        if each["kind"] in {"ClusterRoleBinding", "RoleBinding"}:
            accounts = ", ".join(f"ServiceAccount {code(subject['name'])}" for subject in each["subjects"])
            bound[each["roleRef"]["kind"], each["roleRef"]["name"]] = f"Held by {accounts}"
    parts = [ABOUT_RIGHTS]
    for role in objects:
        if role["kind"] not in {"ClusterRole", "Role"}:
            continue
        meta = role["metadata"]
        where = f"in namespace {code(meta['namespace'])}" if "namespace" in meta else "in the whole cluster"
        aggregated = sorted(label.rpartition("-")[2] for label in meta.get("labels", {}) if "/aggregate-to-" in label)
        into = f"Part of Kubernetes' own {', '.join(map(code, aggregated))}: where those are bound"
        unbound = into if aggregated else "For whom you bind it to"
        holder = bound.get((role["kind"], meta["name"]))
        parts += [f"## {role['kind']} {meta['name']}", f"{holder}, {where}." if holder else f"{unbound}."]
        rows = []
        for rule in role["rules"]:
            names = ", ".join(map(code, rule.get("resourceNames", ()))) or "all"
            groups = ", ".join(code(group) if group else "core" for group in rule["apiGroups"])
            rows.append((groups, ", ".join(map(code, rule["resources"])), names, ", ".join(rule["verbs"])))
        parts.append(table(("group", "resources", "names", "verbs"), rows))
    return page("Rights", *parts)


# ---------------------------------------------------------------- the command line and its settings
def commands() -> Iterator[tuple[str, App, ModuleType]]:
    """Yield every command that can be run, with its name as typed and the module it is in."""
    for verb, target in VERBS.items():
        module = import_module(target.partition(":")[0])
        for name in SUBCOMMANDS.get(verb, ("",)):
            app = module.app[name] if name else module.app
            yield f"persistip {verb} {name}".rstrip(), app, import_module(function_of(app).__module__)


def function_of(app: App) -> Callable[..., object]:
    """Return what the command calls."""
    found = app.default_command
    assert found is not None
    return inspect.unwrap(found)


def arguments(app: App, *, settings: bool) -> list[Argument]:
    """Return the options of a command: its own, or the settings of a process, which the environment may say too."""
    shown = [each for each in app.assemble_argument_collection(parse_docstring=True) if each.show]
    if not import_module(function_of(app).__module__).app.config:
        return [] if settings else shown
    own = inspect.signature(function_of(app)).parameters
    return [each for each in shown if (each.field_info.name in own and "." not in each.name) is not settings]


def option(argument: Argument) -> str:
    """Return how an option is written, and how a switch is turned off; the form that empties a list is left out."""
    names = [name for name in argument.names if not re.search(r"--(?:.*\.)?empty-", name)]
    return ", ".join(code(name) for name in names)


def kind_of(hint: Any) -> str:
    """Return a type as a person would say it."""
    if get_origin(hint) is Literal:
        return " or ".join(code(value) for value in get_args(hint))
    names = {bool: "switch", int: "whole number", float: "number", str: "text", Path: "path"}
    if hint in names:
        return names[hint]
    inner = [each for each in get_args(hint) if each not in (type(None), Ellipsis)]
    if get_origin(hint) in (tuple, list):
        return f"list: {kind_of(inner[0])}"
    if get_origin(hint) is Union or inner:
        return " or ".join(dict.fromkeys(kind_of(each) for each in inner))
    return str(hint.__name__).replace("IPv4Network", "CIDR").replace("IPv6Network", "CIDR")


def default_of(argument: Argument) -> str:
    """Return the default as it would be typed."""
    default = argument.field_info.default
    if argument.required:
        return "required"
    if argument.hint is bool:
        return "on" if default else "off"
    if default is None or default == ():
        return "—"
    if isinstance(default, tuple):
        return code(" ".join(str(each) for each in default))
    return code(default)


def unit_of(argument: Argument) -> str:
    """Return the unit, which every name of a quantity ends with."""
    name = argument.name.replace("-", "_")
    return {"_seconds": "s", "_per_second": "1/s"}.get(next(iter(re.findall(r"_per_second$|_seconds$", name)), ""), "")


def variable(argument: Argument) -> str:
    """Return the environment variable that says the same."""
    return "PERSISTIP_" + re.sub(r"[.-]", "_", argument.name.removeprefix("--")).upper()


def exit_status(module: ModuleType) -> str:
    """Return what the module's docstring says of the exit status."""
    found = re.search(r"Exit status (.*?)(?:\n\n|\Z)", module.__doc__ or "", re.DOTALL)
    assert found is not None, f"{module.__name__} does not say how it ends"
    return " ".join(found[1].split())


def cli() -> str:
    """Return the page of the command line."""
    parts = [ABOUT_VERBS]
    for name, app, module in commands():
        text = inspect.getdoc(function_of(app)) or ""
        parts += [f"## {name}", text.partition("\nParameters\n")[0].strip()]
        rows = []
        for each in arguments(app, settings=False):
            written = option(each) if each.name.startswith("-") else code(each.name)
            rows.append((written, kind_of(each.hint), default_of(each), each.parameter.help or ""))
        parts.append(table(("option", "value", "default", "means"), rows))
        if arguments(app, settings=True):
            parts.append("And its [settings](settings.md), each of which is an option too.")
        parts.append(f"Exit status: {exit_status(module)}")
    return page("Command line", *parts)


def settings() -> str:
    """Return the page of settings."""
    parts = [ABOUT_SETTINGS]
    for name, app, _ in commands():
        rows = [
            (
                option(each),
                code(variable(each)),
                kind_of(each.hint),
                default_of(each),
                unit_of(each),
                each.parameter.help,
            )
            for each in arguments(app, settings=True)
        ]
        if rows:
            columns = ("option", "variable", "value", "default", "unit", "means")
            parts += [f"## {name}", table(columns, [[text or "" for text in row] for row in rows])]
    return page("Settings", *parts)


# ---------------------------------------------------------------- the emulated Compute Engine
def compute_engine() -> str:
    """Return the page of the emulator: its methods, its rules and its faults."""
    methods: dict[str, list[str]] = {}
    for each in make_methods(KINDS):
        methods.setdefault(each.id.partition(".")[0], []).append(each.verb)
    served = [(code(name), ", ".join(map(code, verbs))) for name, verbs in methods.items()]
    parts = [ABOUT_COMPUTE, "## Methods", table(("service", "methods"), served)]
    parts += ["## Rules", ABOUT_RULES, "\n".join(f"- **{letter}**: {how}" for letter, how in TRUST.items())]
    for kind in KINDS:
        if rules := kind.rules:
            rows = [(each.message.replace("{found}", "…"), str(each.status), each.source) for each in rules]
            parts += [f"### {kind.service}", table(("says", "status", "known from"), rows)]
    parts += ["## Faults", table(("fault", "what happens"), [(code(kind), WHAT[kind]) for kind in FaultKind])]
    return page("The emulated Compute Engine", *parts)


# ---------------------------------------------------------------- metrics
def metrics() -> str:
    """Return the page of metrics: for each process what it measures."""
    parts = [ABOUT_METRICS]
    titles = {Process.BOTH: "both processes", Process.CONTROLLER: "the controller", Process.AGENT: "agents"}
    for process, title in titles.items():
        rows = []
        for each in METRICS:
            if each.process is process:
                labels = "; ".join(
                    f"{code(label.name)}: {', '.join(code(value) for value in label.values)}" for label in each.labels
                )
                rows.append((code(each.name), type(each).__name__.lower(), labels or "—", each.means))
        parts += [f"## Of {title}", table(("metric", "type", "labels", "says"), rows)]
    buckets = {each.buckets: each.name for each in METRICS if isinstance(each, Histogram)}
    causes = [(code(cause), means) for cause, means in CAUSES.items()]
    parts += [
        "## Causes of a move",
        ABOUT_CAUSES,
        table(("cause", "means"), causes),
        "## Buckets",
        "\n".join(
            f"- {'moves' if '_move_' in name else 'the others'}, in seconds: {', '.join(f'{each:g}' for each in ends)}"
            for ends, name in sorted(buckets.items())
        ),
    ]
    return page("Metrics", *parts)


# ---------------------------------------------------------------- errors
def error_classes() -> list[type[errors.PersistIPError]]:
    """Return the classes of the tree, in the order in which they are defined."""
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, errors.PersistIPError)]


def carried_by(class_: type) -> str:
    """Return what an error carries beside its message."""
    parameters = inspect.signature(class_.__init__).parameters.values()
    return ", ".join(code(each.name) for each in parameters if each.kind is each.KEYWORD_ONLY)


def error_tree() -> str:
    """Return the tree as the module's docstring draws it."""
    drawn = re.search(r"^ {4}PersistIPError\n(?:.+\n)+", errors.__doc__ or "", re.MULTILINE)
    assert drawn is not None
    return inspect.cleandoc(drawn[0])


def error_page() -> str:
    """Return the page of errors."""
    rows = [
        (code(each.__name__), (inspect.getdoc(each) or "").replace("*", "`"), carried_by(each))
        for each in error_classes()
    ]
    return page(
        "Errors",
        ABOUT_ERRORS,
        f"```text\n{error_tree()}\n```",
        table(("class", "means", "carries"), rows),
    )


# ---------------------------------------------------------------- the tests
PAGES: Mapping[str, Callable[[], str]] = {
    "annotations.md": annotations,
    "class-parameters.md": class_parameters,
    "cli.md": cli,
    "compute-engine.md": compute_engine,
    "conditions.md": conditions,
    "errors.md": error_page,
    "limits.md": limits,
    "marks.md": marks,
    "metrics.md": metrics,
    "rights.md": rights,
    "settings.md": settings,
}


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_fresh(name: str) -> None:
    """The committed page is the one that the code makes now."""
    kept = (FOLDER / name).read_text(encoding="utf-8") if (FOLDER / name).exists() else ""
    changes = [*difflib.unified_diff(kept.splitlines(), PAGES[name]().splitlines(), name, "now", lineterm="", n=0)]
    assert not changes, "\n".join([f"the code says something else; refresh with: {REFRESH}", *changes])


def test_reference_has_no_page_that_nobody_makes() -> None:
    """Every page of the folder is made from the code."""
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_every_reason_has_a_meaning() -> None:
    """A reason without a sentence for its reader cannot be added; nothing is said twice."""
    assert set(Reason) - {meaning.reason for meaning in MEANINGS} == set()
    said = [(each.subject, each.type, each.status, each.reason) for each in MEANINGS]
    assert len(said) == len(set(said))


def test_error_tree_is_drawn_as_it_is() -> None:
    """Every class stands in the drawing, under the class that it is made from."""
    above: dict[int, str] = {-1: "Exception"}
    drawn = {}
    for line in error_tree().splitlines():
        name = re.search(r"\w+Error", line)
        assert name is not None
        depth = name.start() // 4
        above[depth] = name[0]
        drawn[name[0]] = above[depth - 1]
    assert drawn == {each.__name__: each.__base__.__name__ for each in error_classes() if each.__base__}


def test_only_processes_read_the_environment() -> None:
    """The page of settings speaks of the two processes, and of no other command."""
    told = {name for name, app, _ in commands() if arguments(app, settings=True)}
    assert told == {f"persistip run {name}" for name in PROCESSES}


@pytest.mark.parametrize("process", PROCESSES)
def test_variable_of_each_setting_is_read(process: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The environment variables of the page are those that the process itself names in its help."""
    app = import_module("persistip.cli.run").app
    app([process, "--help"], exit_on_error=False, result_action="return_value")
    named = set(re.findall(r"PERSISTIP_\w+", re.sub(r"[\s│]+", " ", capsys.readouterr().out)))
    assert {variable(each) for each in arguments(app[process], settings=True)} <= named


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made(), encoding="utf-8")
    sys.stdout.write(f"wrote {os.path.relpath(FOLDER)}: {', '.join(PAGES)}\n")

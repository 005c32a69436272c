"""Do the pages still speak of what is there?"""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from persistip.model.conditions import ConditionType, Status
from persistip.model.meanings import MEANINGS, Subject

ROOT = Path(__file__).parents[2]
WALK = ROOT / "docs" / "explanation" / "one-address.md"
RULES = ROOT / "docs" / "explanation" / "rules.md"
NOT_READY = ROOT / "docs" / "how-to" / "why-is-my-route-not-ready.md"
NAME = re.compile(r"`(persistip(?:\.\w+)+)(?:\(\))?`")
CASE = re.compile(r"\[([a-z0-9-]+)\]\(\.\./\.\./tests/golden/([a-z0-9-]+)\.in\.yaml\)")
TEST = re.compile(r"`(test_\w+)`")
NUMBER = re.compile(r"^\| ([0-9]+)\.([0-9]+) \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ANSWERS_NO_RULE = frozenset(
    {
        *("acceptedindex", "indexes", "multimap", "nodeindex", "podindex", "prefixes"),
        *("cause", "extracts", "facts", "foundations", "reach"),
    }
)
"""Of decide/: where things are found, what is read, what is to be decided anew, and what telemetry tells."""
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def resolve(name: str) -> object:
    """Return what the dotted *name* stands for: its longest importable part, then attributes of that."""
    parts = name.split(".")
    value: object = import_module(parts[0])
    for depth, part in enumerate(parts[1:], start=2):
        if isinstance(value, ModuleType) and not hasattr(value, part):
            value = import_module(".".join(parts[:depth]))
        else:
            value = getattr(value, part)
    return value


def names_of(page: Path) -> list[str]:
    """Return the names of code that a page speaks of, each once."""
    return sorted(set(NAME.findall(page.read_text(encoding="utf-8"))))


def test_walk_names_functions_on_the_way() -> None:
    """The one-address walk names at least fifteen functions, methods or classes of the code."""
    assert len([name for name in names_of(WALK) if not isinstance(resolve(name), ModuleType)]) >= 15


@pytest.mark.parametrize("name", sorted({*names_of(WALK), *names_of(RULES)}))
def test_name_of_a_page_resolves(name: str) -> None:
    """Every name on the walk, and beside a rule, is there."""
    assert resolve(name) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file."""
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_golden_case_shows_a_rule() -> None:
    """The page of the rules names each example, by its own name, and none that is not there."""
    named = CASE.findall(RULES.read_text(encoding="utf-8"))
    assert [(text, case) for text, case in named if text != case] == []
    assert {case for _, case in named} == {
        path.name.removesuffix(".in.yaml") for path in ROOT.glob("tests/golden/*.in.yaml")
    }


def test_every_test_that_shows_a_rule_is_there() -> None:
    """What an example cannot show is shown by a test of that name."""
    there = {
        name
        for path in [*ROOT.glob("tests/*/test_*.py"), *ROOT.glob("src/persistip/testing/*_contract.py")]
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    named = set(TEST.findall(RULES.read_text(encoding="utf-8")))
    assert named
    assert named <= there, named - there


def test_rules_of_every_section_are_numbered() -> None:
    """Eight sections, each numbered from one without a gap, and every rule has something to show it."""
    page = RULES.read_text(encoding="utf-8")
    numbers = [(int(section), int(number)) for section, number in NUMBER.findall(page)]
    assert sorted({section for section, _ in numbers}) == [1, 2, 3, 4, 5, 6, 7, 8]
    for section in range(1, 9):
        own = [number for of, number in numbers if of == section]
        assert own == list(range(1, len(own) + 1)), section
    rows = [line for line in page.splitlines() if NUMBER.match(line)]
    assert len(rows) == len(numbers)
    assert [row for row in rows if not CASE.search(row) and not TEST.search(row)] == []


def test_every_module_of_the_rules_decides_one() -> None:
    """Each module of decide/ stands beside a rule that it decides, unless it only finds or carries what rules read."""
    page = RULES.read_text(encoding="utf-8")
    decided_in = "\n".join(line.split(" | ")[2] for line in page.splitlines() if NUMBER.match(line))
    named = {name.split(".")[2] for name in NAME.findall(decided_in) if name.startswith("persistip.decide.")}
    there = {path.stem for path in ROOT.glob("src/persistip/decide/*.py")} - {"__init__"}
    assert {"plan_node", "entries", "difference"} <= named
    assert there - named == ANSWERS_NO_RULE


@pytest.mark.parametrize("condition", [ConditionType.ACCEPTED, ConditionType.GCP_READY, ConditionType.DPV2_READY])
def test_every_reason_of_a_route_that_is_not_ready_has_its_row(condition: ConditionType) -> None:
    """The page for a route that is not Ready has a row, with something to look at, for each reason and for no other."""
    page = NOT_READY.read_text(encoding="utf-8")
    section = next(part for part in page.split("\n## ") if part.startswith(f"{condition} is False"))
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    named = [row[0].split("`")[1] for row in rows]
    assert sorted(named) == sorted(
        meaning.reason
        for meaning in MEANINGS
        if meaning.subject is Subject.ROUTE and meaning.type is condition and meaning.status is not Status.TRUE
    )
    assert [row for row in rows if len(row) != 4 or not row[1].strip() or not row[2].strip()] == []

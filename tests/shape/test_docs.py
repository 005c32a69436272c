"""Do the pages still speak of what is there?"""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
WALK = ROOT / "docs" / "explanation" / "one-address.md"
RULES = ROOT / "docs" / "explanation" / "rules.md"
NAME = re.compile(r"`(persistip(?:\.\w+)+)(?:\(\))?`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
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

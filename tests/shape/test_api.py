"""
Has the public surface changed?

api.txt holds it, one line a name. A change is welcome and visible: refresh the file and let the review see the diff.
"""

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.txt")
REFRESH = "python tests/shape/test_api.py"


def public_modules(package: griffe.Module) -> Iterator[griffe.Module]:
    """Yield the package and those of its modules that are public beside it."""
    yield package
    for path in ("workload", "testing"):
        if path in package.members:
            yield package[path]
    yield package["testing.compute_engine"]
    if "backends" in package.members:
        for name, member in sorted(package["backends"].modules.items()):
            if not name.startswith("_") and name != "registry":
                yield member


def lines_of(item: griffe.Object | griffe.Alias, path: str) -> Iterator[str]:
    """Yield the lines for one public name: itself with its signature, then what belongs to it."""
    if item.is_alias:
        item = item.final_target
    if item.is_function:
        yield f"{path}{one_line(item.signature()).removeprefix(item.name)}"
    elif item.is_attribute:
        annotation = f": {one_line(item.annotation)}" if item.annotation else ""
        yield path + annotation + (f" = {one_line(item.value)}" if item.value else "")
    elif item.is_module:
        yield f"{path} (module)"
    else:
        bases = ", ".join(str(base) for base in item.bases)
        yield f"class {path}({bases})" if bases else f"class {path}"
        for name, member in sorted(item.members.items()):
            if (not name.startswith("_") or name == "__init__") and not member.is_alias:
                yield from lines_of(member, f"{path}.{name}")


def one_line(code: object) -> str:
    """Return *code* on one line, however it is written."""
    return " ".join(str(code).split())


def surface() -> str:
    """Return the public surface as api.txt holds it."""
    package = griffe.load("persistip", search_paths=[str(ROOT / "src")], resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    lines = [
        line
        for module in public_modules(package)
        for name in sorted(module.exports or ())
        for line in lines_of(module[str(name)], f"{module.path}.{name}")
    ]
    return "\n".join(lines) + "\n"


def test_api_file_is_fresh() -> None:
    """The committed file holds the public surface as it is now."""
    kept = API.read_text(encoding="utf-8").splitlines()
    changes = [*difflib.unified_diff(kept, surface().splitlines(), "api.txt", "now", lineterm="", n=0)]
    assert not changes, "\n".join([f"the public surface has changed; refresh with: {REFRESH}", *changes])


def test_public_modules_say_what_they_offer() -> None:
    """Every public module lists its names in ``__all__``, or they would be missing here."""
    package = griffe.load("persistip", search_paths=[str(ROOT / "src")])
    assert isinstance(package, griffe.Module)
    assert [module.path for module in public_modules(package) if not module.exports] == []


if __name__ == "__main__":
    API.write_text(surface(), encoding="utf-8")
    sys.stdout.write(f"wrote {os.path.relpath(API)}\n")

"""Does the repository speak of the project alone: of no package index, and of no one's machine?"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written apart, so that this file does not hold what it forbids.
INDEX_HOSTS = (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"), ("proxy", "golang", "org"),
    ("maven", "apache", "org"), ("maven", "org"), ("deb", "debian", "org"),
)  # fmt: skip
INDEX_HOST = re.compile("|".join(re.escape(".".join(host)) for host in INDEX_HOSTS))
# A node's own paths are the business of a program for nodes; a person's folders are not.
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:work|root|Users|home/(?!kubernetes\b))(?:/|\b(?=[\"'\s]))")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return every tracked text file by its path."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    contents = {str(file.relative_to(ROOT)): file.read_bytes() for file in files if file.is_file()}
    return {name: raw.decode("utf-8", "replace") for name, raw in contents.items() if b"\0" not in raw}


def hits(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    """Return where *pattern* is found, as ``path:line: text``."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in sorted(texts.items())
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_package_index_is_named(texts: dict[str, str]) -> None:
    """No tracked file names the host of a package index: where packages come from is the machine's setting."""
    assert hits(texts, INDEX_HOST) == []


def test_no_machine_path_is_named(texts: dict[str, str]) -> None:
    """No tracked file names a folder of one person's machine."""
    assert (
        hits({name: text for name, text in texts.items() if name != "tests/shape/test_repository.py"}, MACHINE_PATH)
        == []
    )


def test_requirements_are_pinned_with_hashes(texts: dict[str, str]) -> None:
    """Every line of the pinned environments is an exact version followed by hashes."""
    pinned = {name: text for name, text in texts.items() if name.startswith("requirements/")}
    assert pinned
    for name, text in pinned.items():
        for requirement in text.replace("\\\n", " ").splitlines():
            assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:", requirement), f"{name}: {requirement[:80]}"

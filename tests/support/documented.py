"""Which manifests do the docs show? Those under docs/examples, and whole objects in fenced blocks of pages."""

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = tuple(sorted((DOCS / "examples").glob("*.yaml")))
_FENCED = re.compile(r"^```yaml[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sets() -> Mapping[str, str]:
    """Return the manifests by where they stand: the examples as one, and those of each page as one."""
    found = {"examples": "---\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES)}
    for page in sorted(DOCS.glob("**/*.md")):
        blocks = _FENCED.findall(page.read_text(encoding="utf-8"))
        whole = [block for block in blocks if re.search(r"^apiVersion:", block, re.MULTILINE)]
        if whole:
            found[str(page.relative_to(DOCS))] = "---\n".join(whole)
    return found

"""
How does a table look?

In: column names and rows of text.  Out: on a terminal, colours and columns that fit it; anywhere else plain text, the
same for everybody and every width, so that it can be compared, searched and pasted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_GOOD, _BAD = frozenset({"True"}), frozenset({"False", "nobody"})


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """Print *rows* under *columns*, *indent* from the left; an empty cell is shown as a dash."""
    filled = [[cell or "-" for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, filled, indent)
        return
    widths = [max(len(row[index]) for row in (columns, *filled)) for index in range(len(columns))]
    for row in (columns, *filled):
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"{' ' * indent}{line}".rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], indent: int) -> None:
    from rich.console import Console  # noqa: PLC0415 - it takes longer to load than a plan to make
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style="green" if cell in _GOOD else "red" if cell in _BAD else "") for cell in row))
    Console().print(Padding(table, (0, 0, 0, indent), expand=False))

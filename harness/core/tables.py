"""Tables on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def new_table(*columns: str) -> Table:
    """A table with bold headers and no lines; only the last column wraps."""
    from rich.table import Table

    rows = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in rows.columns:
        column.no_wrap = column is not rows.columns[-1]
        column.justify = "right" if column.header == "size" else "left"
    return rows


def show(table: Table) -> None:
    """Print ``table`` as wide as the terminal, in colours; where there is no terminal, in plain long lines."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False, markup=False).print(table)
        return
    console = Console(width=1000, color_system=None, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))

"""The command doctor: check this host, and list how to fix what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.host.doctor.check import CheckState, HostCheck

if TYPE_CHECKING:
    from rich.table import Table


def checks_table(checks: Iterable[HostCheck]) -> Table:
    """One coloured line for each check."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, show_header=False)
    colours = {CheckState.OK: "green", CheckState.LIMITED: "yellow", CheckState.MISSING: "bold red"}
    for check in checks:
        word = check.state.upper() if check.is_missing else check.state
        rows.add_row(Text(word, colours[check.state]), check.name, check.detail)
    return rows

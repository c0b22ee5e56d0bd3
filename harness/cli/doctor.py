"""The command doctor."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, print_json
from harness.core.errors import HostError

if TYPE_CHECKING:
    from rich.table import Table

    from harness.host.doctor import HostCheck

_DESCRIPTION = """\
Check what builds and boots need of this host. The checks need no network, and leave nothing behind. A check is 'ok',
'limited' (works partly, or slower) or MISSING (images cannot be tested here). The commands that fix problems are
printed last.
"""
_EPILOG = """\
example:
  bootproof doctor

exit status: 0, or 75 if something is missing
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "doctor", _doctor, "check this host, and list fixes", _DESCRIPTION, _EPILOG)
    add_json(parser, "the checks")


def _doctor(options: argparse.Namespace) -> int:
    from harness.core.tables import show
    from harness.host.doctor import examine, remedies

    checks = examine()
    if options.json:
        print_json(checks)
    else:
        show(_table(checks))
        if lines := remedies(checks):
            print("\n".join(["", "to fix it:", *(f"    {line}" for line in lines)]))
    return HostError.exit_status if any(check.is_missing for check in checks) else 0


def _table(checks: Iterable[HostCheck]) -> Table:
    """One coloured line for each check."""
    from rich.table import Table
    from rich.text import Text

    from harness.host.doctor import CheckState

    rows = Table(box=None, pad_edge=False, show_header=False)
    colours = {CheckState.OK: "green", CheckState.LIMITED: "yellow", CheckState.MISSING: "bold red"}
    for check in checks:
        word = check.state.upper() if check.is_missing else check.state
        rows.add_row(Text(word, colours[check.state]), check.name, check.detail)
    return rows

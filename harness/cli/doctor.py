"""The command doctor."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, print_json, print_table
from harness.core.errors import HostError

if TYPE_CHECKING:
    from rich.table import Table

    from harness.host.doctor import HostCheck

_DESCRIPTION = """\
Check what builds and boots need of this host. The checks need no network, and leave nothing behind. A check is 'ok',
'limited' (works partly, or slower) or MISSING (images cannot be tested here). The commands that fix problems are
printed last.

With --hosts, the hosts of that file are checked by SSH at the same time, and each has one line: whether it can be
reached, has this Bootproof, and could run a shard of `bootproof run --hosts`.
"""
_EPILOG = """\
examples:
  bootproof doctor
  bootproof doctor --hosts hosts.txt

exit status: 0, or 75 if something is missing here, or any host has a problem
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "doctor", _doctor, "check this host, and list fixes", _DESCRIPTION, _EPILOG)
    add_json(parser, "the checks")
    add_hosts(parser)


def add_hosts(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    parser.add_argument("--hosts", type=Path, metavar="FILE",
        help="the hosts, one on each line: [user@]host[:port] [options of ssh]")
    parser.add_argument("--bootproof", default="bootproof", metavar="COMMAND",
        help="how a shell on the hosts calls Bootproof (default: bootproof)")
    # fmt: on


def _doctor(options: argparse.Namespace) -> int:
    if options.hosts:
        return _doctor_hosts(options)
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


def _doctor_hosts(options: argparse.Namespace) -> int:
    from harness.pool.hosts import read_hosts
    from harness.pool.on_host import harness_digest
    from harness.pool.survey import COLUMNS, row, survey

    surveyed = survey(read_hosts(options.hosts), options.bootproof, harness_digest(), is_examined=True)
    if options.json:
        print_json(surveyed)
    else:
        print_table(COLUMNS, [row(one) for one in surveyed])
    return HostError.exit_status if any(one.problem for one in surveyed) else 0


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

"""Checks of this host: what works, what is missing, and the command that fixes it. Quick; needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.host.doctor.boots import for_boots
from harness.host.doctor.builds import for_builds
from harness.host.doctor.check import INSTALL, CheckState, HostCheck
from harness.host.doctor.places import places
from harness.host.doctor.programs import programs
from harness.host.doctor.resources import resources

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["CheckState", "HostCheck", "examine", "remedies", "table"]


def examine() -> list[HostCheck]:
    """Run every check. Features are tried, not assumed; the lab is opened for real. Nothing is left behind."""
    return [*programs(), *for_boots(), *for_builds(), *places(), *resources()]


def table(checks: Iterable[HostCheck]) -> Table:
    """The checks, for a person."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, show_header=False)
    colours = {CheckState.OK: "green", CheckState.LIMITED: "yellow", CheckState.MISSING: "bold red"}
    for check in checks:
        word = check.state.upper() if check.is_missing else check.state
        rows.add_row(Text(word, colours[check.state]), check.name, check.detail)
    return rows


def remedies(checks: Iterable[HostCheck]) -> list[str]:
    """The commands to run, each once; all packages are in one command."""
    lines = list(dict.fromkeys(check.remedy for check in checks if check.remedy))
    packages = [line.removeprefix(INSTALL) for line in lines if line.startswith(INSTALL)]
    others = [line for line in lines if not line.startswith(INSTALL)]
    return [INSTALL + " ".join(packages), *others] if packages else others

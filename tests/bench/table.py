"""The results of a measurement: figures and limits, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.table import Table

from harness.core import process
from harness.qemu import program

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The highest acceptable ratio or, with a ``unit``, value. Only a ``binding`` limit fails a run."""

    most: float
    unit: str = ""
    binding: bool = True

    def __str__(self) -> str:
        return f"≤ {self.most:g} {self.unit}".rstrip() + ("" if self.binding else " (informative)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. ``value`` is in ``unit``; ``ratio`` is to ``compared_with``; ``samples`` are raw."""

    row: str
    what: str
    value: float
    unit: str
    compared_with: str = ""
    ratio: float | None = None
    limit: Limit | None = None
    samples: Samples = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the figure is within its limit; None without a limit."""
        if self.limit is None:
            return None
        seen = self.value if self.limit.unit else self.ratio
        return seen is not None and seen <= self.limit.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run: the figures, the host, and the rows that could not be measured (``failures``: row to reason)."""

    date: str
    host: dict[str, str]
    versions: dict[str, str]
    figures: list[Figure]
    failures: dict[str, str]

    @property
    def is_good(self) -> bool:
        missed = [figure for figure in self.figures if figure.limit and figure.limit.binding and not figure.is_met]
        return not missed and not self.failures


def compared(
    row: str, what: str, ours: list[float], other: str, theirs: list[float], *, unit: str, limit: Limit | None
) -> Figure:
    """A figure of paired samples: the median of ours, and the median of the pairs' ratios."""
    ratios = [one / another for one, another in zip(ours, theirs, strict=True)]
    return Figure(
        row=row,
        what=what,
        value=median(ours),
        unit=unit,
        compared_with=other,
        ratio=median(ratios),
        limit=limit,
        samples={what: ours, other: theirs},
    )


def alternate(pairs: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Paired samples of two measurements; their order alternates from pair to pair."""
    ones, others = [], []
    for number in range(pairs):
        if number % 2:
            others.append(second())
            ones.append(first())
        else:
            ones.append(first())
            others.append(second())
        said = f"pair {number + 1} of {pairs}: {ones[-1]:.3g} and {others[-1]:.3g}"
        print(f"  {said}", file=sys.stderr, flush=True)
    return ones, others


def host_facts() -> dict[str, str]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "system": platform.platform(),
        "cpu": cpu[0].partition(": ")[2] if cpu else "unknown",
        "cores": str(os.cpu_count()),
        "memory": f"{memory_gib:.0f} GiB",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """Versions of Bootproof and of the programs that it is compared with."""
    asked = {
        "bootproof": ["git", "describe", "--always", "--dirty"],
        "qemu": [program.in_use().program, "--version"],
        "mmdebstrap": ["mmdebstrap", "--version"],
    }
    said = {name: process.output(argv).splitlines()[0] for name, argv in asked.items()}
    return {"python": platform.python_version(), **said}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def render(report: Report) -> Table:
    table = Table(
        "figure", title=f"{report.date}, {report.host['cores']} cores of {report.host['cpu']}", title_justify="left"
    )
    for heading in ("value", "ratio"):
        table.add_column(heading, justify="right")
    for heading in ("limit", ""):
        table.add_column(heading)
    for figure in report.figures:
        table.add_row(*_cells(figure))
    for row, reason in report.failures.items():
        table.add_row(row, "", "", reason, "[red]not measured[/]")
    return table


def _cells(figure: Figure) -> Sequence[str]:
    what = f"{figure.what} ÷ {figure.compared_with}" if figure.compared_with else figure.what
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
    said = {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}[figure.is_met]
    return what, f"{figure.value:.3g} {figure.unit}", ratio, str(figure.limit or ""), said

"""Checks by boot paths: what was proven on which way a machine comes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.model.verdict import Rate, Verdict

_BOOT = "boot:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """``state`` is passed, failed or missing, or empty where nothing is required; it stands for ``columns``.
    ``came_up`` says that the machine did all the same."""

    state: str
    came_up: bool = False
    columns: int = 1
    rate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    check: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The first row is that of the boots, a cell for each path; the others' checks are for all paths."""

    boot_paths: tuple[str, ...]
    rows: tuple[Row, ...]


def lay_out(verdict: Verdict) -> Matrix:
    states, rates = _states(verdict), {rate.check: _said(rate) for rate in verdict.rates}
    named = (check.removeprefix(_BOOT) for check in states if check.startswith(_BOOT))
    paths = tuple(dict.fromkeys([*verdict.coverage.boot_paths, *named]))
    judged = verdict.digests.get("artifacts")
    came_up = {boot.boot_path for boot in verdict.boots if boot.ready_s is not None and boot.artifacts == judged}
    return Matrix(boot_paths=paths, rows=tuple(_rows(paths, states, rates, came_up)))


def _states(verdict: Verdict) -> dict[str, str]:
    """Worst first."""
    coverage = verdict.coverage
    by_state = {"failed": coverage.failed, "missing": coverage.missing, "passed": coverage.passed}
    return {check: state for state, checks in by_state.items() for check in checks}


def _rows(paths: tuple[str, ...], states: dict[str, str], rates: dict[str, str], came_up: set[str]) -> Iterator[Row]:
    if paths:
        checks = {path: f"{_BOOT}{path}" for path in paths}
        cells = (
            Cell(state=states.get(check, ""), rate=rates.get(check, ""), came_up=path in came_up)
            for path, check in checks.items()
        )
        yield Row(check="boot", cells=tuple(cells))
    for check, state in states.items():
        if not check.startswith(_BOOT):
            yield Row(check=check, cells=(Cell(state=state, columns=max(1, len(paths)), rate=rates.get(check, "")),))


def _said(rate: Rate) -> str:
    return f"{rate.passed} of {rate.repeats} ({rate.low:.0%} to {rate.high:.0%})"

"""Required checks by boot path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.model.verdict import Verdict

_BOOT = "boot:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """``state`` is passed, failed, missing, or empty where no check is required; the cell spans ``columns``.
    ``is_booted`` states whether a machine became ready all the same."""

    state: str
    is_booted: bool = False
    columns: int = 1
    rate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``took_s`` are seconds of the check's tests, with waiting; None if they are not known."""

    check: str
    cells: tuple[Cell, ...]
    took_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The first row is about boots, with a cell for each path; the checks of the others are for all paths."""

    boot_paths: tuple[str, ...]
    rows: tuple[Row, ...]


def lay_out(verdict: Verdict) -> Matrix:
    coverage = verdict.coverage
    worst_first = {"failed": coverage.failed, "missing": coverage.missing, "passed": coverage.passed}
    states = {check: state for state, checks in worst_first.items() for check in checks}
    rates = {
        rate.check: f"{rate.passed} of {rate.repeats} ({rate.low:.0%} to {rate.high:.0%})" for rate in verdict.rates
    }
    named = (check.removeprefix(_BOOT) for check in states if check.startswith(_BOOT))
    paths = tuple(dict.fromkeys([*coverage.boot_paths, *named]))
    judged = verdict.digests.get("artifacts")
    booted = {
        boot.boot_path
        for boot in verdict.boots
        if boot.ready_s is not None and boot.artifacts == judged and not boot.begins
    }
    took_s = verdict.cost.checks_s if verdict.cost else {}
    rows = (replace(row, took_s=took_s.get(row.check)) for row in _rows(paths, states, rates, booted))
    return Matrix(boot_paths=paths, rows=tuple(rows))


def _rows(paths: tuple[str, ...], states: dict[str, str], rates: dict[str, str], booted: set[str]) -> Iterator[Row]:
    if paths:
        checks = {path: f"{_BOOT}{path}" for path in paths}
        cells = (
            Cell(state=states.get(check, ""), rate=rates.get(check, ""), is_booted=path in booted)
            for path, check in checks.items()
        )
        yield Row(check="boot", cells=tuple(cells))
    for check, state in states.items():
        if not check.startswith(_BOOT):
            yield Row(check=check, cells=(Cell(state=state, columns=max(1, len(paths)), rate=rates.get(check, "")),))

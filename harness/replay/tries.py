"""Tries of cases: a case is tried several times if its failure is intermittent, and all tries are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from harness.core.errors import SpecError, UsageError
from harness.core.statistics import expected_rate
from harness.replay.case import Case
from harness.replay.delta import TryOutcome, ddmin
from harness.replay.differences import Difference, differences, mixed

_SURE, _REPEAT = 0.95, 5


def certainty(*, failed: int, tried: int, goods: int, repeat: int) -> float:
    """The probability that no bad case passed for good by chance.

    The bad case failed in ``failed`` of ``tried`` tries; each of ``goods`` good cases passed ``repeat`` tries. The
    failure rate is estimated by Laplace's rule of succession; a bad case passes ``repeat`` tries with the probability
    (1 - rate) ** repeat.
    """
    passes = 1 - expected_rate(failed, tried)
    return float((1 - passes**repeat) ** goods)


@dataclass(slots=True)
class Tries:
    """Tries cases and counts. ``attempt`` returns the ids of the findings of one try, ``report`` prints a line."""

    attempt: Callable[[Case], tuple[str, ...]]
    repeat: int
    report: Callable[[str], None]
    wanted: str = ""
    boots: int = field(default=0, init=False)
    goods: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    tried: int = field(default=0, init=False)

    def confirm(self, good: Case, bad: Case) -> None:
        """Search for the first finding of ``bad``. `UsageError` if ``bad`` has none, or ``good`` is not good."""
        for _ in range(self.repeat):
            found = self._try(bad)
            self.tried += 1
            if found and not self.wanted:
                self.wanted = found[0]
            self.failed += self.wanted in found
        if not self.wanted:
            raise UsageError(
                f"BAD does not fail: no finding in {self.repeat} of {self.repeat} tries; if the failure is "
                f"intermittent: --repeat {self.repeat * 3}"
            )
        self.report(f"BAD shows {self.wanted} in {self.failed} of {self.tried}")
        outcome = self.judge(good, "GOOD")
        if outcome is not TryOutcome.GOOD:
            raise UsageError(
                f"GOOD fails, too: it shows {self.wanted if outcome is TryOutcome.BAD else 'another finding'}"
            )

    def judge(self, case: Case, name: str) -> TryOutcome:
        """Bad as soon as one try shows the wanted finding; unresolved if one shows another; else good."""
        other = ""
        for _ in range(self.repeat):
            found = self._try(case)
            if self.wanted in found:
                self.report(f"{name}: {TryOutcome.BAD}")
                return TryOutcome.BAD
            other = next(iter(found), other)
        self.goods += not other
        self.report(f"{name}: {f'{TryOutcome.UNRESOLVED} ({other})' if other else TryOutcome.GOOD}")
        return TryOutcome.UNRESOLVED if other else TryOutcome.GOOD

    def _try(self, case: Case) -> tuple[str, ...]:
        self.boots += 1
        return self.attempt(case)


def smallest_change(good: Case, bad: Case, tries: Tries, folder: Path) -> tuple[Difference, ...]:
    """The 1-minimal set of differences that makes ``good`` bad, with mixed artifacts in ``folder``."""
    parts, numbers = differences(good, bad), count()
    if not parts:
        raise UsageError("GOOD and BAD do not differ in anything that bisect compares")

    def try_mix(taken: tuple[Difference, ...]) -> TryOutcome:
        name = ", ".join(map(str, taken))
        with suppress(SpecError):
            return tries.judge(mixed(good, bad, taken, folder / f"mix-{next(numbers)}"), name)
        tries.report(f"{name}: {TryOutcome.UNRESOLVED} (such a machine cannot exist)")
        return TryOutcome.UNRESOLVED

    return ddmin(parts, try_mix)


def format_result(found: Sequence[Difference], tries: Tries) -> Iterator[str]:
    """The result, as lines for a person."""
    yield f"{tries.wanted} is caused by: {'; '.join(map(str, found))}"
    summary = f"{tries.boots} tries; BAD failed in {tries.failed} of {tries.tried}"
    if tries.repeat == 1:
        yield f"{summary}; if the failure is intermittent, use --repeat {_REPEAT}"
        return
    probability = certainty(failed=tries.failed, tried=tries.tried, goods=tries.goods, repeat=tries.repeat)
    yield f"{summary}; {probability:.0%} certain that no bad mix passed by chance"
    if probability < _SURE:
        yield f"for more certainty: --repeat {tries.repeat * 2}"

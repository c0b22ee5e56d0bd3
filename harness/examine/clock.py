"""The clock is right, and something keeps it so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.examine.known import known
from harness.examine.units import UnitRow
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_DATE = Probe("date", "date '+%s %z'")
_RTC = Probe("the RTC's zone", "[ -e /etc/adjtime ] || { echo none; exit; }\ncat /etc/adjtime")
PROBES = (_DATE, _RTC)

_WITHIN_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """``ahead_s`` is the difference to the harness's clock, ``zone`` as "+0000"; ``adjtime`` is /etc/adjtime."""

    ahead_s: float = 0.0
    zone: str = "+0000"
    adjtime: str = "none"


def parse(answers: Mapping[str, str], asked_s: float) -> ClockReading:
    """``asked_s`` is when the guest was asked, in seconds since the epoch."""
    seconds, zone = read(answers, _DATE, lambda text: (int(text.split()[0]), text.split()[1]))
    return ClockReading(ahead_s=seconds - asked_s, zone=zone, adjtime=answers[_RTC.name])


def judge(clock: ClockReading, units: Mapping[str, UnitRow]) -> Iterator[LintFinding]:
    services = known("clock_units")
    if not any(name in units and units[name].active in ("active", "activating") for name in services):
        what = "no service that sets the clock by the network is running"
        looked = f"looked for: {', '.join(services[:4])}, …"
        yield fails("clock-not-set", "/etc/systemd/timesyncd.conf", what, looked)
    if abs(clock.ahead_s) > _WITHIN_S:
        way = "ahead" if clock.ahead_s > 0 else "behind"
        yield fails("clock-wrong", "clock:system", f"the clock is {abs(clock.ahead_s):.0f} s {way} of this host's")
    if clock.zone != "+0000":
        yield fails("clock-wrong", "/etc/localtime", f"the time zone is not UTC, but {clock.zone}")
    if "LOCAL" in clock.adjtime.split():
        yield fails("clock-wrong", "/etc/adjtime", "the board's clock is taken for local time, not UTC")

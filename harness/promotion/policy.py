"""A policy: what a stream demands of an image before it carries it, and whom it believes.

    [keys]                              # whose attestations count: Ed25519 public keys, in hex
    ci = "6b3f…"

    [streams.stable]
    checks = ["power-cuts"]             # besides those that the image's definition asks for
    boot_paths = ["direct", "ipxe-bios"]
    power_cuts = 20000                    # states that a power cut can leave of the disk
    boots = 5                           # of these very bytes that became ready, on each boot path
    max_age_days = 14                   # since the run
    flakes = "fail"                     # or "allow": what passed in some repeats and failed in others
    budget = { boot_percent = 10, size_percent = 5, memory_percent = 10, packages = 20, sockets = 0, units = 5 }

    [[streams.stable.waive]]
    finding = "unit-failed"             # where = "…" narrows it down; or check = "openvswitch", all of it
    by = "ann@example.org"
    reason = "the new firmware package; shrinks with the next kernel"
    until = 2026-12-31

Everything is optional but a waiver's four. A budget is relative to what the stream carries now: in percent, or how
many more. The decision is a pure function of values.
"""

from __future__ import annotations

import random
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.core.errors import Blame, DefinitionError
from harness.model.machine_spec import BootPath
from harness.model.verdict import BootResult, Finding, Outcome, Verdict
from harness.verdict.coverage import FLAKE, THOROUGH, known_checks

CHECK_FAILED, _OVER_BUDGET = "check-failed", "over-budget"
_MOST = 1_000_000
_RESAMPLES, _CONFIDENCE = 2000, 0.95
_LEAST_BOOTS = 3
"""Fewer boots than that have no distribution to speak of."""

_FLOOR_S = 1.0
"""A phase that takes so much longer is not slower by any percentage: consoles are read twice a second."""

_AHEAD = timedelta(minutes=5)
"""Clocks differ that much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """``by`` whom, for what ``reason``, and ``until`` when a ``finding`` does not count, or all of a failed ``check``.

    ``where`` is a part of the place of the finding: the test's id, if a test found it.
    """

    by: str
    reason: str
    until: date
    finding: str = ""
    where: str = ""
    check: str = ""

    @property
    def what(self) -> str:
        return self.finding or self.check


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much more than the stream carries now: in percent, or a number. None is no limit."""

    boot_percent: int | None = None
    size_percent: int | None = None
    memory_percent: int | None = None
    packages: int | None = None
    sockets: int | None = None
    units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What one stream demands."""

    checks: tuple[str, ...] = ()
    boot_paths: tuple[str, ...] = ()
    power_cuts: int = 0
    boots: int = 1
    max_age_days: int = 30
    flakes: str = "fail"
    budget: Budget = field(default_factory=Budget)
    waive: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``keys`` maps a name to a public key in hex."""

    keys: dict[str, str]
    streams: dict[str, Demands]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a verdict does not say of the artifacts it is about: their sizes in bytes and number of packages."""

    verdict: Verdict
    sizes: dict[str, int]
    packages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``why`` something is not promoted, and the command or change that would supply what is missing."""

    why: str
    remedy: str


# Reading


def load_policy(path: Path, content: bytes) -> Policy:
    """The policy in ``content``, which was read from ``path``; `DefinitionError` names what is wrong in it."""
    try:
        plain = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise DefinitionError(str(path), "TOML", str(error), "mend it there") from None
    reader = _Reader(str(path))
    reader.check_names(plain, ("keys", "streams"), "")
    keys = reader.table(plain, "keys", "")
    for name, key in keys.items():
        if not (isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef")):
            raise reader.error(f"keys.{name}", "no Ed25519 public key", "64 hexadecimal digits, as in the file .pub")
    streams = reader.table(plain, "streams", "")
    return Policy(keys=dict(keys), streams={name: reader.demands(row, name) for name, row in streams.items()})


class _Reader:
    """Values of a TOML table, each of the right kind or an error that names it."""

    def __init__(self, file: str) -> None:
        self._file = file

    def error(self, key: str, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(self._file, key, problem, remedy)

    def check_names(self, table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
        for name in table:
            if name not in known:
                raise self.error(f"{where}{name}", "unknown", f"known: {', '.join(known)}")

    def table(self, plain: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
        value = plain.get(name, {})
        if not isinstance(value, dict):
            raise self.error(f"{where}{name}", f"{value!r} is no table", f"write [{where}{name}]")
        return value

    def number(self, plain: Mapping[str, Any], name: str, where: str, default: Any) -> Any:
        value = plain.get(name, default)
        if value is not default and (type(value) is not int or not 0 <= value <= _MOST):
            raise self.error(f"{where}{name}", f"{value!r:.40} is no number", f"a whole number, 0 to {_MOST}")
        return value

    def names(self, plain: Mapping[str, Any], name: str, where: str, known: Sequence[str]) -> tuple[str, ...]:
        value = plain.get(name, [])
        if not isinstance(value, list):
            raise self.error(f"{where}{name}", f"{value!r} is no list", 'such as ["image"]')
        for one in value:
            if one not in known:
                raise self.error(f"{where}{name}", f"{one!r} is unknown", f"known: {', '.join(known)}")
        return tuple(value)

    def demands(self, plain: Any, stream: str) -> Demands:
        where = f"streams.{stream}."
        if not isinstance(plain, dict):
            raise self.error(where.rstrip("."), f"{plain!r} is no table", f"write [streams.{stream}]")
        self.check_names(plain, tuple(Demands.__dataclass_fields__), where)
        flakes = plain.get("flakes", "fail")
        if flakes not in ("fail", "allow"):
            raise self.error(f"{where}flakes", f"{flakes!r} is neither", '"fail" or "allow"')
        rows = plain.get("waive", [])
        if not isinstance(rows, list):
            raise self.error(f"{where}waive", "no list of tables", f"write [[{where}waive]]")
        return Demands(
            checks=self.names(plain, "checks", where, sorted(known_checks())),
            boot_paths=self.names(plain, "boot_paths", where, [path.value for path in BootPath]),
            power_cuts=self.number(plain, "power_cuts", where, 0),
            boots=self.number(plain, "boots", where, 1),
            max_age_days=self.number(plain, "max_age_days", where, 30),
            flakes=flakes,
            budget=self.budget(self.table(plain, "budget", where), f"{where}budget."),
            waive=tuple(self.waiver(row, f"{where}waive.") for row in rows),
        )

    def budget(self, plain: Mapping[str, Any], where: str) -> Budget:
        names = tuple(Budget.__dataclass_fields__)
        self.check_names(plain, names, where)
        return Budget(**{name: self.number(plain, name, where, None) for name in names})

    def waiver(self, plain: Any, where: str) -> Waiver:
        if not isinstance(plain, dict):
            raise self.error(where.rstrip("."), f"{plain!r} is no table", f"write [[{where.rstrip('.')}]]")
        self.check_names(plain, tuple(Waiver.__dataclass_fields__), where)
        if ("finding" in plain) == ("check" in plain):
            raise self.error(f"{where}finding", "a waiver is of one finding or of one check", "name one of the two")
        if plain.get("finding") == CHECK_FAILED and not plain.get("where"):
            raise self.error(f"{where}where", f"every test that fails is a {CHECK_FAILED!r}", "name the test")
        for name in ("by", "reason", "finding", "check", "where"):
            value = plain.get(name, "" if name in ("by", "reason") else "-")
            if not isinstance(value, str) or not value.strip():
                raise self.error(f"{where}{name}", "missing or empty", "who waives what, and why, must be said")
        if "check" in plain and plain["check"] not in known_checks():
            known = ", ".join(sorted(known_checks()))
            raise self.error(f"{where}check", f"{plain['check']!r} is unknown", f"known: {known}")
        until = plain.get("until")
        if type(until) is not date:
            raise self.error(f"{where}until", "missing, or no date", "such as 2026-12-31, without quotes")
        return Waiver(**plain)


# Deciding


def refusals(demands: Demands, new: Carried, now: Carried | None, at: datetime) -> Iterator[Refusal]:
    """Why ``new`` is not promoted, the gravest first; nothing if it is. ``now`` is what the stream carries today."""
    verdict = new.verdict
    command = _command(demands, verdict)
    yield from _about_time(demands, verdict, at, command)
    yield from _about_waivers(demands, at)
    yield from _about_findings(demands, verdict, at, command)
    yield from _about_coverage(demands, verdict, at, command)
    if now and not any(waiver.finding == _OVER_BUDGET for waiver in _in_force(demands, at)):
        yield from _about_budget(demands.budget, new, now)


def _in_force(demands: Demands, at: datetime) -> list[Waiver]:
    return [waiver for waiver in demands.waive if waiver.until >= at.date()]


def _command(demands: Demands, verdict: Verdict) -> str:
    """What would prove all that is demanded."""
    is_thorough = demands.power_cuts or any(check in THOROUGH for check in demands.checks)
    words = [f"pytest -n 8 --image {verdict.image}"]
    words += ["--thorough"] if is_thorough else []
    words += [f"--power-cuts {demands.power_cuts}"] if demands.power_cuts else []
    words += [f"--boots {demands.boots}"] if demands.boots > 1 else []
    return " ".join(words)


def _about_time(demands: Demands, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    started = datetime.fromisoformat(verdict.started)
    age = at - (started if started.tzinfo else started.replace(tzinfo=UTC))
    if age < -_AHEAD:
        yield Refusal(
            why=f"the verdict is of {verdict.started}, which is yet to come: it is {at.isoformat(timespec='seconds')}",
            remedy="set the clock of this host, or of the one that ran the tests",
        )
    if age > timedelta(days=demands.max_age_days):
        yield Refusal(
            why=f"the verdict is {age.days} days old, {demands.max_age_days} are allowed", remedy=f"run {command}"
        )


def _about_waivers(demands: Demands, at: datetime) -> Iterator[Refusal]:
    for waiver in demands.waive:
        if waiver.until < at.date():
            yield Refusal(
                why=f"the waiver of {waiver.what} by {waiver.by} ended on {waiver.until}",
                remedy="take it out of the policy, or give it a new date and reason",
            )


def _about_findings(demands: Demands, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    """What the host or the harness failed at is never waived: it says nothing about the image."""
    hosts = [finding for finding in verdict.findings if finding.blame is not Blame.IMAGE]
    for finding in hosts:
        yield Refusal(why=f"the verdict is inconclusive: {finding.what} [{finding.id}]", remedy=f"run {command} again")
    if verdict.outcome is Outcome.INCONCLUSIVE and not hosts:
        yield Refusal(why="the verdict is inconclusive", remedy=f"run {command}")
    for finding in verdict.findings:
        if finding not in hosts and not _is_excused(finding, demands, verdict, at):
            yield Refusal(why=f"{finding.what} [{finding.id}], {finding.where}", remedy=_mend(finding))


def _is_excused(finding: Finding, demands: Demands, verdict: Verdict, at: datetime) -> bool:
    coverage, waivers = verdict.coverage, _in_force(demands, at)
    of_checks = {test for waiver in waivers for test in coverage.failed_tests.get(waiver.check, ())}
    return (
        any(waiver.finding == finding.id and waiver.where in finding.where for waiver in waivers)
        or finding.where in of_checks
        or (finding.id == FLAKE and demands.flakes == "allow")
        or (finding.id == CHECK_FAILED and _is_allowed_flake(finding.where, demands, verdict))
    )


def _is_allowed_flake(test: str, demands: Demands, verdict: Verdict) -> bool:
    return demands.flakes == "allow" and test in verdict.coverage.flaky_tests


def _mend(finding: Finding) -> str:
    return f"mend the image, or let the policy waive {finding.id!r} with a name, a reason and a date"


def _about_coverage(demands: Demands, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    """What did not run is never waived: nobody knows what it would have found."""
    coverage = verdict.coverage
    wanted = (*demands.checks, *(f"boot:{path}" for path in demands.boot_paths))
    known = (*coverage.passed, *coverage.failed, *coverage.missing)
    absent = dict.fromkeys([*coverage.missing, *(check for check in wanted if check not in known)])
    if absent or not coverage.passed:
        yield Refusal(why=f"not proven: {', '.join(absent) or 'anything'}", remedy=f"run {command}")
    failed = [check for check in coverage.failed if not _is_made_up_for(check, demands, verdict, at)]
    if failed:
        yield Refusal(why=f"failed: {', '.join(failed)}", remedy="mend the image")
    if coverage.power_cuts < demands.power_cuts:
        yield Refusal(
            why=f"{coverage.power_cuts} states after power cuts were judged, {demands.power_cuts} are demanded",
            remedy=f"run {command}",
        )
    for path in demands.boot_paths or verdict.coverage.boot_paths:
        boots = len(_boots(verdict, path))
        if boots < demands.boots:
            yield Refusal(
                why=f"{boots} boots by {path} became ready, {demands.boots} are demanded", remedy=f"run {command}"
            )


def _is_made_up_for(check: str, demands: Demands, verdict: Verdict, at: datetime) -> bool:
    """It is waived, or each of its tests that failed has a finding that is excused."""
    excused = {finding.where for finding in verdict.findings if _is_excused(finding, demands, verdict, at)}
    tests = verdict.coverage.failed_tests.get(check, ())
    return any(waiver.check == check for waiver in _in_force(demands, at)) or (bool(tests) and set(tests) <= excused)


# Budgets


def _about_budget(budget: Budget, new: Carried, now: Carried) -> Iterator[Refusal]:
    yield from _about_boots(budget, new.verdict, now.verdict)
    yield from _about_memory(budget, new.verdict, now.verdict)
    sums = [{**one.sizes, "all files": sum(one.sizes.values())} for one in (new, now)]
    for name, size in sums[0].items():
        limit, was = budget.size_percent, sums[1].get(name)
        if limit is not None and was and size > was * (1 + limit / 100):
            yield _over(name, f"{size / was - 1:+.1%}", f"{limit} %")
    counts: list[tuple[str, int | None, int, int]] = [("packages", budget.packages, new.packages, now.packages)]
    if new.verdict.runtime_profile and now.verdict.runtime_profile:
        fresh, old = new.verdict.runtime_profile, now.verdict.runtime_profile
        counts.append(("sockets", budget.sockets, len(set(fresh.sockets) - set(old.sockets)), 0))
        counts.append(("units", budget.units, len(fresh.units), len(old.units)))
    elif budget.sockets is not None or budget.units is not None:
        yield Refusal(
            why="sockets and units cannot be compared: one of the verdicts does not tell them",
            remedy="run the whole suite of the one that is to be promoted; the next promotion can compare",
        )
    for name, allowed, count, before in counts:
        if allowed is not None and count - before > allowed:
            yield _over(name, f"{count - before} more", f"{allowed} more")


def _about_boots(budget: Budget, new: Verdict, now: Verdict) -> Iterator[Refusal]:
    """Each phase of each boot path."""
    if budget.boot_percent is None:
        return
    fast, slow = (one.host.get("accelerator", "").partition(":")[0] for one in (new, now))
    if fast != slow:
        yield Refusal(why=f"boots under {fast} cannot be compared with those under {slow}, which the stream carries",
                      remedy=f"run it on a host with {slow}")  # fmt: skip
        return
    for path in new.coverage.boot_paths:
        fresh, old = _boots(new, path), _boots(now, path)
        if not old:
            continue
        if refusal := _too_few(path, len(fresh), len(old)):
            yield refusal
            continue
        for phase in dict.fromkeys(phase for row in (*fresh, *old) for phase in row):
            times, before = ([row.get(phase, 0.0) for row in rows] for rows in (fresh, old))
            yield from _compared(f"{phase} by {path}", times, before, budget.boot_percent, _FLOOR_S, "s")


def _about_memory(budget: Budget, new: Verdict, now: Verdict) -> Iterator[Refusal]:
    if budget.memory_percent is None:
        return
    fresh, old = ([float(boot.memory_mib) for boot in _own(one) if boot.memory_mib] for one in (new, now))
    if not old:
        return
    if refusal := _too_few("any path", len(fresh), len(old)):
        yield refusal
    else:
        yield from _compared("memory when idle", fresh, old, budget.memory_percent, 0.0, "MiB")


def _too_few(path: str, new: int, old: int) -> Refusal | None:
    if min(new, old) >= _LEAST_BOOTS:
        return None
    return Refusal(
        why=f"{new} boots by {path} cannot be compared with {old} of what the stream carries: {_LEAST_BOOTS} of each "
        "are the least that have a distribution",
        remedy=f"run with --boots {_LEAST_BOOTS}, also for what is promoted first",
    )


def _compared(
    what: str, new: Sequence[float], old: Sequence[float], percent: int, floor: float, unit: str
) -> Iterator[Refusal]:
    """Over budget is what is so even between the favourable ends of both intervals: noise alone fails nothing."""
    low, high = interval(new)[0], interval(old)[1]
    if low > high * (1 + percent / 100) and low - high > floor:
        was, now = statistics.median(old), statistics.median(new)
        yield _over(what, f"{now:.1f} {unit} instead of {was:.1f} (at least {low:.1f} against at most {high:.1f})",
                    f"{percent} %")  # fmt: skip


def _over(what: str, seen: str, allowed: str) -> Refusal:
    return Refusal(why=f"over budget: {what}, {seen}; {allowed} is allowed", remedy="bootproof diff shows what changed")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median truly is, with 95 % confidence: by bootstrap, always with the same draws."""
    draw = random.Random(len(values))
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    tail = (1 - _CONFIDENCE) / 2
    return medians[int(tail * _RESAMPLES)], medians[int((1 - tail) * _RESAMPLES) - 1]


def _boots(verdict: Verdict, path: str) -> list[dict[str, float]]:
    """Phases of the boots that count, on that path."""
    return [boot.phases for boot in _own(verdict) if boot.boot_path == path]


def _own(verdict: Verdict) -> list[BootResult]:
    """Boots of the bytes in question that became ready in this run, each once."""
    own = {
        (boot.machine, boot.number): boot
        for boot in verdict.boots
        if boot.ready_s is not None
        and boot.is_ordinary
        and not boot.run
        and boot.artifacts == verdict.digests.get("artifacts")
    }
    return list(own.values())

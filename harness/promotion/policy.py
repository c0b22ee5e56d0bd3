"""Whether a build may be promoted: pure functions of its verdict, the stream's rules and the build published now."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from harness.core.errors import Blame
from harness.core.statistics import median_interval
from harness.fleet import FleetChange, Reason
from harness.model.verdict import BootResult, Finding, Outcome, Verdict, is_like, together
from harness.verdict.coverage import FLAKE, THOROUGH

CHECK_FAILED, _OVER_BUDGET = "check-failed", "over-budget"
_POWER_CUTS = "power-cuts"
_LEAST_BOOTS = 3
"""Fewer boots are too few to compare."""

_FLOOR_S = 1.0
"""A smaller difference between phases is never over budget: consoles are read twice a second."""

_AHEAD = timedelta(minutes=5)
"""The allowed difference between the clocks of two hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Excuses a ``finding``, or a failed ``check`` as a whole, up to and including the day ``until``.

    ``where`` narrows a finding down: it is a part of the finding's own ``where``, such as the id of a test.
    """

    by: str
    reason: str
    until: date
    finding: str = ""
    where: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much more than the published build is allowed: in percent, in seconds, or a number. None is no limit."""

    boot_percent: int | None = None
    boot_idle_s: int | None = None
    size_percent: int | None = None
    memory_percent: int | None = None
    packages: int | None = None
    sockets: int | None = None
    units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRules:
    """What one stream requires of a build.

    Of ``checks``, those in ``not_applicable`` may be not applicable to it, all others must have passed. ``fleet`` is
    the folder of hosts that must lose nothing, relative to the policy's file; empty for none.
    """

    checks: tuple[str, ...] = ()
    not_applicable: tuple[str, ...] = ()
    boot_paths: tuple[str, ...] = ()
    power_cuts: int = 0
    boots: int = 1
    max_age_days: int = 30
    flakes: str = "fail"
    fleet: str = ""
    budget: Budget = field(default_factory=Budget)
    waive: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``keys`` maps a name to a public key in hex."""

    keys: dict[str, str]
    streams: dict[str, StreamRules]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenBuild:
    """A build's ``verdict``, that of all its ``runs`` together, the sizes of its files in bytes, and its number of
    packages."""

    verdict: Verdict
    runs: tuple[Verdict, ...]
    sizes: dict[str, int]
    packages: int

    @property
    def ran_on(self) -> str:
        return together(run.ran_on for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``why`` a build is not promoted, and the command or change that fixes it."""

    why: str
    remedy: str


def refusals(
    rules: StreamRules, new: ProvenBuild, now: ProvenBuild | None, at: datetime, fleet: FleetChange | None = None
) -> Iterator[Refusal]:
    """Why ``new`` is not promoted, the gravest first; empty if it may be. ``now`` is the published build, ``fleet``
    what the rules' fleet loses by ``new``."""
    verdict, command = new.verdict, _command(rules, new.verdict)
    if partial := [run for run in new.runs if run.is_partial]:
        yield from map(_partial, partial)
        return  # what other parts have proven is not known
    for run in new.runs:
        yield from _about_time(rules, run, at, command)
    yield from _about_waivers(rules, at)
    yield from _about_findings(rules, verdict, at, command)
    yield from _about_coverage(rules, verdict, at, command)
    if rules.fleet:
        yield from _about_fleet(rules, fleet or FleetChange(problem="the fleet was not judged"), at)
    if now and not any(waiver.finding == _OVER_BUDGET for waiver in _in_force(rules, at)):
        yield from _about_budget(rules.budget, new, now)


def _partial(run: Verdict) -> Refusal:
    parts = ", ".join(str(part.number) for part in run.parts)
    return Refusal(
        why=f"the verdict is about {'part' if len(run.parts) == 1 else 'parts'} {parts} of {run.parts[0].of} only",
        remedy="run bootproof merge RUN… on the folders of all parts, and promote the merged run",
    )


def _in_force(rules: StreamRules, at: datetime) -> list[Waiver]:
    return [waiver for waiver in rules.waive if waiver.until >= at.date()]


def _command(rules: StreamRules, verdict: Verdict) -> str:
    """The command that proves everything the stream requires."""
    is_thorough = rules.power_cuts or any(check in THOROUGH for check in rules.checks)
    words = [f"pytest -n 8 --image {verdict.image}"]
    words += ["--thorough"] if is_thorough else []
    words += [f"--power-cuts {rules.power_cuts}"] if rules.power_cuts else []
    words += [f"--repeat {rules.boots}"] if rules.boots > 1 else []
    return " ".join(words)


def _about_time(rules: StreamRules, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    started = datetime.fromisoformat(verdict.started)
    age = at - (started if started.tzinfo else started.replace(tzinfo=UTC))
    if age < -_AHEAD:
        yield Refusal(
            why=f"the verdict is from {verdict.started}, in the future: it is {at.isoformat(timespec='seconds')}",
            remedy="set the clock of this host, or of the host that ran the tests",
        )
    if age > timedelta(days=rules.max_age_days):
        yield Refusal(
            why=f"the verdict is {age.days} days old, {rules.max_age_days} are allowed", remedy=f"run {command}"
        )


def _about_waivers(rules: StreamRules, at: datetime) -> Iterator[Refusal]:
    for waiver in rules.waive:
        if waiver.until < at.date():
            yield Refusal(
                why=f"the waiver of {waiver.finding or waiver.check} by {waiver.by} ended on {waiver.until}",
                remedy="remove it from the policy, or give it a new date and reason",
            )


def _about_findings(rules: StreamRules, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    """Findings about the host or the harness are never waived: they say nothing about the image."""
    hosts = [finding for finding in verdict.findings if finding.blame is not Blame.IMAGE]
    for finding in hosts:
        yield Refusal(why=f"the verdict is inconclusive: {finding.what} [{finding.id}]", remedy=f"run {command} again")
    if verdict.outcome is Outcome.INCONCLUSIVE and not hosts:
        yield Refusal(why="the verdict is inconclusive", remedy=f"run {command}")
    for finding in verdict.findings:
        if finding not in hosts and not _is_excused(finding, rules, verdict, at):
            remedy = f"fix the image, or waive {finding.id!r} in the policy with a name, a reason and a date"
            yield Refusal(why=f"{finding.what} [{finding.id}], {finding.where}", remedy=remedy)


def _is_excused(finding: Finding, rules: StreamRules, verdict: Verdict, at: datetime) -> bool:
    coverage, waivers = verdict.coverage, _in_force(rules, at)
    of_checks = {test for waiver in waivers for test in coverage.failed_tests.get(waiver.check, ())}
    return (
        any(_matches(waiver, finding) for waiver in waivers)
        or finding.where in of_checks
        or (finding.id == FLAKE and rules.flakes == "allow")
        or (finding.id == CHECK_FAILED and rules.flakes == "allow" and finding.where in coverage.flaky_tests)
    )


def _matches(waiver: Waiver, finding: Finding) -> bool:
    """Whether the waiver is about this finding, at every place that has it."""
    places = (finding.where, *finding.places)
    return waiver.finding == finding.id and all(waiver.where in place for place in places)


def _about_coverage(rules: StreamRules, verdict: Verdict, at: datetime, command: str) -> Iterator[Refusal]:
    """A check that did not run is never waived: what it would have found is unknown."""
    coverage = verdict.coverage
    wanted = (*rules.checks, *(f"boot:{path}" for path in rules.boot_paths))
    known = (*coverage.passed, *coverage.failed, *coverage.missing, *coverage.not_applicable)
    absent = dict.fromkeys([*coverage.missing, *(check for check in wanted if check not in known)])
    if absent or not coverage.passed:
        yield Refusal(why=f"not proven: {', '.join(absent) or 'anything'}", remedy=f"run {command}")
    yield from _about_not_applicable(rules, coverage.not_applicable)
    failed = [check for check in coverage.failed if not _is_excused_check(check, rules, verdict, at)]
    if failed:
        yield Refusal(why=f"failed: {', '.join(failed)}", remedy="fix the image")
    if coverage.power_cuts < rules.power_cuts and _POWER_CUTS not in coverage.not_applicable:
        yield Refusal(
            why=f"{coverage.power_cuts} states after power cuts were checked, {rules.power_cuts} are required",
            remedy=f"run {command}",
        )
    for path in rules.boot_paths or coverage.boot_paths:
        boots = len(_boots(verdict, path))
        if boots < rules.boots:
            yield Refusal(
                why=f"{boots} boots by {path} became ready, {rules.boots} are required", remedy=f"run {command}"
            )


def _about_not_applicable(rules: StreamRules, not_applicable: Mapping[str, str]) -> Iterator[Refusal]:
    """Only a check that the policy names is demanded: others may be not applicable to an image or a host."""
    demanded = {*rules.checks, *([_POWER_CUTS] if rules.power_cuts else [])} - {*rules.not_applicable}
    for check, reason in not_applicable.items():
        if check in demanded:
            remedy = f'run where {check} is applicable, or allow it for this stream: not_applicable = ["{check}"]'
            yield Refusal(why=f"{check} is not applicable: {reason}", remedy=remedy)


def _is_excused_check(check: str, rules: StreamRules, verdict: Verdict, at: datetime) -> bool:
    """Whether the failed ``check`` is waived, or each of its failed tests has an excused finding."""
    excused = {finding.where for finding in verdict.findings if _is_excused(finding, rules, verdict, at)}
    tests = verdict.coverage.failed_tests.get(check, ())
    return any(waiver.check == check for waiver in _in_force(rules, at)) or (bool(tests) and set(tests) <= excused)


# The fleet

_HOSTS_NAMED = 2


def _about_fleet(rules: StreamRules, fleet: FleetChange, at: datetime) -> Iterator[Refusal]:
    """What the published build drives and the new one does not. A fleet that was not judged has not passed."""
    if fleet.problem:
        remedy = f"correct the folder {rules.fleet} beside the policy: bootproof fits names each file that is not read"
        yield Refusal(why=fleet.problem, remedy=remedy)
    for loss in fleet.losses:
        if not any(waiver.finding == loss.id and waiver.where in loss.device for waiver in _in_force(rules, at)):
            waive = f"waive {loss.id!r} in the policy with a name, a reason and a date"
            yield Refusal(why=_lost(loss), remedy=f"{loss.next or 'fix the image'}; or {waive}")


def _lost(loss: Reason) -> str:
    count = f"{loss.hosts} host{'s' if loss.hosts > 1 else ''} of the fleet"
    more = f" and {loss.hosts - _HOSTS_NAMED} more" if loss.hosts > _HOSTS_NAMED else ""
    return f"{count}: {loss.device}: {loss.what} [{loss.id}]: {', '.join(loss.names[:_HOSTS_NAMED])}{more}"


# Budgets


def _about_budget(budget: Budget, new: ProvenBuild, now: ProvenBuild) -> Iterator[Refusal]:
    yield from _about_boots(budget, new, now)
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
        if fresh.units and old.units:
            counts.append(("units", budget.units, len(fresh.units), len(old.units)))
        elif budget.units is not None:  # Bootproof before 30 November 2026 recorded none
            yield Refusal(
                why="units cannot be compared: one of the verdicts lists none",
                remedy="run the whole suite on the build to promote; the next promotion can compare",
            )
    elif budget.sockets is not None or budget.units is not None:
        yield Refusal(
            why="sockets and units cannot be compared: one of the verdicts does not list them",
            remedy="run the whole suite on the build to promote; the next promotion can compare",
        )
    for name, allowed, count, before in counts:
        if allowed is not None and count - before > allowed:
            yield _over(name, f"{count - before} more", f"{allowed} more")


def _about_boots(budget: Budget, new: ProvenBuild, now: ProvenBuild) -> Iterator[Refusal]:
    """Each phase of each boot path, and the time in which the CPUs were idle."""
    if budget.boot_percent is None and budget.boot_idle_s is None:
        return
    if not is_like(new.ran_on, now.ran_on):
        yield Refusal(why=f"boots under {new.ran_on} cannot be compared with the published build's under {now.ran_on}",
                      remedy=f"run the suite on a host with {now.ran_on}")  # fmt: skip
        return
    for path in new.verdict.coverage.boot_paths:
        fresh, old = _boots(new.verdict, path), _boots(now.verdict, path)
        if not old:
            continue
        if refusal := _too_few(path, len(fresh), len(old)):
            yield refusal
            continue
        yield from _about_phases(budget, path, fresh, old)
        yield from _about_idle(budget, path, fresh, old)


def _about_phases(budget: Budget, path: str, new: Sequence[BootResult], old: Sequence[BootResult]) -> Iterator[Refusal]:
    if budget.boot_percent is None:
        return
    for phase in dict.fromkeys(phase for boot in (*new, *old) for phase in boot.phases):
        times, before = ([boot.phases.get(phase, 0.0) for boot in boots] for boots in (new, old))
        limit = _Percent(budget.boot_percent, _FLOOR_S)
        yield from _compared(f"{phase} by {path}", times, before, limit, "s")


def _about_idle(budget: Budget, path: str, new: Sequence[BootResult], old: Sequence[BootResult]) -> Iterator[Refusal]:
    """Not of a published build that was tested by a Bootproof from before 1 December 2026, which did not measure it."""
    if budget.boot_idle_s is None:
        return
    times, before = ([boot.idle_s for boot in boots if boot.idle_s is not None] for boots in (new, old))
    if not before:
        return
    if refusal := _too_few(f"{path} with known idle time", len(times), len(before)):
        yield refusal
    else:
        yield from _compared(f"idle CPUs in boots by {path}", times, before, _More(budget.boot_idle_s), "s")


def _about_memory(budget: Budget, new: Verdict, now: Verdict) -> Iterator[Refusal]:
    if budget.memory_percent is None:
        return
    fresh, old = ([float(boot.memory_mib) for boot in _own(one) if boot.memory_mib] for one in (new, now))
    if not old:
        return
    if refusal := _too_few("any path", len(fresh), len(old)):
        yield refusal
    else:
        yield from _compared("memory when idle", fresh, old, _Percent(budget.memory_percent), "MiB")


def _too_few(path: str, new: int, old: int) -> Refusal | None:
    if min(new, old) >= _LEAST_BOOTS:
        return None
    return Refusal(
        why=f"{new} boots by {path} cannot be compared with the published build's {old}: {_LEAST_BOOTS} of each are "
        "needed",
        remedy=f"run with --repeat {_LEAST_BOOTS}, for the first promotion too",
    )


@dataclass(frozen=True, slots=True)
class _Percent:
    """So many percent more are allowed, and always ``floor`` more."""

    percent: int
    floor: float = 0.0

    def most(self, old: float) -> float:
        return max(old * (1 + self.percent / 100), old + self.floor)

    def __str__(self) -> str:
        return f"{self.percent} %"


@dataclass(frozen=True, slots=True)
class _More:
    """So many seconds more are allowed."""

    more_s: float

    def most(self, old: float) -> float:
        return old + self.more_s

    def __str__(self) -> str:
        return f"{self.more_s} s more"


def _compared(
    what: str, new: Sequence[float], old: Sequence[float], limit: _Percent | _More, unit: str
) -> Iterator[Refusal]:
    """Over budget only if the closest ends of both 95 % intervals are: noise alone refuses nothing."""
    low, high = median_interval(new)[0], median_interval(old)[1]
    if low > limit.most(high):
        was, now = statistics.median(old), statistics.median(new)
        yield _over(what, f"{now:.1f} {unit} instead of {was:.1f} (at least {low:.1f} against at most {high:.1f})",
                    str(limit))  # fmt: skip


def _over(what: str, seen: str, allowed: str) -> Refusal:
    return Refusal(why=f"over budget: {what}, {seen}; {allowed} is allowed", remedy="bootproof diff shows what changed")


def _boots(verdict: Verdict, path: str) -> list[BootResult]:
    """Each boot by ``path`` that counts."""
    return [boot for boot in _own(verdict) if boot.boot_path == path]


def _own(verdict: Verdict) -> list[BootResult]:
    """The boots of this build that became ready in this run, each once."""
    own = {
        (boot.machine, boot.number): boot
        for boot in verdict.boots
        if boot.ready_s is not None
        and boot.is_ordinary
        and not boot.run
        and boot.artifacts == verdict.digests.get("artifacts")
    }
    return list(own.values())

"""What a guest's survey of its units says about a finding: which unit failed first, how, and why. Pure."""

from __future__ import annotations

import csv
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from harness.guest.serial_shell import SHELL_UNITS
from harness.guest.unit_survey import UnitState, UnitSurvey
from harness.model.verdict import Finding

OF_UNITS = ("unit-failed", "unit-dependency-failed", "unit-not-ready", "emergency-mode", "boot-hangs")
"""The findings that a guest can explain by the state of its units."""

_QUOTED_LINES = 6
_NAMED_UNITS = 8
_STATUSES = Path(__file__).with_name("exit_statuses.tsv")
"""Exit statuses by which systemd itself ends a unit's process, and those of shells: systemd.exec(5), "Process Exit
Codes"."""

_RESULTS = {
    "timeout": "a time limit of systemd expired",
    "watchdog": "it did not feed its watchdog in time",
    "start-limit-hit": "it was restarted too often (start limit)",
    "oom-kill": "the kernel killed it because memory ran out",
    "protocol": "it did not notify systemd as its Type= demands",
    "resources": "systemd could not get what it needs to start the unit, such as a file or memory",
    "exec-condition": "its ExecCondition= was not met",
}
"""`Result=` of `systemctl show`: systemd's src/core/service.c; exit codes and signals are named by their numbers."""

_NOISE = re.compile(
    r"systemd\[1\]: (Start(ing|ed) |Received regular credentials: |Stop(ping|ped) |"
    r".*(Scheduled restart job|: Consumed |Deactivated successfully"
    r"|Start request repeated too quickly|Triggering OnFailure))"
)
_PROCESS_ENDED = re.compile(
    r"(?:Main|Control|mount|Mount) process exited, code=(exited|killed|dumped),? status=(\d+)(?:/([A-Z]\w*))?"
)
_NO_MODULE = re.compile(r"Module \S+ not found|unknown filesystem type|Failed to (find|insert) module|modprobe: FATAL")
_NOT_STARTED = re.compile(
    r"skipped(?: because of an?|,) (?:unmet|failed) condition check \(?(.*?)\)?\.?$|Condition check resulted in"
)
"""systemd 254 and later write no parentheses."""
_FAILED_WITH = re.compile(r"systemd\[1\]: (\S+\.\w+): Failed with result '([\w-]+)'")
_UNIT_ON_CONSOLE = re.compile(
    r"(?:Failed to (?:start|mount|listen on|activate)|Dependency failed for|Timed out waiting for device) "
    r"([\w@:.\\-]+\.(?:service|socket|mount|swap|device|target|automount|path|timer|slice))\b"
)


class Awaited(StrEnum):
    """What became of the thing that a failed unit needed, by the time the guest was asked.

    ``CAME_LATE``: it is there now. ``ABSENT``: a device, file or module is not there, and nothing is under way that
    could bring it. ``FAILED``: nothing was awaited; a process ended with a status. ``UNKNOWN``: the guest does not
    show it.
    """

    CAME_LATE = "came late"
    ABSENT = "absent"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A finding as the guest explains it, and what became of the thing that its unit waited for."""

    finding: Finding
    awaited: Awaited = Awaited.UNKNOWN


def explain(finding: Finding, survey: UnitSurvey, waiting: Sequence[str] = (), asked: str = "") -> Explained:
    """``finding`` about the unit that the other failed units follow from, with its result, cause and journal.

    No boot hangs because of units in ``waiting``, which may be starting for ever. ``asked`` is the unit that must be
    active and is not, if the finding is about one. A finding that the survey does not explain is returned as it was.
    """
    failed = _failed(survey)
    roots = root_units(failed, survey)
    wanted = survey.unit(asked) if asked else None
    if wanted and not wanted.has_failed:
        needed = _reached(wanted, survey)
        roots = [unit for unit in roots if unit.id in needed]
    if finding.id == "boot-hangs" and not roots:
        return _stuck(finding, survey, waiting)
    root = roots[0] if roots else wanted
    if root is None:
        problem = (f"the guest could not name its units: {survey.problem}",) if survey.problem else ()
        found = replace(finding, evidence=(*finding.evidence, *problem))
        return Explained(finding=found, awaited=_named_later(finding, survey))
    return Explained(finding=_about(finding, root, survey, failed), awaited=awaited(root, survey))


def failed_units(survey: UnitSurvey, where: str) -> Iterator[Finding]:
    """A finding for each failed unit of a ready machine that does not follow from another one."""
    failed = _failed(survey)
    for root in root_units(failed, survey):
        yield _about(Finding(id="unit-failed", what="", where=where), root, survey, failed)


def _failed(survey: UnitSurvey) -> list[UnitState]:
    return [unit for unit in survey.units if unit.has_failed and unit.id not in SHELL_UNITS]


def about_unit(finding: Finding, name: str, survey: UnitSurvey) -> Finding:
    """``finding`` about the unit ``name`` of a machine that is ready, such as one that was restarted."""
    unit = survey.unit(name)
    return _about(finding, unit, survey, ()) if unit else finding


def not_waiting(name: str, problem: str, survey: UnitSurvey, where: str) -> Finding:
    """The finding about a unit that may wait for a control plane, and does not do that.

    ``problem`` is the rest of a sentence that begins with its ``name``; the unit's result and journal say why.
    """
    unit = survey.unit(name) or UnitState(id=name, active="")
    result = result_of(unit) if unit.has_failed or unit.restarts else ""
    cause = cause_of(unit, survey)
    return Finding(
        id="unit-not-waiting",
        what=": ".join(filter(None, [f"{name} {problem}", result, cause])),
        where=where,
        evidence=telling(unit.journal),
        cause=cause or f"see the journal of {name}: its last lines are quoted",
    )


def root_units(failed: Sequence[UnitState], survey: UnitSurvey) -> list[UnitState]:
    """Those of the ``failed`` units that do not follow from another of them, the first to fail first.

    A unit follows from those that it needs, and from those that it wants and that come before it, directly or by way of
    units that have not failed.
    """
    names = {unit.id for unit in failed}
    return [unit for unit in failed if not (_reached(unit, survey) - {unit.id}) & names] or list(failed)


def _reached(unit: UnitState, survey: UnitSurvey) -> set[str]:
    """The units from which a failure of ``unit`` can follow."""
    reached, left = set[str](), [*unit.needs, *unit.wants_before]
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            known = survey.unit(name)
            left += (*known.needs, *known.wants_before) if known else ()
    return reached


def _about(finding: Finding, unit: UnitState, survey: UnitSurvey, failed: Sequence[UnitState]) -> Finding:
    cause = cause_of(unit, survey)
    name = "unit-failed" if finding.id == "unit-dependency-failed" and unit.active == "failed" else finding.id
    dead = [one for one in survey.units if one.is_dead and one is not unit]
    followers = [one.id for one in dead if unit.id in _reached(one, survey)]
    what = f"{unit.id} {result_of(unit)}" + (f": {cause}" if cause else "")
    if unit.is_device:
        needed = f", which {followers[0]} needs," if followers else ""
        what = f"{device_path(unit.id)}{needed} {result_of(unit)}"
    if finding.id == "unit-flapping":
        what = (
            f"{finding.what}: it {result_of(unit)}"
            if unit.result != "success" or _process_ending(unit)
            else finding.what
        )
    if finding.id == "emergency-mode":
        what = f"systemd entered emergency mode: {what}"
    if finding.id == "boot-hangs":
        what = f"{what}; {finding.what}"
    others = [one.id for one in failed if one is not unit and one.id not in followers]
    lines = telling(unit.journal) or finding.evidence[-_QUOTED_LINES:]
    return replace(
        finding,
        id=name,
        what=what,
        evidence=(*lines, *_listed("because of it", followers), *_listed("failed as well", others)),
        cause=cause or f"see the journal of {unit.id}: its last lines are quoted",
    )


def _listed(title: str, units: Sequence[str]) -> Iterator[str]:
    if units:
        more = f" and {len(units) - _NAMED_UNITS} more" if len(units) > _NAMED_UNITS else ""
        yield f"{title}: {', '.join(units[:_NAMED_UNITS])}{more}"


def _stuck(finding: Finding, survey: UnitSurvey, waiting: Sequence[str]) -> Explained:
    """A boot that waits for a job that does not end: the job's unit is named."""
    stuck = [unit for unit in survey.units if unit.has_running_job and unit.id not in (*waiting, *SHELL_UNITS)]
    if not stuck:
        return Explained(finding=finding)
    jobs = ", ".join(unit.id for unit in stuck[:_NAMED_UNITS])
    lines = telling(stuck[0].journal)
    named = replace(
        finding,
        what=f"{finding.what}; systemd still waits for {jobs}",
        evidence=lines or finding.evidence,
        cause=f"{stuck[0].id} does not finish starting; {finding.cause}",
    )
    return Explained(finding=named)


def awaited(unit: UnitState, survey: UnitSurvey) -> Awaited:
    """What became of the thing that the failed ``unit`` needed."""
    if unit.is_device:
        if unit.active == "active":
            return Awaited.CAME_LATE
        return Awaited.ABSENT if survey.is_settled else Awaited.UNKNOWN
    if unit.active == "active":
        return Awaited.CAME_LATE
    if unit.missing or modules_problem(survey):
        return Awaited.ABSENT
    return Awaited.UNKNOWN if unit.has_timed_out else Awaited.FAILED


def _named_later(finding: Finding, survey: UnitSurvey) -> Awaited:
    """No unit is in a failed state any more: whether those that the console names are active by now."""
    named = [survey.unit(name) for name in units_on(finding.evidence)]
    known = [unit for unit in named if unit]
    return Awaited.CAME_LATE if known and all(unit.active == "active" for unit in known) else Awaited.UNKNOWN


def units_on(lines: Iterable[str]) -> list[str]:
    """The units that console lines of systemd name as failed; those whose names the console shortened are left out."""
    found = (match[1] for line in lines for match in _UNIT_ON_CONSOLE.finditer(line))
    return list(dict.fromkeys(found))


def result_of(unit: UnitState) -> str:
    """How ``unit`` ended, as the rest of a sentence that begins with its name."""
    if unit.load == "masked":
        return "is masked"
    if unit.load == "not-found":
        return f"failed in the initrd ({unit.job_result})" if unit.job_result else "does not exist"
    if unit.is_device:
        return "did not appear" if unit.job_result == "timeout" else f"failed ({unit.job_result or unit.result})"
    process = _process_ending(unit) if unit.has_failed or unit.restarts else ""
    if unit.result in _RESULTS:
        return f"failed: {_RESULTS[unit.result]}" + (f"; last, {process}" if process else "")
    if process:
        return f"failed: {process}"
    if unit.has_failed:
        return f"failed ({unit.job_result or unit.result})"
    return f"must be active and is {unit.active}"


def _process_ending(unit: UnitState) -> str:
    """ "exit status 203/EXEC" or "signal 11 (SIGSEGV)" of the unit's last process; empty if none failed."""
    ended = [match for line in unit.journal if (match := _PROCESS_ENDED.search(line))]
    if ended:
        kind, status, name = ended[-1].groups()
        if kind == "exited":
            return f"exit status {status}" + (f"/{name}" if name else "")
        return _killed(int(status), is_dumped=kind == "dumped")
    if unit.exit_code == 1 and unit.exit_status:
        name = _meanings().get(unit.exit_status, ("", ""))[0]
        return f"exit status {unit.exit_status}" + (f"/{name}" if name else "")
    return _killed(unit.exit_status, is_dumped=unit.exit_code == 3) if unit.exit_code in (2, 3) else ""


def _killed(number: int, *, is_dumped: bool) -> str:
    name = f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""
    return f"killed by signal {number}{name}" + (", with a core dump" if is_dumped else "")


def cause_of(unit: UnitState, survey: UnitSurvey) -> str:
    """Why ``unit`` failed or is inactive, if its files, its status, its journal or the kernel's modules show it; else
    empty."""
    return next(filter(None, _causes(unit, survey)), "")


def _causes(unit: UnitState, survey: UnitSurvey) -> Iterator[str]:
    for path, listed in unit.missing:
        role = "program" if path == unit.program else "working folder"
        target = listed.partition(" -> ")[2]
        yield f"its {role} {path} is " + (f"a dangling link to {target}" if target else "missing")
    if unit.is_device and unit.active != "active" and unit.job_result == "timeout":
        yield "no disk of the machine has it, and /etc/fstab, /etc/crypttab or a unit names it"
    yield modules_problem(survey)
    yield next((_message(line) for line in unit.journal if _NO_MODULE.search(line)), "")
    if unit.load in ("masked", "not-found"):
        yield "a unit file or a kernel argument masks it" if unit.load == "masked" else "no package brings it"
    if not unit.has_failed:
        skipped = next((match for line in unit.journal if (match := _NOT_STARTED.search(line))), None)
        if skipped:
            yield "a condition of the unit was not met" + (f": {skipped[1]}" if skipped[1] else "")
        if unit.enabled == "disabled":
            yield "it is not enabled"
    status = next((match for line in reversed(unit.journal) if (match := _PROCESS_ENDED.search(line))), None)
    number = int(status[2]) if status and status[1] == "exited" else unit.exit_status if unit.exit_code == 1 else 0
    yield _meanings().get(number, ("", ""))[1]
    yield next((_message(line) for line in reversed(unit.journal) if is_own(line)), "")


def modules_problem(survey: UnitSurvey) -> str:
    """Why the running kernel has no modules; empty if it has some, or if the guest does not say."""
    if not survey.kernel or not survey.modules or survey.kernel in survey.modules:
        return ""
    return f"no modules for {survey.kernel} in /usr/lib/modules: there is {', '.join(survey.modules)}"


def device_path(name: str) -> str:
    r"""The device of a unit: ``dev-disk-by\x2duuid-1.device`` is /dev/disk/by-uuid/1 (systemd-escape(1))."""
    path = name.removesuffix(".device").replace("-", "/")
    return "/" + re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), path)


def telling(journal: Sequence[str]) -> tuple[str, ...]:
    """The lines of a unit's journal that lead to its last failure, without systemd's routine; else the last lines."""
    lines = [line for line in journal if not _NOISE.search(line)]
    ends = [number for number, line in enumerate(lines, start=1) if _FAILED_WITH.search(line)]
    return tuple(lines[: ends[-1] if ends else None][-_QUOTED_LINES:])


def is_own(line: str) -> bool:
    """Whether a journal line is the unit's, not systemd's."""
    return bool(line.strip()) and " systemd[1]: " not in f" {line}" and not line.startswith("--")


def _message(line: str) -> str:
    """A journal line without its time and the name of the program."""
    return re.sub(r"^\[ *[\d.]+\] ([\w.-]+ )?(\S+\[\d+\]|kernel|\S+): ", "", line).strip()


def survey_of_log(lines: Sequence[str]) -> UnitSurvey:
    """What systemd's own messages in a journal or on a console show, of a guest that does not answer.

    Each unit's journal are the lines that name it, and those of processes with its name.
    """
    failed = {match[1]: match[2] for line in lines if (match := _FAILED_WITH.search(line))}
    units = (
        UnitState(
            id=name,
            result=result,
            journal=tuple(line for line in lines if name in line or f" {name.partition('.')[0]}[" in line),
        )
        for name, result in failed.items()
    )
    return UnitSurvey(units=tuple(units))


@cache
def _meanings() -> dict[int, tuple[str, str]]:
    with _STATUSES.open(encoding="utf-8", newline="") as file:
        return {int(row["status"]): (row["name"], row["meaning"]) for row in csv.DictReader(file, delimiter="\t")}

"""Units that are enabled do something, become ready, and have room for what they do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.examine.known import known
from harness.examine.processes import Process
from harness.examine.texts import lines_of, some
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_PROPERTIES = (
    "Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "ConditionResult",
    "ConditionTimestampMonotonic", "AssertResult", "InactiveExitTimestampMonotonic", "Listen", "LimitNOFILESoft",
    "TasksMax", "EffectiveTasksMax", "TasksCurrent", "LastTriggerUSec",
)  # fmt: skip
_ASKED = " ".join(f"-p {name}" for name in _PROPERTIES)
_UNITS = Probe(
    "units",
    f"systemctl show {_ASKED} "
    "'*.service' '*.socket' '*.timer' '*.path' '*.mount' '*.automount' '*.swap' '*.scope' '*.target'",
)
"""systemctl(1): a pattern stands for the units that are loaded and not inactive."""
_INACTIVE = "inactive units"
_WANTED = Probe(
    "enabled units",
    some("ls -d /etc/systemd/system/*.wants/* /etc/systemd/system/*.requires/* /etc/systemd/system/*.upholds/* "
         "/run/systemd/system/*.wants/* /run/systemd/generator*/*.wants/* /run/systemd/generator*/*.requires/*"),
)  # fmt: skip
PROBES = (_UNITS, _WANTED)

_SKIPPED = re.compile(r"^(?P<unit>\S+\.\w+)\b.*\bskipped\b.*?\b(?P<condition>Condition\w+)=(?P<value>[^)]*)")
"""systemd ≥ 249, src/core/job.c: "… was skipped because of an unmet condition check (…)", since 257 "… skipped, unmet
condition check …"; the description of the unit comes behind its name."""
_GIVEN_UP = re.compile(r"(?P<unit>\S+): Start request repeated too quickly")
_NOT_OF_THE_IMAGE = (
    "ConditionFirstBoot", "ConditionNeedsUpdate", "ConditionVirtualization", "ConditionACPower", "ConditionFirmware",
    "ConditionCPUFeature", "ConditionArchitecture", "ConditionMemory", "ConditionCPUs",
)  # fmt: skip
"""Conditions about the machine or the moment: another host meets them."""
GENERATOR = re.compile(r"/(system|user)-(environment-)?generators/(?P<name>\S+?),? (failed|terminated|exited|died)\b.*")
_LEAST_FILES, _LEAST_TASKS, _MOST_SHARE = 1024, 64, 0.7
"""The kernel's own limit of open files (INR_OPEN_CUR), a number of tasks that any service with workers needs, and the
part of a limit that an idle service may use."""
_NOT_ASKED = re.compile(r"@\.|\.device$")
"""Templates are no units, and devices come and go."""
_UNLIMITED = {"infinity", "18446744073709551615", "[not set]", ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRow:
    """A loaded unit as ``systemctl show`` has it. ``was_checked`` and ``was_started`` are about this boot;
    ``last_trigger`` is when a timer started its unit last, empty if never."""

    id: str
    load: str = "loaded"
    active: str = "active"
    sub: str = "running"
    result: str = "success"
    file_state: str = "enabled"
    meets_conditions: bool = True
    meets_asserts: bool = True
    was_checked: bool = True
    was_started: bool = True
    listen: str = ""
    files_limit: str = ""
    tasks_limit: str = ""
    tasks: str = ""
    last_trigger: str = ""


def inactive_probe(answers: Mapping[str, str]) -> list[Probe]:
    """What to ask about the enabled units, and what wants them, that are not in the answers to `PROBES`; nothing if all
    are."""
    rows = read(answers, _UNITS, _rows)
    wanted = parse_wanted(answers)
    both = (*(unit for _, unit in wanted), *(target for target, _ in wanted))
    names = dict.fromkeys(name for name in both if name not in rows and not _NOT_ASKED.search(name))
    return [Probe(_INACTIVE, f"systemctl show {_ASKED} -- {shlex.join(names)}")] if names else []


def parse(answers: Mapping[str, str]) -> dict[str, UnitRow]:
    """All units that are not inactive, and the enabled ones, by each of their names."""
    inactive = read(answers, Probe(_INACTIVE, "systemctl show"), _rows) if _INACTIVE in answers else {}
    return inactive | read(answers, _UNITS, _rows)


def _rows(text: str) -> dict[str, UnitRow]:
    found = dict[str, UnitRow]()
    for block in text.split("\n\n"):
        pairs = [line.split("=", 1) for line in block.splitlines()]
        listen = " ".join(value for key, value in pairs if key == "Listen")
        values = dict(pairs)
        row = UnitRow(
            id=values["Id"],
            load=values["LoadState"],
            active=values["ActiveState"],
            sub=values["SubState"],
            result=values.get("Result", "success"),
            file_state=values["UnitFileState"],
            meets_conditions=values["ConditionResult"] == "yes",
            meets_asserts=values["AssertResult"] == "yes",
            was_checked=int(values["ConditionTimestampMonotonic"]) > 0,
            was_started=int(values["InactiveExitTimestampMonotonic"]) > 0,
            listen=listen,
            files_limit=values.get("LimitNOFILESoft", ""),
            tasks_limit=_least(values.get("TasksMax", ""), values.get("EffectiveTasksMax", "")),
            tasks=values.get("TasksCurrent", ""),
            last_trigger=values.get("LastTriggerUSec", "").removeprefix("n/a"),
        )
        found.update(dict.fromkeys([row.id, *values["Names"].split()], row))
    return found


def _least(*limits: str) -> str:
    """Of a unit's own limit and that of the slices around it, which systemd tells since 256."""
    numbers = [limit for limit in limits if limit.isdecimal()]
    return min(numbers, key=int) if numbers else limits[0]


def parse_wanted(answers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The units that a link makes another one want, with that one: ("multi-user.target", "ssh.service")."""
    return read(answers, _WANTED, lambda text: tuple(_wanted(lines_of(text))))


def _wanted(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in lines:
        folder, _, unit = path.rpartition("/")
        yield folder.rpartition("/")[2].rpartition(".")[0], unit


def judge(
    units: Mapping[str, UnitRow],
    wanted: Sequence[tuple[str, str]],
    may_wait: Sequence[str],
    messages: Sequence[str],
) -> Iterator[LintFinding]:
    """``messages`` are those of systemd itself."""
    skipped = {found["unit"]: found for line in messages if (found := _SKIPPED.search(line))}
    missing = {target for target, _ in wanted if target in units and units[target].load == "not-found"}
    wanted_else = {unit for target, unit in wanted if target not in missing}
    for target, unit in dict.fromkeys(wanted):
        puller = units.get(target)
        if target in missing and unit not in wanted_else and not _is_conditional(unit):
            yield fails("unit-did-nothing", f"unit:{unit}", f"it is enabled for {target}, and there is no such unit")
        if puller is None or puller.active != "active":
            continue
        row = units.get(unit)
        what, evidence = _why_nothing(unit, target, row, skipped.get(row.id if row else unit))
        if what and unit not in may_wait:
            about = [line for line in messages if row and row.id in line][-3:]
            yield fails("unit-did-nothing", f"unit:{unit}", what, evidence, *about)
    given_up = {found["unit"] for line in messages if (found := _GIVEN_UP.match(line))}
    for row in {row.id: row for row in units.values()}.values():
        if row.id in may_wait:
            continue
        if row.result == "start-limit-hit" or (row.active == "failed" and row.id in given_up):
            yield fails("unit-never-ready", f"unit:{row.id}", "systemd gave it up: it was started too often")
        elif row.id.endswith(".timer") and row.sub == "elapsed" and not row.last_trigger:
            what = "it has started nothing, and no time is left at which it would"
            yield fails("unit-did-nothing", f"unit:{row.id}", what)
        elif row.active == "activating" and row.id.endswith((".service", ".mount", ".path", ".socket")):
            what = f"it is still being started ({row.sub}), and the host counts as ready"
            yield fails("unit-never-ready", f"unit:{row.id}", what, *[line for line in messages if row.id in line][-3:])
    for line in messages:
        if found := GENERATOR.search(line):
            what = "it failed, so units that it should have made are missing"
            yield fails("generator-failed", f"generator:{found['name']}", what, line)


def _why_nothing(unit: str, target: str, row: UnitRow | None, skip: re.Match[str] | None) -> tuple[str, str]:
    """Why a unit that is wanted did nothing, and a line that proves it; empty if it did something."""
    if row is None or row.load == "not-found":
        return f"{target} wants it, and there is no such unit", ""
    if row.load == "masked" or row.active != "inactive" or unit.endswith((".target", ".slice")):
        return "", ""
    if row.was_checked and row.meets_conditions and not row.meets_asserts:
        return "it was not started: an assertion of it is not met", ""
    if row.was_checked and not row.meets_conditions:
        condition = skip["condition"] if skip else ""
        if condition in _NOT_OF_THE_IMAGE or _is_conditional(row.id):
            return "", ""
        of = f" {condition}={skip['value']}" if skip else ""
        return f"it is enabled, and was skipped: a condition{of} is not met", ""
    if not row.was_started and row.result == "success":
        return f"it is enabled, and was never started, although {target} is active", ""
    return "", ""


def _is_conditional(unit: str) -> bool:
    return any(fnmatchcase(unit, pattern) for pattern in known("conditional_units"))


def judge_limits(
    units: Mapping[str, UnitRow], demanded: Sequence[str], processes: Mapping[int, Process]
) -> Iterator[LintFinding]:
    """The limits of the services that the definition demands."""
    for name in demanded:
        row = units.get(name)
        if row is None or row.active != "active":
            continue
        own = [process for process in processes.values() if process.unit == row.id]
        used = max((process.open_files for process in own), default=0)
        tasks = int(row.tasks) if row.tasks.isdecimal() and row.tasks not in _UNLIMITED else 0
        limits = (
            ("LimitNOFILE", row.files_limit, used, _LEAST_FILES, "open files"),
            ("TasksMax", row.tasks_limit, tasks, _LEAST_TASKS, "tasks"),
        )
        for setting, limit, in_use, least, words in limits:
            if limit in _UNLIMITED or not limit.isdecimal():
                continue
            if int(limit) < least or in_use > int(limit) * _MOST_SHARE:
                what = f"it may have {limit} {words}: a service at work needs {least} or more"
                if int(limit) >= least:
                    what = f"it has {in_use} {words} when idle, and may have {limit}"
                yield fails("limit-too-low", f"unit:{row.id}", what, f"{setting}={limit}, in use {in_use}")

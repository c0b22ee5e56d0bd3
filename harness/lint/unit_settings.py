"""Settings of units that systemd refuses, ignores, or takes in a way that nobody wants."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.known import known
from harness.lint.unit_files import FOLDERS, Setting, Unit, Units, parse, timer_unit
from harness.lint.units import COMMANDS, MADE_AT_BOOT, RESTARTS, in_boot, place_of, units_of

Findings = Iterator[LintFinding]

_TRIGGERS = (
    "OnActiveSec",
    "OnBootSec",
    "OnStartupSec",
    "OnUnitActiveSec",
    "OnUnitInactiveSec",
    "OnCalendar",
    "OnClockChange",
    "OnTimezoneChange",
)
_LISTENS = (
    "ListenStream",
    "ListenDatagram",
    "ListenSequentialPacket",
    "ListenFIFO",
    "ListenSpecial",
    "ListenNetlink",
    "ListenMessageQueue",
    "ListenUSBFunction",
)
_KNOWN_KEYS = frozenset(known("unit_settings").split())


def drop_ins(image: Image) -> Findings:
    """Drop-ins of units that do not exist, and files that systemd does not read because of their names."""
    units = units_of(image)
    for folder in dict.fromkeys(filter(None, map(image.root.resolve, FOLDERS))):
        for path in image.root.inside(folder):
            name, dot, kind = path.rpartition("/")[2].rpartition(".")
            if kind != "d" or not dot or image.root.files[path].kind != "folder":
                continue
            for file in image.root.inside(path):
                if not file.endswith(".conf") and image.root.files[file].kind == "file":
                    yield warns(
                        "drop-in-for-nothing", file, "its name does not end with .conf, so systemd does not read it"
                    )
            own = [file for file in image.root.inside(path) if file not in image.owners]
            is_pattern = "." not in name or _is_prefix_of_some(name, units)
            found = units.find(name)
            if (
                own
                and not is_pattern
                and not MADE_AT_BOOT.fullmatch(name)
                and (found is None or not (found.file or found.is_masked))
            ):
                near = difflib.get_close_matches(name, units.units, 1)
                cause = f"did you mean {near[0]}?" if near and near[0] != name else ""
                yield warns(
                    "drop-in-for-nothing", own[0], f"there is no unit {name}, which it would change", cause=cause
                )


def _is_prefix_of_some(name: str, units: Units) -> bool:
    """Whether a drop-in of ``name`` reaches units whose names begin with it (systemd.unit(5)): "a-.service"."""
    stem, _, kind = name.rpartition(".")
    known = (*(one for one, unit in units.units.items() if unit.file), *units.aliases, *units.started)
    return stem.endswith("-") and any(one.startswith(stem) and one.endswith(f".{kind}") for one in known)


def malformed(image: Image) -> Findings:
    """Lines that systemd does not understand, in files that are not as their package brought them."""
    for unit in units_of(image).units.values():
        for setting in unit.settings:
            if not image.may_be_original(setting.file) and (what := _misplaced(setting, unit)):
                line = f"{setting.key}={setting.value}"
                yield fails("unit-malformed", setting.file, f"line {setting.number}: {what}", line)
        if unit.name.endswith((".mount", ".automount")) and unit.file and not image.may_be_original(unit.file):
            where, stem = unit.last("Where"), unit.name.rpartition(".")[0]
            if "%" not in where and where.startswith("/") and _escaped_path(where) != stem:
                what = f"systemd refuses it: with Where={where}, its name must begin with {_escaped_path(where)}"
                yield fails("unit-malformed", unit.file, what)
    for unit in units_of(image).units.values():
        for path, line in unit.strange:
            if not image.may_be_original(path):
                yield fails(
                    "unit-malformed", path, "a line is neither a section nor a setting, or is in no section", line
                )
        for setting in unit.settings:
            if (
                setting.key in _KNOWN_KEYS
                or setting.key.startswith(("X-", "Condition", "Assert"))
                or image.may_be_original(setting.file)
            ):
                continue
            near = difflib.get_close_matches(setting.key, _KNOWN_KEYS, 1, 0.85)
            if near:
                yield fails(
                    "unit-malformed",
                    setting.file,
                    f"line {setting.number}: {setting.key} is not known",
                    f"{setting.key}={setting.value}",
                    cause=f"did you mean {near[0]}?",
                )
        if unit.file and unit.name.endswith(".service") and not image.may_be_original(unit.file) and not unit.is_masked:
            if not any(unit.all("ExecStart")) and not any(unit.all("ExecStop")) and not any(unit.all("SuccessAction")):
                yield fails("unit-malformed", unit.file, "it has no ExecStart")
            elif len(list(unit.all("ExecStart"))) > 1 and unit.last("Type") not in ("oneshot",):
                yield fails("unit-malformed", unit.file, "it has several ExecStart, and is not of Type=oneshot")
        if (
            unit.file
            and unit.name.endswith(".socket")
            and not image.may_be_original(unit.file)
            and not any(one for key in _LISTENS for one in unit.all(key))
        ):
            yield fails("unit-malformed", unit.file, "it listens to nothing")


_SECTIONS = {
    *("Unit", "Install", "Service", "Socket", "Target", "Timer", "Mount", "Automount", "Path", "Slice", "Swap"),
    *("Scope", "Device"),
}
_SECTION_OF = {
    **dict.fromkeys(("WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also", "DefaultInstance"), "Install"),
    **dict.fromkeys(("After", "Before", "Wants", "Requires", "BindsTo", "PartOf", "Conflicts", "Requisite"), "Unit"),
    **dict.fromkeys(("Description", "Documentation", "DefaultDependencies", "OnFailure", "RequiresMountsFor"), "Unit"),
    **dict.fromkeys(("Type", "Restart", "RestartSec", "ExecStart", "RemainAfterExit", "WatchdogSec"), "Service"),
    **dict.fromkeys(("OnCalendar", "OnBootSec", "OnUnitActiveSec", "RandomizedDelaySec"), "Timer"),
}
_VALUES = {
    ("service", "Type"): {
        *("simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"),
    },
    ("service", "Restart"): {*RESTARTS, "no"},
    ("service", "KillMode"): {"control-group", "mixed", "process", "none"},
    ("service", "NotifyAccess"): {"none", "main", "exec", "all"},
}


def _misplaced(setting: Setting, unit: Unit) -> str:
    """Why systemd ignores a setting, or refuses its unit; empty if it does not."""
    kind, section = unit.name.rpartition(".")[2], _SECTION_OF.get(setting.key)
    if setting.section not in _SECTIONS and not setting.section.startswith("X-"):
        return f"there is no section [{setting.section}]"
    if section and setting.section != section and not (kind in ("mount", "swap") and setting.key == "Type"):
        return f"{setting.key} belongs to [{section}], and is in [{setting.section}]"
    values = _VALUES.get((kind, setting.key))
    if values and setting.value and setting.value not in values and "%" not in setting.value:
        return f"{setting.value} is not a value of {setting.key}"
    if setting.key in COMMANDS:
        name = (setting.value.lstrip("-@:+!|").split() or [""])[0]
        if "/" in name and not name.startswith(("/", "%", "$", '"', "'")):
            return f"the path {name} is not absolute"
    return ""


def _escaped_path(path: str) -> str:
    """As systemd-escape(1) --path."""
    plain = "/".join(filter(None, path.split("/"))) or "-"
    kept = re.sub(r"[^A-Za-z0-9:_./]|^\.", lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), plain)
    return "-" if plain == "-" else kept.replace("/", "-")


def restarts(image: Image) -> Findings:
    """Services that systemd starts again without end: a limit of 0 is none (systemd.unit(5))."""
    yield from _restarts_of_all(image)
    for unit, _ in in_boot(image).values():
        limits = [list(unit.all(key)) for key in ("StartLimitIntervalSec", "StartLimitInterval", "StartLimitBurst")]
        for setting in (found[-1] for found in limits if found):
            is_off = re.fullmatch(r"0\s*\w*", setting.value) is not None
            if is_off and unit.last("Restart") in RESTARTS and not image.may_be_original(setting.file):
                what = f"{unit.name} is started again without a limit"
                lines = (f"Restart={unit.last('Restart')}", f"{setting.key}={setting.value}")
                yield warns("restarts-forever", setting.file, what, *lines)


def _restarts_of_all(image: Image) -> Findings:
    """The limit of systemd-system.conf(5), for units without their own."""
    files = ["etc/systemd/system.conf", *image.root.inside("etc/systemd/system.conf.d")]
    for path in files:
        for setting in parse(image.root.text(path) or "", path):
            is_limit = isinstance(setting, Setting) and setting.key.startswith("DefaultStartLimit")
            if is_limit and isinstance(setting, Setting) and re.fullmatch(r"0\s*\w*", setting.value):
                line = f"{setting.key}={setting.value}"
                yield warns("restarts-forever", path, "services are started again without a limit", line)


def consoles(image: Image) -> Findings:
    """Units and kernel arguments that make somebody root on a console without a password."""
    for name, (unit, _) in in_boot(image).items():
        if name == "debug-shell.service":
            yield fails("console-open", place_of(unit), "a boot starts a root shell on a console")
        for setting in unit.all("ExecStart"):
            words = setting.value.split()
            if any(word in ("--autologin", "-a") or word.startswith("--autologin=") for word in words[1:]) and any(
                word.rpartition("/")[2] in ("agetty", "getty", "mingetty") for word in words[:1]
            ):
                what = "somebody is logged in on a console without a password"
                yield fails("console-open", setting.file, what, f"ExecStart={setting.value}")
    for unit in units_of(image).units.values():
        for setting in unit.all("Environment"):
            if "SYSTEMD_SULOGIN_FORCE=1" in setting.value and not image.may_be_original(setting.file):
                what = "the emergency shell asks for no password"
                yield warns("console-open", setting.file, what, f"Environment={setting.value}")
    for word in image.manifest.kernel_arguments:
        key, _, value = word.partition("=")
        if (key in ("systemd.debug_shell", "systemd.debug-shell") and value not in ("0", "no", "off")) or (
            key in ("init", "rdinit") and value.rpartition("/")[2] in ("sh", "bash", "dash")
        ):
            yield fails("console-open", "artifacts:manifest.json", "each boot starts a root shell on a console", word)


def timers(image: Image) -> Findings:
    units = units_of(image)
    for name, (unit, _) in in_boot(image).items():
        if not name.endswith(".timer"):
            continue
        if not any(True for key in _TRIGGERS for _ in unit.all(key)):
            yield fails("timer-wrong", place_of(unit), "it never elapses: it has no On… setting")
        other = timer_unit(unit, name)
        found = units.find(other)
        if found is None or found.is_masked:
            yield fails(
                "timer-wrong",
                place_of(unit),
                f"it starts {other}, {'which is masked' if found else 'and there is no such unit'}",
            )
        for setting in unit.all("OnCalendar"):
            if not _is_calendar(setting.value):
                yield fails(
                    "timer-wrong",
                    place_of(unit, setting),
                    "OnCalendar is not a time of systemd.time(7)",
                    f"OnCalendar={setting.value}",
                )


_CALENDAR_WORDS = (
    "minutely",
    "hourly",
    "daily",
    "monthly",
    "weekly",
    "yearly",
    "quarterly",
    "semiannually",
    "annually",
    "anually",
    "biannually",
    "bi-annually",
    "semi-annually",
)
_CALENDAR = re.compile(
    r"((mon|tue|wed|thu|fri|sat|sun)[a-z]*([,-]|\.\.|\s|$))*\s*([\d*,./~]+(-[\d*,./~]+){1,2})?\s*([\d*,./]+(:[\d*,./]+){1,2})?(\s+[A-Za-z/_+-]+\d*)?",
    re.IGNORECASE,
)


def _is_calendar(text: str) -> bool:
    return text.lower() in _CALENDAR_WORDS or bool(
        text.strip() and _CALENDAR.fullmatch(text.strip()) and _is_in_range(text)
    )


def _is_in_range(text: str) -> bool:
    """No hour above 23, minute or second above 59, month above 12 or day above 31."""
    times = [int(part) for clock in re.findall(r"\d+(?::\d+){1,2}", text) for part in clock.split(":")[1:]]
    hours = [int(found) for found in re.findall(r"(?<![\d:./])(\d+):", text)]
    dates = re.findall(r"(?<![\d:./])(?:[\d*]+-)?(\d+)-(\d+)(?![\d:])", text)
    return (
        all(one < 60 for one in times)
        and all(one < 24 for one in hours)
        and all(0 < int(month) <= 12 and 0 < int(day) <= 31 for month, day in dates)
    )


BY_NAMES = ()
BY_TEXTS = (drop_ins, malformed, restarts, consoles, timers)
BY_CONTENTS = ()

"""Units that cannot do their work, told from their files, and the other settings that systemd reads at boot."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.known import known
from harness.lint.settings import effective, names_in, rows
from harness.lint.tree import Tree
from harness.lint.unit_files import FOLDERS, Setting, Unit, Units, read_units, timer_unit

Findings = Iterator[LintFinding]

_COMMANDS = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition")
_OFF = ("no", "false", "0", "off")
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
_MADE_AT_BOOT = re.compile(
    r".*\.(device|mount|swap|scope|slice|automount)|dbus-.*|-\.|systemd-(fsck|cryptsetup|veritysetup|growfs|backlight|rfkill|volatile).*"
    r"|.*%.*|(serial-getty|getty|user|user-runtime-dir|modprobe|systemd-fsck|autovt|container-getty)@.*"
)
"""Generators make these, or the kernel does; or the name has a specifier."""
_OPTIONAL = frozenset(
    {
        "syslog.service",
        "display-manager.service",
        "rescue.service",
        "emergency.service",
        "syslog.socket",
        "dracut-shutdown.service",
    }
)
"""Names that systemd's own units mention for programs that an image need not have."""
_KNOWN_KEYS = frozenset(known("unit_settings").split())
_RESTARTS = ("always", "on-failure", "on-abnormal", "on-success", "on-abort", "on-watchdog")


def units_of(image: Image) -> Units:
    found = _CACHE.get(id(image.root))
    if found is None or found[0] is not image.root:
        _CACHE.clear()
        found = _CACHE[id(image.root)] = (image.root, read_units(image.root))
    return found[1]


_CACHE: dict[int, tuple[Tree, Units]] = {}
"""The units of the tree that is being examined: several checks look at them."""


def in_boot(image: Image) -> dict[str, tuple[Unit, tuple[str, str]]]:
    """The units that a boot starts, by name, each with the unit that pulls it in, and how."""
    units = units_of(image)
    return {name: (unit, by) for name, by in units.started.items() if (unit := units.find(name)) and not unit.is_masked}


def _place(unit: Unit, setting: Setting | None = None) -> str:
    return setting.file if setting else unit.file or (unit.drop_ins or (f"etc/systemd/system/{unit.name}",))[0]


def programs(image: Image) -> Findings:
    """Each command of a unit that a boot starts is there, and executable."""
    for unit, _ in in_boot(image).values():
        conditions = [
            word.lstrip("!|")
            for key in ("ConditionPathExists", "ConditionFileIsExecutable")
            for word in unit.words(key)
        ]
        for setting in (one for key in _COMMANDS for one in unit.all(key)):
            prefix, command = re.fullmatch(r"([-@:+!|]*)\s*(.*)", setting.value, re.DOTALL).groups()  # type: ignore[union-attr]  # matches any text
            name = command.split()[0].strip("\"'") if command.split() else ""
            if not name or "%" in name or "$" in name or name in conditions:
                continue
            path = image.root.program(name)
            file = image.root.files.get(path) if path is not None else None
            report = warns if "-" in prefix or not setting.key.startswith("ExecStart") else fails
            if file is None:
                if not (report is warns and image.is_original(setting.file)):
                    yield report(
                        "unit-program-missing",
                        _place(unit, setting),
                        f"{setting.key}: there is no program {name}",
                        f"{setting.key}={setting.value}",
                    )
            elif file.kind != "file" or not file.mode & 0o111:
                yield report(
                    "unit-program-missing",
                    _place(unit, setting),
                    f"{setting.key}: {name} is not an executable file",
                    f"mode {file.mode:04o}",
                )


_MADE_LATER = ("/run/", "/var/", "/data/", "/tmp/", "/dev/", "/proc/", "/sys/")


def files(image: Image) -> Findings:
    """Files that a service cannot start without, unless something makes them at boot."""
    for unit, _ in in_boot(image).values():
        for setting in (one for key in ("EnvironmentFile", "WorkingDirectory") for one in unit.all(key)):
            path = setting.value
            is_fixed = path.startswith("/") and not path.startswith(_MADE_LATER) and not set(path) & set("%*?[$")
            if is_fixed and image.root.find(path) is None:
                yield fails("unit-program-missing", _place(unit, setting), f"{setting.key}: there is no {path}")


def activated(image: Image) -> Findings:
    """The service that a socket starts is there."""
    units = units_of(image)
    for name, (unit, _) in in_boot(image).items():
        if name.endswith(".socket"):
            stem = name.rpartition(".")[0]
            is_each = unit.last("Accept") not in ("", *_OFF)
            other = unit.last("Service") or (f"{stem}@.service" if is_each else f"{stem}.service")
            if units.find(other) is None:
                yield fails("unit-missing", _place(unit), f"{name} starts {other}, and there is no such unit")


def users(image: Image) -> Findings:
    """Users and groups of units exist, or systemd-sysusers makes them."""
    known = {"User": names_in(image.root, "etc/passwd"), "Group": names_in(image.root, "etc/group")}
    made = [words for path in effective(image.root, "sysusers.d") for words in rows(image.root, path)]
    known["User"] |= {words[1] for words in made if words[0].rstrip("!") in ("u",) and len(words) > 1}
    known["Group"] |= {words[1] for words in made if words[0].rstrip("!") in ("u", "g") and len(words) > 1}
    for unit, _ in in_boot(image).values():
        if unit.last("DynamicUser") not in ("", *_OFF):
            continue
        for key, names in (
            ("User", known["User"]),
            ("Group", known["Group"]),
            ("SocketUser", known["User"]),
            ("SocketGroup", known["Group"]),
            ("SupplementaryGroups", known["Group"]),
        ):
            for setting in unit.all(key):
                for name in setting.value.split():
                    if name not in names and not name.isdecimal() and "%" not in name:
                        what = f"{key}: there is no {'user' if 'User' in key else 'group'} {name}"
                        yield fails("unit-user-missing", _place(unit, setting), what, f"{key}={setting.value}")


def dependencies(image: Image) -> Findings:
    """What units pull in exists: in a boot for Requires, for Wants in files that are not as their package brought them,
    and for each enabled unit."""
    units = units_of(image)
    started = in_boot(image)
    for name, (unit, _) in started.items():
        for kind, other, file in units.wanted(unit, name):
            found = units.find(other)
            is_link = "/" in file and file.rpartition("/")[0].endswith((".wants", ".requires"))
            if found is None and not _MADE_AT_BOOT.fullmatch(other) and other not in _OPTIONAL:
                if is_link:
                    yield fails("unit-missing", file, f"{other} is enabled, and there is no such unit")
                elif kind != "Wants":
                    yield fails("unit-missing", file, f"{name} requires {other}, and there is no such unit")
                elif not image.is_original(file):
                    yield warns("unit-missing", file, f"{name} wants {other}, and there is no such unit")
            elif found and found.is_masked and kind in ("Requires", "BindsTo", "Requisite") and not is_link:
                yield fails("unit-masked", file, f"{name} requires {other}, which is masked")
    for name, links in units.links.items():
        if units.find(name) is None and not _MADE_AT_BOOT.fullmatch(name):
            for _, other, file in links:
                if file.startswith("etc/") and units.find(other):
                    yield fails(
                        "unit-missing",
                        file,
                        f"{other} is enabled for {name}, and there is no such unit",
                        cause="WantedBy= in its file is misspelt, or the package with this target is missing",
                    )
    default = image.root.resolve("etc/systemd/system/default.target") or image.root.resolve(
        "usr/lib/systemd/system/default.target"
    )
    if default is None and units.units:
        yield fails(
            "unit-missing",
            "etc/systemd/system/default.target",
            "there is no default target: a boot ends in emergency mode",
        )


def demanded(image: Image) -> Findings:
    """The definition's services and sockets are there, not masked, and pulled in by a boot."""
    definition = image.definition
    if definition is None:
        return
    units = units_of(image)
    started = units.started
    for name in (*definition.services, *definition.sockets, *definition.waiting):
        unit = units.find(name)
        own = units.aliases.get(name, name)
        if unit is None:
            yield fails(
                "unit-missing", f"etc/systemd/system/{name}", "the definition demands this unit, and there is none"
            )
        elif unit.is_masked:
            yield fails(
                "unit-masked", f"etc/systemd/system/{name}", "the definition demands this unit, and it is masked"
            )
        elif (
            name not in started and own not in started and not any(units.aliases.get(other) == own for other in started)
        ):
            yield fails("unit-not-enabled", _place(unit), f"the definition demands {name}, and no boot starts it")


def cycles(image: Image) -> Findings:
    """Units that a boot starts, each of which is ordered after the next."""
    started = in_boot(image)
    units = units_of(image)
    after = {name: set[str]() for name in started}
    for name, (unit, _) in started.items():
        for key in ("After", "Before"):
            for other in unit.words(key):
                other = units.aliases.get(other, other)
                if other in started and other != name:
                    first, second = (other, name) if key == "After" else (name, other)
                    after[second].add(first)
        for other in _default_order(unit, name):
            if other in started:
                after[name].add(other)
    for name, (unit, _) in started.items():  # at last, because a target is not after what is ordered after it
        if name.endswith(".target") and unit.last("DefaultDependencies") not in _OFF:
            for _, other, _ in units.wanted(unit, name):
                other_unit = started.get(other)
                if (
                    other_unit
                    and other_unit[0].last("DefaultDependencies") not in _OFF
                    and name not in after.get(other, ())
                ):
                    after[name].add(other)
    for cycle in _strongly_connected(after):
        names = sorted(cycle)
        own = next(
            (name for name in names if not image.is_original(_place(started[name][0])) or started[name][0].drop_ins),
            names[0],
        )
        lines = [f"{name} is after {', '.join(sorted(after[name] & cycle))}" for name in names]
        yield fails(
            "ordering-cycle",
            _place(started[own][0]),
            f"an ordering cycle of {', '.join(names[:4])}: systemd leaves one of them out",
            *lines,
        )


def _default_order(unit: Unit, name: str) -> tuple[str, ...]:
    """systemd.service(5), systemd.socket(5), systemd.timer(5): default dependencies."""
    if unit.last("DefaultDependencies") in _OFF:
        return ()
    return {
        "service": ("sysinit.target", "basic.target"),
        "socket": ("sysinit.target",),
        "timer": ("sysinit.target",),
        "path": ("sysinit.target",),
    }.get(name.rpartition(".")[2], ())


def _strongly_connected(after: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Tarjan's algorithm, without recursion: a file may hold a chain of any length."""
    index, low, on_stack = dict[str, int](), dict[str, int](), set[str]()
    stack = list[str]()
    for root in after:
        if root in index:
            continue
        work = [(root, iter(sorted(after[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            other = next(rest, None)
            if other is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    found = set(stack[at:])
                    del stack[at:]
                    on_stack -= found
                    if len(found) > 1:
                        yield found
            elif other not in index:
                index[other] = low[other] = len(index)
                stack.append(other)
                on_stack.add(other)
                work.append((other, iter(sorted(after[other]))))
            elif other in on_stack:
                low[node] = min(low[node], index[other])


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
            is_pattern = "." not in name or name.endswith("-") or "-." in name or "@" in name
            found = units.find(name)
            if (
                own
                and not is_pattern
                and not _MADE_AT_BOOT.fullmatch(name)
                and (found is None or not (found.file or found.is_masked))
            ):
                near = difflib.get_close_matches(name, units.units, 1)
                cause = f"did you mean {near[0]}?" if near and near[0] != name else ""
                yield warns(
                    "drop-in-for-nothing", own[0], f"there is no unit {name}, which it would change", cause=cause
                )


def malformed(image: Image) -> Findings:
    """Lines that systemd does not understand, in files that are not as their package brought them."""
    for unit in units_of(image).units.values():
        for path, line in unit.strange:
            if not image.is_original(path):
                yield fails(
                    "unit-malformed", path, "a line is neither a section nor a setting, or is in no section", line
                )
        for setting in unit.settings:
            if (
                setting.key in _KNOWN_KEYS
                or setting.key.startswith(("X-", "Condition", "Assert"))
                or image.is_original(setting.file)
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
        if unit.file and unit.name.endswith(".service") and not image.is_original(unit.file) and not unit.is_masked:
            if not any(unit.all("ExecStart")) and not any(unit.all("ExecStop")) and not any(unit.all("SuccessAction")):
                yield fails("unit-malformed", unit.file, "it has no ExecStart")
            elif len(list(unit.all("ExecStart"))) > 1 and unit.last("Type") not in ("oneshot",):
                yield fails("unit-malformed", unit.file, "it has several ExecStart, and is not of Type=oneshot")
        if (
            unit.file
            and unit.name.endswith(".socket")
            and not image.is_original(unit.file)
            and not any(one for key in _LISTENS for one in unit.all(key))
        ):
            yield fails("unit-malformed", unit.file, "it listens to nothing")


def restarts(image: Image) -> Findings:
    """Services that systemd starts again without end: a limit of 0 is none (systemd.unit(5))."""
    for unit, _ in in_boot(image).values():
        limits = [list(unit.all(key)) for key in ("StartLimitIntervalSec", "StartLimitInterval", "StartLimitBurst")]
        for setting in (found[-1] for found in limits if found):
            is_off = re.fullmatch(r"0\s*\w*", setting.value) is not None
            if is_off and unit.last("Restart") in _RESTARTS and not image.is_original(setting.file):
                what = f"{unit.name} is started again without a limit"
                lines = (f"Restart={unit.last('Restart')}", f"{setting.key}={setting.value}")
                yield warns("restarts-forever", setting.file, what, *lines)


def timers(image: Image) -> Findings:
    units = units_of(image)
    for name, (unit, _) in in_boot(image).items():
        if not name.endswith(".timer"):
            continue
        if not any(True for key in _TRIGGERS for _ in unit.all(key)):
            yield fails("timer-wrong", _place(unit), "it never elapses: it has no On… setting")
        other = timer_unit(unit, name)
        found = units.find(other)
        if found is None or found.is_masked:
            yield fails(
                "timer-wrong",
                _place(unit),
                f"it starts {other}, {'which is masked' if found else 'and there is no such unit'}",
            )
        for setting in unit.all("OnCalendar"):
            if not _is_calendar(setting.value):
                yield fails(
                    "timer-wrong",
                    _place(unit, setting),
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
    return text.lower() in _CALENDAR_WORDS or bool(text.strip() and _CALENDAR.fullmatch(text.strip()))


def generators(image: Image) -> Findings:
    """Generators run before everything else: they are executable, and their interpreter is there."""
    for folder in (
        "etc/systemd/system-generators",
        "usr/local/lib/systemd/system-generators",
        "usr/lib/systemd/system-generators",
    ):
        for path in image.root.inside(folder):
            file = image.root.files[path]
            if (file.kind == "link" and file.target == "/dev/null") or (file.kind == "file" and not file.size_bytes):
                continue
            target = image.root.find(path)
            if target is None:
                yield fails("generator-cannot-run", path, f"it leads to {file.target}, which is not there")
            elif target.kind == "file" and not target.mode & 0o111:
                yield fails("generator-cannot-run", path, f"it is not executable (mode {target.mode:04o})")
            elif (words := image.root.scripts.get(path)) is not None and (not words or not image.root.find(words[0])):
                yield fails(
                    "generator-cannot-run", path, f"its interpreter {words[0] if words else '(none)'} is missing"
                )
            elif (
                image.root.programs
                and path not in image.root.programs
                and words is None
                and target.kind == "file"
                and image.root.resolve(path) == path
            ):
                yield fails("generator-cannot-run", path, "it is neither a program nor a script that begins with #!")


BY_NAMES = ()
BY_TEXTS = (
    programs, files, activated, users, dependencies, demanded, cycles, drop_ins, malformed, restarts, timers,
)  # fmt: skip
BY_CONTENTS = (generators,)

"""Units that cannot do their work, told from their files, and the other settings that systemd reads at boot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.settings import effective, names_in, rows
from harness.lint.tree import Tree
from harness.lint.unit_files import FOLDERS, Setting, Unit, Units, read_units
from harness.model.unit_names import same_service

Findings = Iterator[LintFinding]

COMMANDS = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition")
OFF = ("no", "false", "0", "off")
_WATCHES = ("PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty")
MADE_AT_BOOT = re.compile(
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
RESTARTS = ("always", "on-failure", "on-abnormal", "on-success", "on-abort", "on-watchdog")


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


def place_of(unit: Unit, setting: Setting | None = None) -> str:
    return setting.file if setting else unit.file or (unit.drop_ins or (f"etc/systemd/system/{unit.name}",))[0]


def programs(image: Image) -> Findings:
    """Each command of a unit that a boot starts is there, and executable."""
    for unit, _ in in_boot(image).values():
        conditions = [
            word.lstrip("!|")
            for key in ("ConditionPathExists", "ConditionFileIsExecutable")
            for word in unit.words(key)
        ]
        for setting in (one for key in COMMANDS for one in unit.all(key)):
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
                        place_of(unit, setting),
                        f"{setting.key}: there is no program {name}",
                        f"{setting.key}={setting.value}",
                    )
            elif file.kind != "file" or not file.mode & 0o111:
                yield report(
                    "unit-program-missing",
                    place_of(unit, setting),
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
                yield fails("unit-program-missing", place_of(unit, setting), f"{setting.key}: there is no {path}")


def activated(image: Image) -> Findings:
    """What a socket, a path or an automount starts is there."""
    units = units_of(image)
    for name, (unit, _) in in_boot(image).items():
        if name.endswith(".socket"):
            stem = name.rpartition(".")[0]
            is_each = unit.last("Accept") not in ("", *OFF)
            other = unit.last("Service") or (f"{stem}@.service" if is_each else f"{stem}.service")
        elif name.endswith(".path"):
            other = unit.last("Unit") or f"{name.rpartition('.')[0]}.service"
            if not any(True for key in _WATCHES for _ in unit.all(key)):
                yield fails("unit-malformed", place_of(unit), "it watches nothing")
        elif name.endswith(".automount"):
            other = f"{name.rpartition('.')[0]}.mount"
        else:
            continue
        found = units.find(other)
        if found is None and not (name.endswith(".automount") and not unit.file):
            yield fails("unit-missing", place_of(unit), f"{name} starts {other}, and there is no such unit")
        elif found and found.is_masked and not image.is_original(place_of(unit)):
            yield fails("unit-masked", place_of(unit), f"{name} starts {other}, which is masked")


def users(image: Image) -> Findings:
    """Users and groups of units exist, or systemd-sysusers makes them."""
    known = {"User": names_in(image.root, "etc/passwd"), "Group": names_in(image.root, "etc/group")}
    made = [words for path in effective(image.root, "sysusers.d") for words in rows(image.root, path)]
    known["User"] |= {words[1] for words in made if words[0].rstrip("!") in ("u",) and len(words) > 1}
    known["Group"] |= {words[1] for words in made if words[0].rstrip("!") in ("u", "g") and len(words) > 1}
    for unit, _ in in_boot(image).values():
        if unit.last("DynamicUser") not in ("", *OFF):
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
                        yield fails("unit-user-missing", place_of(unit, setting), what, f"{key}={setting.value}")


def dependencies(image: Image) -> Findings:
    """What units pull in exists: in a boot for Requires, for Wants in files that are not as their package brought them,
    and for each enabled unit."""
    units = units_of(image)
    started = in_boot(image)
    for name, (unit, _) in started.items():
        for kind, other, file in units.wanted(unit, name):
            found = units.find(other)
            is_link = "/" in file and file.rpartition("/")[0].endswith((".wants", ".requires"))
            if found is None and not MADE_AT_BOOT.fullmatch(other) and other not in _OPTIONAL:
                if is_link:
                    yield fails("unit-missing", file, f"{other} is enabled, and there is no such unit")
                elif kind != "Wants":
                    yield fails("unit-missing", file, f"{name} requires {other}, and there is no such unit")
                elif not image.is_original(file):
                    yield warns("unit-missing", file, f"{name} wants {other}, and there is no such unit")
            elif found and found.is_masked and kind in ("Requires", "BindsTo", "Requisite") and not is_link:
                yield fails("unit-masked", file, f"{name} requires {other}, which is masked")
    for name, links in units.links.items():
        if units.find(name) is None and not MADE_AT_BOOT.fullmatch(name):
            for _, other, file in links:
                if file.startswith("etc/") and units.find(other):
                    yield fails(
                        "unit-missing",
                        file,
                        f"{other} is enabled for {name}, and there is no such unit",
                        cause="WantedBy= in its file is misspelt, or the package with this target is missing",
                    )
    yield from _default_target(image, units)


_NO_SYSTEMS = ("rescue", "emergency", "halt", "poweroff", "reboot", "shutdown", "sleep", "initrd")
"""Targets in which no service of a host runs."""


def _default_target(image: Image, units: Units) -> Findings:
    place = next((path for folder in FOLDERS if (path := f"{folder}/default.target") in image.root.files), None)
    target = image.root.resolve(place) if place else None
    if target is None and units.units:
        place = place or "etc/systemd/system/default.target"
        yield fails("unit-missing", place, "there is no default target: a boot ends in emergency mode")
    elif place and target and target.rpartition("/")[2].partition(".")[0] in _NO_SYSTEMS:
        what = f"the default target is {target.rpartition('/')[2]}, in which no service of a host runs"
        yield fails("unit-not-enabled", place, what)


def demanded(image: Image) -> Findings:
    """The definition's services and sockets are there, not masked, and pulled in by a boot."""
    definition = image.definition
    if definition is None:
        return
    units = units_of(image)
    started = units.started
    for demanded_name in (*definition.services, *definition.sockets, *definition.waiting):
        name = next((one for one in same_service(demanded_name) if units.find(one)), demanded_name)
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
            yield fails("unit-not-enabled", place_of(unit), f"the definition demands {name}, and no boot starts it")


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
        if name.endswith(".target") and unit.last("DefaultDependencies") not in OFF:
            for _, other, _ in units.wanted(unit, name):
                other_unit = started.get(other)
                if (
                    other_unit
                    and other_unit[0].last("DefaultDependencies") not in OFF
                    and name not in after.get(other, ())
                ):
                    after[name].add(other)
    for cycle in _strongly_connected(after):
        names = sorted(cycle)
        own = next(
            (name for name in names if not image.is_original(place_of(started[name][0])) or started[name][0].drop_ins),
            names[0],
        )
        lines = [f"{name} is after {', '.join(sorted(after[name] & cycle))}" for name in names]
        yield fails(
            "ordering-cycle",
            place_of(started[own][0]),
            f"an ordering cycle of {', '.join(names[:4])}: systemd leaves one of them out",
            *lines,
        )


def _default_order(unit: Unit, name: str) -> tuple[str, ...]:
    """systemd.service(5), systemd.socket(5), systemd.timer(5): default dependencies."""
    if unit.last("DefaultDependencies") in OFF:
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
BY_TEXTS = (programs, files, activated, users, dependencies, demanded, cycles)
BY_CONTENTS = (generators,)

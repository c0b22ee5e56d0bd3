"""The units of a tree, as systemd would read them: files, drop-ins, masks, aliases and links of enabled units.

systemd.unit(5) and systemd.syntax(7); specifiers are not expanded, except for a template's instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.lint.tree import Tree

FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
"""The first counts."""
TYPES = ("service", "socket", "target", "timer", "mount", "automount", "path", "slice", "swap", "scope", "device")
_MOST_UNITS = 5_000
"""A template can want another instance of itself without end."""
_NAME = re.compile(rf"[^/]+\.({'|'.join(TYPES)})")
_LINKS = {"wants": "Wants", "requires": "Requires", "upholds": "Wants"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of a unit: ``file`` has it."""

    section: str
    key: str
    value: str
    file: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """``file`` is empty for a unit of which there are only drop-ins or links; ``strange`` are lines that are no
    settings, as pairs of a file and a line."""

    name: str
    file: str = ""
    is_masked: bool = False
    drop_ins: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    strange: tuple[tuple[str, str], ...] = ()

    def all(self, key: str) -> Iterator[Setting]:
        """The settings of ``key`` that count: an empty one clears those before."""
        kept = list[Setting]()
        for setting in self.settings:
            if setting.key == key:
                kept = [*kept, setting] if setting.value else []
        yield from kept

    def last(self, key: str) -> str:
        found = [setting.value for setting in self.all(key)]
        return found[-1] if found else ""

    def words(self, key: str) -> list[str]:
        return [word for setting in self.all(key) for word in setting.value.split()]


@dataclass(frozen=True)
class Units:
    """All units by name. ``aliases`` maps a further name to the unit's own; ``links`` maps a unit to the pairs of kind
    and name in its folders ``.wants`` and ``.requires``, each with the link's path."""

    units: Mapping[str, Unit]
    aliases: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, tuple[tuple[str, str, str], ...]] = field(default_factory=dict)

    def find(self, name: str) -> Unit | None:
        """The unit called ``name``: itself, under another name, or as an instance of a template."""
        name = self.aliases.get(name, name)
        if name in self.units:
            return self.units[name]
        prefix, at, rest = name.partition("@")
        template = f"{prefix}@.{rest.rpartition('.')[2]}"
        template = self.aliases.get(template, template)
        return self.units.get(template) if at else None

    def wanted(self, unit: Unit, *names: str) -> Iterator[tuple[str, str, str]]:
        """What ``unit``, under any of its ``names``, pulls in: kind, name, and the file that says so."""
        for kind in ("Wants", "Requires", "BindsTo", "Requisite", "Upholds"):
            for setting in unit.all(kind):
                yield from (
                    (kind, _instance(word, names or (unit.name,)), setting.file) for word in setting.value.split()
                )
        for name in dict.fromkeys((unit.name, *names)):
            yield from self.links.get(name, ())

    @cached_property
    def started(self) -> Mapping[str, tuple[str, str]]:
        """The units that a boot pulls in: each with the unit that did, and the kind."""
        found = {"default.target": ("", "")}
        todo = list(found)
        while todo and len(found) < _MOST_UNITS:
            name = todo.pop()
            unit = self.find(name)
            if unit is None or unit.is_masked:
                continue
            implied = (
                [("Requires", "sysinit.target", ""), ("Requires", "basic.target", "")]
                if _has_defaults(unit, name)
                else []
            )
            if name.endswith(".timer"):
                implied.append(("Wants", timer_unit(unit, name), ""))
            if name.endswith((".socket", ".path")):
                implied.append(
                    ("Wants", unit.last("Unit") or unit.last("Service") or f"{name.rpartition('.')[0]}.service", "")
                )
            for kind, other, _ in [*self.wanted(unit, name), *implied]:
                if other not in found:
                    found[other] = (name, kind)
                    todo.append(other)
        return found


def _instance(word: str, names: tuple[str, ...]) -> str:
    _, at, rest = names[-1].partition("@")
    return word.replace("%i", rest.rpartition(".")[0]).replace("%I", rest.rpartition(".")[0]) if at else word


def _has_defaults(unit: Unit, name: str) -> bool:
    return name.endswith((".service", ".socket", ".timer", ".path")) and unit.last("DefaultDependencies") not in (
        "no",
        "false",
        "0",
        "off",
    )


def timer_unit(unit: Unit, name: str) -> str:
    """The unit that a timer starts."""
    return unit.last("Unit") or f"{name.rpartition('.')[0]}.service"


def read_units(tree: Tree) -> Units:
    """All system units of ``tree``."""
    files, masked, aliases = dict[str, str](), set[str](), dict[str, str]()
    links = dict[str, list[tuple[str, str, str]]]()
    drop_ins = dict[str, dict[str, str]]()
    folders = list(dict.fromkeys(filter(None, map(tree.resolve, FOLDERS))))
    for folder in folders:
        for path in tree.inside(folder):
            name = path.rpartition("/")[2]
            file = tree.files[path]
            stem, _, kind = name.rpartition(".")
            if file.kind == "folder" and kind in _LINKS:
                links.setdefault(stem, []).extend(
                    (_LINKS[kind], link.rpartition("/")[2], link) for link in tree.inside(path)
                )
            elif file.kind == "folder" and kind == "d":
                for drop_in in tree.inside(path):
                    drop_ins.setdefault(stem, {}).setdefault(drop_in.rpartition("/")[2], drop_in)
            elif _NAME.fullmatch(name) and name not in files and name not in aliases and name not in masked:
                target = tree.resolve(path)
                if (file.kind == "link" and file.target == "/dev/null") or (
                    file.kind == "file" and not file.size_bytes
                ):
                    masked.add(name)
                elif (
                    file.kind == "link"
                    and target
                    and target.rpartition("/")[2] != name
                    and _NAME.fullmatch(target.rpartition("/")[2])
                ):
                    aliases[name] = target.rpartition("/")[2]
                elif target:
                    files[name] = target
                else:
                    files[name] = path
    names = {*files, *masked, *(name for name in drop_ins if _NAME.fullmatch(name))}
    return Units({name: _read(tree, name, _file_of(name, files), name in masked, drop_ins) for name in names}, aliases,
                 {name: tuple(found) for name, found in links.items()})  # fmt: skip


def _file_of(name: str, files: Mapping[str, str]) -> str:
    """Its own file, or that of its template."""
    prefix, at, rest = name.partition("@")
    return files.get(name) or (files.get(f"{prefix}@.{rest.rpartition('.')[2]}", "") if at else "")


def _read(tree: Tree, name: str, file: str, is_masked: bool, drop_ins: Mapping[str, Mapping[str, str]]) -> Unit:
    """Drop-ins of the unit, of its prefixes and of its type, in the order of their names (systemd.unit(5))."""
    stem, _, kind = name.rpartition(".")
    prefixes = [f"{stem[: at + 1]}.{kind}" for at, char in enumerate(stem) if char == "-" and at + 1 < len(stem)]
    template = [f"{stem.partition('@')[0]}@.{kind}"] if "@" in stem else []
    found = dict[str, str]()
    for source in (name, *template, *prefixes[::-1], kind):
        for base, path in drop_ins.get(source, {}).items():
            found.setdefault(base, path)
    ordered = [found[base] for base in sorted(found) if base.endswith(".conf")]
    settings, strange = list[Setting](), list[tuple[str, str]]()
    for path in [file, *ordered] if file else ordered:
        for setting in parse(tree.text(path) or "", path):
            if isinstance(setting, Setting):
                settings.append(setting)
            else:
                strange.append((path, setting))
    return Unit(
        name=name,
        file=file,
        is_masked=is_masked,
        drop_ins=tuple(ordered),
        settings=tuple(settings),
        strange=tuple(strange),
    )


def parse(text: str, file: str) -> Iterator[Setting | str]:
    """Settings, and the lines that are none (systemd.syntax(7))."""
    section, continued, begun = "", list[str](), 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not continued):
            continue
        begun = begun if continued else number
        if line.endswith("\\"):
            continued.append(line[:-1].strip())
            continue
        line = " ".join([*continued, line]).strip()
        continued = []
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            yield line
        else:
            yield Setting(section, key.strip(), value.strip(), file, begun)

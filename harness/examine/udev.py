"""Rules of udev(7) that an operator or a site wrote are in force: names, owners, modes, links and attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from harness.examine.settings import STAT, FileState, Texts, as_words, file_state, is_same
from harness.examine.texts import by_file, lines_of, some
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_DEVICES, _ATTRIBUTES = "devices of udev", "attributes of devices"

_PAIR = re.compile(r'(?P<key>[A-Z_]+(?:\{[^}]*\})?)\s*(?P<operator>==|!=|\+=|:=|=)\s*"(?P<value>[^"]*)"')
_ATTRIBUTE = re.compile(r"ATTR\{([^}]*)\}")
_SIMPLE = {"KERNEL", "SUBSYSTEM", "ACTION"}
"""Conditions of a rule that names of devices answer."""
_OWN_FOLDERS = ("/etc/", "/run/", "/usr/local/")


@dataclass(frozen=True, slots=True, kw_only=True)
class UdevReading:
    """``devices`` of /dev by path, links not followed; ``attributes`` of /sys by path."""

    devices: Mapping[str, FileState] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A line about devices: its keys with their operators and values."""

    file: str
    line: str
    pairs: tuple[tuple[str, str, str], ...]

    def value(self, key: str, *operators: str) -> str:
        return next((value for name, operator, value in self.pairs if name == key and operator in operators), "")

    @property
    def names(self) -> list[str]:
        """Patterns for the kernel's names of its devices; none if it has conditions that these do not answer."""
        conditions = {name for name, operator, _ in self.pairs if operator in ("==", "!=")}
        is_simple = conditions <= _SIMPLE and not any(operator == "!=" for _, operator, _ in self.pairs)
        return [name for name in self.value("KERNEL", "==").split("|") if name] if is_simple else []

    @property
    def attributes(self) -> Iterator[tuple[str, str]]:
        """Patterns for the files of /sys that it sets, with their values."""
        subsystem = self.value("SUBSYSTEM", "==")
        folders = [f"/sys/class/{subsystem or '*'}", *([f"/sys/bus/{subsystem}/devices"] if subsystem else ())]
        for key, operator, value in self.pairs:
            if (found := _ATTRIBUTE.fullmatch(key)) and operator == "=" and not set("$%") & set(value):
                yield from ((f"{folder}/{name}/{found[1]}", value) for folder in folders for name in self.names)


def _rules(texts: Texts) -> Iterator[_Rule]:
    """Those of the files that count, in udev's order."""
    for file in texts.effective("udev/rules.d"):
        joined = "\n".join(texts.files[file]).replace("\\\n", " ").splitlines()
        for line in joined if file.startswith(_OWN_FOLDERS) else ():
            pairs = tuple((one["key"], one["operator"], one["value"]) for one in _PAIR.finditer(line))
            if pairs and not line.lstrip().startswith("#"):
                yield _Rule(file=file, line=line.strip(), pairs=pairs)


def state_probes(texts: Texts) -> list[Probe]:
    """What to ask so that `judge` can compare."""
    devices = [f"/dev/{name}" for rule in _rules(texts) for name in rule.names]
    devices += [f"/dev/{name}" for rule in _rules(texts) for name in rule.value("SYMLINK", "+=", "=").split()]
    attributes = [pattern for rule in _rules(texts) for pattern, _ in rule.attributes]
    found = []
    if devices:
        found.append(Probe(_DEVICES, some(f"{STAT} {' '.join(map(as_words, dict.fromkeys(devices)))}")))
    if attributes:
        found.append(Probe(_ATTRIBUTES, some(f"grep -aH '' {' '.join(map(as_words, dict.fromkeys(attributes)))}")))
    return found


def parse(answers: Mapping[str, str]) -> UdevReading:
    """The answers to `state_probes`; those that were not asked are empty."""

    def lines(name: str) -> list[str]:
        return read(answers, Probe(name, "…"), lines_of) if name in answers else []

    return UdevReading(
        devices=dict(map(file_state, lines(_DEVICES))),
        attributes={path: " ".join(" ".join(rows).split()) for path, rows in by_file(lines(_ATTRIBUTES)).items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """What a rule gives a device."""

    value: str
    rule: _Rule
    is_final: bool = False


def judge(texts: Texts, udev: UdevReading, interfaces: Mapping[str, str]) -> Iterator[LintFinding]:
    """``interfaces`` are the names of network cards by their addresses. The last rule about a device counts."""
    for rule in _rules(texts):
        for what in (*_wrong_name(rule, interfaces), *_missing_links(rule, udev.devices)):
            yield fails("setting-not-in-force", rule.file, what, rule.line)
    for (path, key), one in _last_owners(texts, udev.devices).items():
        for what in _wrong_owner(path, key, one.value, udev.devices[path]):
            yield fails("setting-not-in-force", one.rule.file, what, one.rule.line)
    last = dict[str, _Value]()
    for rule in _rules(texts):
        for pattern, value in rule.attributes:
            paths = (path for path in udev.attributes if fnmatchcase(path, pattern))
            last.update(dict.fromkeys(paths, _Value(value=value, rule=rule)))
    for path, one in last.items():
        if not is_same(one.value, udev.attributes[path]):
            what = f"{path} is {udev.attributes[path]}, and its rule sets it to {one.value}"
            yield fails("setting-not-in-force", one.rule.file, what, one.rule.line)


def _matching(rule: _Rule, devices: Mapping[str, FileState]) -> list[str]:
    return [path for path in devices if any(fnmatchcase(path, f"/dev/{name}") for name in rule.names)]


def _wrong_name(rule: _Rule, interfaces: Mapping[str, str]) -> Iterator[str]:
    address, name = rule.value("ATTR{address}", "==").lower(), rule.value("NAME", "=", ":=")
    if address in interfaces and name and interfaces[address] != name:
        yield f"the network card {address} is called {interfaces[address]}, not {name}"


def _missing_links(rule: _Rule, devices: Mapping[str, FileState]) -> Iterator[str]:
    for name in rule.value("SYMLINK", "+=", "=").split() if _matching(rule, devices) else ():
        if f"/dev/{name}" not in devices and "%" not in name and "$" not in name:
            yield f"/dev/{name} is missing, and a rule makes it"


def _last_owners(texts: Texts, devices: Mapping[str, FileState]) -> dict[tuple[str, str], _Value]:
    """What rules make of mode and owners of each device."""
    last = dict[tuple[str, str], _Value]()
    for rule in _rules(texts):
        matching = _matching(rule, devices)
        for key, operator, value in rule.pairs:
            if key not in ("MODE", "OWNER", "GROUP") or operator not in ("=", ":=") or set("$%") & set(value):
                continue
            for path in matching:
                if not ((before := last.get((path, key))) and before.is_final):
                    last[path, key] = _Value(value=value, rule=rule, is_final=operator == ":=")
    return last


def _wrong_owner(path: str, key: str, wanted: str, state: FileState) -> Iterator[str]:
    has = {"OWNER": state.user, "GROUP": state.group}
    if key == "MODE" and re.fullmatch(r"[0-7]{3,4}", wanted) and state.mode != int(wanted, 8):
        yield f"{path} has mode {state.mode:04o}, and by its rule {int(wanted, 8):04o}"
    if key in has and not wanted.isdecimal() and has[key] != wanted:
        yield f"{path} belongs to {has[key]}, and by its rule to {wanted} ({key})"

"""Texts that say which modules are loaded: modprobe.d(5), and depmod's files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_MODULE = re.compile(r"([^/]+)\.ko(?:\.(?:xz|zst|gz))?")
_LOADS_NOTHING = re.compile(r"(?:exec +)?(?:/(?:usr/)?bin/)?(?:true|false|:)\b")
FOLDERS = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
"""By precedence: of two files with one name, the first is read."""


def module_name(path: str) -> str | None:
    """The name of a module, as the kernel spells it, by its file; None for another file."""
    found = _MODULE.fullmatch(path.rpartition("/")[2])
    return underscored(found[1]) if found else None


def underscored(name: str) -> str:
    """kmod takes both for the same."""
    return name.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModprobeRules:
    """``blacklisted`` modules are not loaded by a device's alias, ``blocked`` ones not at all: each with the file that
    says so. ``aliases`` are "pattern module"."""

    blacklisted: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    softdeps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_rules(texts: Mapping[str, str]) -> ModprobeRules:
    """The rules in files, by their paths; only those in `FOLDERS` count, in their order."""
    blacklisted, blocked, softdeps = dict[str, str](), dict[str, str](), dict[str, tuple[str, ...]]()
    aliases = list[str]()
    for path, text in _in_force(texts):
        for line in text.replace("\\\n", " ").splitlines():
            match line.split("#", 1)[0].split():
                case ["blacklist", name]:
                    blacklisted[underscored(name)] = path
                case ["install", name, *command] if _LOADS_NOTHING.match(" ".join(command)):
                    blocked[underscored(name)] = path
                case ["alias", pattern, name]:
                    aliases.append(f"{underscored_pattern(pattern)} {underscored(name)}")
                case ["softdep", name, *words]:
                    softdeps[underscored(name)] = _modules_of(words)
    return ModprobeRules(blacklisted=blacklisted, blocked=blocked, aliases=tuple(aliases), softdeps=softdeps)


def _in_force(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """kmod reads each name once, from the first folder that has it, in the order of the names."""
    seen = dict[str, tuple[str, str]]()
    for folder in FOLDERS:
        for path in sorted(texts):
            if path.rpartition("/")[0] == folder and path.endswith(".conf"):
                seen.setdefault(path.rpartition("/")[2], (path, texts[path]))
    yield from (seen[name] for name in sorted(seen))


def _modules_of(words: list[str]) -> tuple[str, ...]:
    return tuple(underscored(word) for word in words if word not in ("pre:", "post:"))


def underscored_pattern(pattern: str) -> str:
    """As kmod compares patterns: hyphens outside of brackets are underscores (kmod, shared/util.c, alias_normalize)."""
    return "".join(
        part if part.startswith("[") else part.replace("-", "_") for part in re.split(r"(\[[^\]]*\])", pattern)
    )


def read_aliases(text: str) -> tuple[str, ...]:
    """The lines of modules.alias as "pattern module"."""
    rows = (line.split() for line in text.splitlines() if line.startswith("alias "))
    return tuple(f"{underscored_pattern(row[1])} {underscored(row[2])}" for row in rows if len(row) == 3)


def read_softdeps(text: str) -> dict[str, tuple[str, ...]]:
    """modules.softdep."""
    rows = (line.split() for line in text.splitlines() if line.startswith("softdep "))
    return {underscored(row[1]): _modules_of(row[2:]) for row in rows if len(row) > 2}


def read_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """modules.dep: the modules that each module needs."""
    found = dict[str, tuple[str, ...]]()
    for line in text.splitlines():
        path, colon, needed = line.partition(":")
        name = module_name(path)
        if colon and name:
            found[name] = tuple(filter(None, map(module_name, needed.split())))
    return found


def read_builtin_info(content: bytes) -> dict[str, dict[str, tuple[str, ...]]]:
    """modules.builtin.modinfo: strings "module.key=value" that end in zeros."""
    found = dict[str, dict[str, list[str]]]()
    for part in content.split(b"\0"):
        name, dot, rest = part.decode("utf-8", "replace").partition(".")
        key, equals, value = rest.partition("=")
        if dot and equals:
            found.setdefault(underscored(name), {}).setdefault(key, []).append(value)
    return {name: {key: tuple(values) for key, values in rows.items()} for name, rows in found.items()}

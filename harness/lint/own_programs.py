"""What the image's own programs say of its settings: ``systemd-analyze verify``, ``sshd -t``, ``visudo -c`` and others.

They run in a sandbox, on the few files that they read: see ``own_programs.toml`` and `harness.lint.sandbox`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.core import serialization
from harness.core.errors import HostError, ImageError
from harness.lint import sandbox
from harness.lint.finding import LintFinding, fails
from harness.lint.image import Image
from harness.lint.libraries import find_library, search_folders
from harness.lint.tree import Tree
from harness.lint.unit_files import TYPES
from harness.lint.units import in_boot, units_of

ReadFiles = Callable[[Mapping[str, int]], Mapping[str, bytes]]
"""The bytes of files of the root file system, by their sizes."""

_FILE = Path(__file__).with_name("own_programs.toml")
_MOST_LIBRARIES = 300
_MOST_BYTES = 256 << 20
_MOST_FILES = 60_000
_SETTINGS = re.compile(
    r"(usr/)?etc/(?!g?shadow).*|(usr/(local/)?)?lib/(systemd|tmpfiles\.d|sysusers\.d|udev/rules\.d|dracut/modules\.d)/.*"
    r"|usr/lib/os-release"
)
_LINKS = re.compile(r"(?!usr/(share|src|include)/|(usr/)?lib/(modules|firmware|python[^/]*)/).*")
_UNIT = re.compile(rf"[\w@:.\\-]+\.(?:{'|'.join(TYPES)})\b")
_PATH = re.compile(r"/[^\s:,;'\"()]+")
_NOT_STARTED = (126, 127)
_KILLED = (137, 124)
_MOST_SIGNALS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    line: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A row of ``own_programs.toml``, which says what the fields mean."""

    program: str
    arguments: tuple[str, ...]
    id: str
    about: str
    opens: tuple[str, ...] = ()
    speaks: bool = False
    absent: str = ""
    noise: tuple[Noise, ...] = ()
    covered: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.program} {self.arguments[0]}"


@cache
def checks() -> tuple[Check, ...]:
    with _FILE.open("rb") as file:
        return tuple(serialization.load(Check, row) for row in tomllib.load(file)["check"])


@dataclass(frozen=True, slots=True)
class Said:
    """``unchecked`` has a sentence for each program that could not be asked."""

    findings: tuple[LintFinding, ...] = ()
    unchecked: tuple[str, ...] = ()


def examine(image: Image, read_files: ReadFiles, found: Sequence[LintFinding]) -> Said:
    """Ask the image's own programs. ``found`` are the findings of lint itself, which are not repeated."""
    asked = [(check, path, words) for check in checks() if (path := _program(image, check))
             and (words := _words(image, check))]  # fmt: skip
    if not asked:
        return Said()
    try:
        tree = _small_tree(image, read_files, [(check, path) for check, path, _ in asked])
        ended = sandbox.run(tree, [[f"/{path}", *words] for _, path, words in asked])
    except (HostError, ImageError, OSError) as error:
        names = ", ".join(check.name for check, _, _ in asked)
        why = (str(error).splitlines() or [""])[0]
        return Said(unchecked=(f"what the image's own programs say of its settings ({names}): {why}",))
    findings, unchecked = list[LintFinding](), list[str]()
    for (check, _, _), end in zip(asked, ended, strict=True):
        if why := why_not_run(check, end):
            unchecked.append(f"what {check.name} of the image says: {why}")
        else:
            findings += judge(image, check, end, found)
    return Said(tuple(findings), tuple(unchecked))


def why_not_run(check: Check, end: sandbox.Ended) -> str:
    """Why a program's answer says nothing about the image; empty if it does."""
    first = next(iter(end.printed.strip().splitlines()), "")
    if end.status in _KILLED:
        return "it did not end in time"
    if end.status in _NOT_STARTED or "error while loading shared libraries" in first:
        return f"it does not start in the sandbox ({first})"
    if check.absent and re.search(check.absent, end.printed):
        return "this release of it cannot"
    if 128 < end.status <= 128 + _MOST_SIGNALS:
        return f"it crashed in the sandbox (status {end.status})"
    if check.speaks and end.status and not _UNIT.search(end.printed):
        return f"it failed before it came to a unit ({first})"
    return ""


def judge(image: Image, check: Check, end: sandbox.Ended, found: Sequence[LintFinding]) -> Iterator[LintFinding]:
    """The findings in what a program printed: one for each file, with the lines about it."""
    if not end.status and not check.speaks:
        return
    known = {(finding.path, finding.id) for finding in found}
    about = dict[str, list[str]]()
    for line in dict.fromkeys(map(str.strip, end.printed.splitlines())):
        if not line or any(re.search(noise.line, line) for noise in check.noise):
            continue
        path = _place(image, check, line)
        covered = {name for pattern, name in check.covered.items() if re.search(pattern, line)}
        if path and not any((f"/{path}", name) in known for name in covered):
            about.setdefault(path, []).append(line)
    for path, lines in about.items():
        yield fails(check.id, path, f"{check.name} of the image: {lines[0]}", *lines[1:])


def _place(image: Image, check: Check, line: str) -> str:
    """The file that a line is about; empty for one that is as its package brought it."""
    units = units_of(image)
    paths = [image.root.resolve(name, follow=False) for name in _PATH.findall(line)]
    named = [unit for name in _UNIT.findall(line) if (unit := units.find(name))] if check.speaks else []
    files = [path for path in paths if path and image.root.files[path].kind == "file"]
    candidates = [path for path in files if _SETTINGS.fullmatch(path)]
    for unit in named:
        candidates += [path for path in (*unit.drop_ins[::-1], unit.file) if path]
    own = [path for path in candidates if not check.speaks or not image.is_original(path)]
    if candidates or check.speaks:
        return own[0] if own else ""
    return check.about


def _program(image: Image, check: Check) -> str | None:
    """The path of the program; None if it is not in the image, or has nothing to judge."""
    path = image.root.program(check.program)
    return path if path in image.root.programs and image.root.find(check.about) else None


def _words(image: Image, check: Check) -> list[str]:
    """The arguments; empty if there is nothing to judge."""
    words = list[str]()
    for argument in check.arguments:
        match argument:
            case "{units}":
                found = _own_units(image)
            case "{rules}":
                rules = [path for path in image.root.inside("etc/udev/rules.d") if path.endswith(".rules")]
                found = [f"/{path}" for path in rules if path in image.root.texts and not image.is_original(path)]
            case _:
                found = [argument]
        if not found:
            return []
        words += found
    return words


def _own_units(image: Image) -> list[str]:
    """Units that a boot starts or the definition demands, and that are not as their package brought them."""
    units, demanded = units_of(image), set[str]()
    if image.definition:
        demanded = {*image.definition.services, *image.definition.sockets, *image.definition.waiting}
    names = [name for name in {**in_boot(image), **dict.fromkeys(sorted(demanded))} if _UNIT.fullmatch(name)]
    own = list[str]()
    for name in names:
        unit = units.find(name)
        is_own = unit and any(not image.is_original(path) for path in (unit.file, *unit.drop_ins) if path)
        if unit and unit.file and not unit.is_masked and is_own and not name.partition(".")[0].endswith("@"):
            own.append(name)
    return own


def _small_tree(image: Image, read_files: ReadFiles, programs: Sequence[tuple[Check, str]]) -> sandbox.SmallTree:
    """The programs with their libraries, all settings, and the names of programs and links: what they read."""
    tree = image.root
    needed = dict.fromkeys(path for check, program in programs for path in _closure(tree, program, check.opens))
    sizes = {path: tree.files[path].size_bytes for path in needed}
    if sum(sizes.values()) > _MOST_BYTES:
        raise ImageError(f"they have {sum(sizes.values()) >> 20:,} MiB with their libraries")
    settings = {path: text for path, text in tree.texts.items() if _SETTINGS.fullmatch(path)}
    empty = [path for path, file in tree.files.items() if file.kind == "file" and file.mode & 0o111]
    links = {path: file.target for path, file in tree.files.items() if file.kind == "link" and _LINKS.fullmatch(path)}
    if len(empty) + len(links) > _MOST_FILES:
        raise ImageError(f"the image has {len(empty) + len(links):,} programs and links")
    return sandbox.SmallTree(
        files={**settings, **read_files(sizes)},
        programs=frozenset({*needed, *(path for path in settings if tree.files[path].mode & 0o111)}),
        empty=frozenset(empty),
        links=links,
    )


def _closure(tree: Tree, program: str, opens: Sequence[str]) -> Iterator[str]:
    """The paths of a program, its dynamic loader, and all libraries that these need."""
    folders, todo, seen = search_folders(tree), [program], set[str]()
    for name in opens:
        if found := find_library(tree, name, tree.programs[program], folders, program):
            todo.append(found)
    while todo and len(seen) < _MOST_LIBRARIES:
        path = todo.pop()
        if path in seen or path not in tree.programs:
            continue
        seen.add(path)
        yield path
        loader = tree.resolve(tree.programs[path].interpreter) if tree.programs[path].interpreter else None
        own = tree.programs[path]
        libraries = (find_library(tree, name, own, folders, path) for name in own.needed)
        todo += [found for found in (loader, *libraries) if found]

"""Settings of files are in force: sysctl.d(5), modules-load.d(5) and tmpfiles.d(5)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from harness.examine.texts import by_file, lines_of, some
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_FOLDERS = ("etc", "run", "usr/local/lib", "usr/lib")
"""The first that has a file of a name counts: systemd.unit(5) and all of the above."""
_PATTERNS = [
    f"/{folder}/{name}/*{suffix}"
    for name, suffix in (("sysctl.d", ".conf"), ("modules-load.d", ".conf"), ("tmpfiles.d", ".conf"))
    for folder in _FOLDERS
]
_PATTERNS += ["/etc/udev/rules.d/*.rules", "/run/udev/rules.d/*.rules", "/usr/local/lib/udev/rules.d/*.rules"]
_PATTERNS += [f"/{folder}/systemd/network/*" for folder in _FOLDERS]
_NAMES = Probe("files of settings", some(f"ls -d {' '.join(_PATTERNS)}"))
_TEXTS = Probe("settings", some(f"grep -aH '' {' '.join(_PATTERNS)}"))
_IDS = Probe("ids", "cat /etc/machine-id && cat /proc/sys/kernel/random/boot_id && uname -r")
PROBES = (_NAMES, _TEXTS, _IDS)

_MADE = "dDvqQfFLpcbzZ"
_REMOVED = ("/run/nologin",)
"""What systemd makes early and removes when a host is ready."""
_MODE = re.compile(r"[:~]*([0-7]{3,4})")
_SPECIFIER = re.compile(r"%(.)")
_FOLDER_OF = {
    "%": "%", "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "T": "/tmp", "V": "/var/tmp",
}  # fmt: skip
"""tmpfiles.d(5): specifiers that are the same on all hosts."""
_MODULE = re.compile(r"[\w-]+")
STAT = "stat -c '%F|%a|%U|%G|%n'"
_MOST = 400
"""Files of which the state is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """Of a path: ``kind`` as stat(1) names it."""

    kind: str
    mode: int
    user: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a line of tmpfiles.d makes: ``mode`` is None and ``user``, ``group`` are "" where it says nothing."""

    path: str
    kind: str
    mode: int | None = None
    user: str = ""
    group: str = ""
    line: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The lines of all files of settings, by path; those that are masked or empty have none. ``ids`` are machine-id,
    boot id and kernel."""

    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: tuple[str, ...] = ("", "", "")

    def effective(self, name: str) -> list[str]:
        """The files of a folder, such as sysctl.d, that count, by their names."""
        found = dict[str, str]()
        for folder in _FOLDERS:
            for path in self.files:
                base = path.removeprefix(f"/{folder}/{name}/")
                if base != path and "/" not in base:
                    found.setdefault(base, path)
        return [found[base] for base in sorted(found)]

    def rows(self, name: str) -> Iterator[tuple[str, str]]:
        """Each line of a folder's files that is a setting, with its file."""
        for path in self.effective(name):
            for line in self.files[path]:
                if line.strip() and not line.strip().startswith(("#", ";")):
                    yield path, line.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReading:
    """What is in force: ``values`` of /proc and /sys by path, ``modules`` that are loaded or built in, ``files`` by
    path."""

    values: Mapping[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    files: Mapping[str, FileState] = field(default_factory=dict)


def parse_texts(answers: Mapping[str, str]) -> Texts:
    """`ImageError` for an answer that is not as expected."""
    texts = read(answers, _TEXTS, lambda text: by_file(lines_of(text)))
    paths = read(answers, _NAMES, lines_of)
    if not paths:
        return Texts(ids=tuple(answers[_IDS.name].split()))
    return Texts(files={path: texts.get(path, []) for path in paths}, ids=tuple(answers[_IDS.name].split()))


def network_files(texts: Texts) -> dict[str, Sequence[str]]:
    """The files of systemd.network(5), systemd.netdev(5) and systemd.link(5) that count."""
    return {path: texts.files[path] for path in texts.effective("systemd/network")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    key: str
    value: str
    file: str
    is_optional: bool


def _settings(texts: Texts) -> tuple[list[_Setting], set[str]]:
    """The settings of sysctl.d in the order in which they are made, and the keys that patterns leave out."""
    found, left_out = list[_Setting](), set[str]()
    for file, line in texts.rows("sysctl.d"):
        key, equals, value = (part.strip() for part in line.partition("="))
        name = _path_of(key.lstrip("-"))
        if equals:
            found.append(_Setting(key=name, value=" ".join(value.split()), file=file, is_optional=key.startswith("-")))
        elif key.startswith("-"):
            left_out.add(name)
    return found, left_out


def _path_of(key: str) -> str:
    """sysctl.d(5): the first separator says whether slashes or dots separate."""
    first = next((letter for letter in key if letter in "./"), "/")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))


def _modules(texts: Texts) -> Iterator[tuple[str, str]]:
    for file, line in texts.rows("modules-load.d"):
        for name in line.split():
            if _MODULE.fullmatch(name):
                yield name.replace("-", "_"), file


def _tmpfiles(texts: Texts) -> Iterator[Wanted]:
    """The lines that make a path which has neither a pattern nor a specifier that only systemd knows."""
    specifiers = dict(zip("mbv", texts.ids, strict=False)) | _FOLDER_OF
    seen = set[str]()
    for file, line in texts.rows("tmpfiles.d"):
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if len(words) < 2 or words[0][0] not in _MADE or set("-?^") & set(words[0]) or words[1] in _REMOVED:
            continue
        kind, path = words[0][0], words[1]
        if set(_SPECIFIER.findall(path)) - set(specifiers) or any(letter in path for letter in "*?["):
            continue
        if path.startswith("/dev/"):  # udev decides
            continue
        path = _SPECIFIER.sub(lambda found: specifiers[found[1]].replace("-", ""), path).rstrip("/")
        if path in seen and kind not in "zZ":
            continue
        seen.add(path)
        mode = _MODE.fullmatch(words[2]) if len(words) > 2 else None
        user, group = ((word[0].lstrip(":") if word else "-") for word in (words[3:4], words[4:5]))
        yield Wanted(
            path=path,
            kind=kind,
            mode=int(mode[1], 8) if mode and ":" not in words[2] and "~" not in words[2] else None,
            user="" if user == "-" or user.isdecimal() else user,
            group="" if group == "-" or group.isdecimal() else group,
            line=line,
            file=file,
        )


def _changed(wanted: Wanted, change: Wanted) -> Wanted:
    return replace(
        change,
        kind=wanted.kind,
        mode=wanted.mode if change.mode is None else change.mode,
        user=change.user or wanted.user,
        group=change.group or wanted.group,
    )


def _wanted(texts: Texts) -> dict[str, Wanted]:
    """By path; z and Z change what other lines made."""
    found = dict[str, Wanted]()
    for one in _tmpfiles(texts):
        if one.kind in "zZ" and one.path not in found:
            continue
        found[one.path] = _changed(found[one.path], one) if one.kind in "zZ" else one
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A line of tmpfiles.d that writes ``value`` to files of the kernel, which ``pattern`` names."""

    pattern: str
    value: str
    line: str
    file: str


def _written(texts: Texts) -> Iterator[_Written]:
    """The lines of type w about /proc and /sys, without those that may fail, append, or have specifiers."""
    for file, line in texts.rows("tmpfiles.d"):
        words = line.split(maxsplit=6)
        if len(words) == 7 and words[0] in ("w", "w!") and words[1].startswith(("/sys/", "/proc/")) and "%" not in line:
            yield _Written(pattern=words[1], value=" ".join(words[6].strip("\"'").split()), line=line, file=file)


def state_probes(texts: Texts) -> list[Probe]:
    """What to ask so that `judge_settings` can compare."""
    settings, _ = _settings(texts)
    paths = (*(f"/proc/sys/{one.key}" for one in settings), *(one.pattern for one in _written(texts)))
    keys = " ".join(map(as_words, dict.fromkeys(paths)))
    wanted = list(_wanted(texts).values())[:_MOST]
    files, links = ([one.path for one in wanted if (one.kind == "L") is is_link] for is_link in (False, True))
    found = [Probe("values of sysctl", some(f"grep -aH '' {keys}"))] if keys else []
    if any(_modules(texts)):
        listed = "cat /proc/modules && cat /lib/modules/$(uname -r)/modules.builtin"
        found.append(Probe("modules of the kernel", f"echo look\n{listed}"))
    if files:
        found.append(Probe("files of tmpfiles.d", some(f"{STAT} -L {shlex.join(files)}")))
    if links:
        found.append(Probe("links of tmpfiles.d", some(f"{STAT} {shlex.join(links)}")))
    return found


def as_words(path: str) -> str:
    """``path`` as a word of shell(1) in which patterns stay patterns."""
    return re.sub(r"[^\w/.*?\[\]@%+=:,-]", lambda found: f"\\{found[0]}", path)


def parse_state(answers: Mapping[str, str]) -> StateReading:
    """The answers to `state_probes`; those that were not asked are empty."""

    def lines(name: str) -> list[str]:
        return read(answers, Probe(name, "…"), lines_of) if name in answers else []

    return StateReading(
        values={path: " ".join(" ".join(rows).split()) for path, rows in by_file(lines("values of sysctl")).items()},
        modules=frozenset(map(_module_of, lines("modules of the kernel"))),
        files=dict(map(file_state, [*lines("files of tmpfiles.d"), *lines("links of tmpfiles.d")])),
    )


def _module_of(line: str) -> str:
    """Of /proc/modules, or of modules.builtin: "kernel/fs/fuse/fuse.ko"."""
    name = line.split()[0]
    return name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def file_state(line: str) -> tuple[str, FileState]:
    """A path and its state in a line of `STAT`."""
    kind, mode, user, group, path = line.split("|", 4)
    return path, FileState(kind=kind, mode=int(mode, 8), user=user, group=group)


def judge(texts: Texts, state: StateReading) -> Iterator[LintFinding]:
    yield from _judge_sysctl(texts, state)
    for module, file in _modules(texts):
        if module not in state.modules:
            yield fails("setting-not-in-force", file, f"the module {module} is not loaded", module)
    for path, one in list(_wanted(texts).items())[:_MOST]:
        for what in _wrong_file(one, state.files.get(path)):
            yield fails("setting-not-in-force", path, what, one.line, f"by {one.file}")
    yield from _judge_written(texts, state)


def _judge_sysctl(texts: Texts, state: StateReading) -> Iterator[LintFinding]:
    settings, left_out = _settings(texts)
    last = dict[str, _Setting]()
    for one in settings:
        if any(letter in one.key for letter in "*?["):
            exact = left_out | {other.key for other in settings if "*" not in other.key}
            paths = (path.removeprefix("/proc/sys/") for path in state.values)
            last.update({key: one for key in paths if fnmatchcase(key, one.key) and key not in exact})
        else:
            last[one.key] = one
    for key, one in last.items():
        has = state.values.get(f"/proc/sys/{key}")
        where, line = f"sysctl:{key.replace('/', '.')}", f"{one.file}: {key.replace('/', '.')} = {one.value}"
        if has is None and not one.is_optional:
            yield fails("setting-not-in-force", where, f"the kernel has no such setting, and {one.file} sets it", line)
        elif has is not None and not is_same(one.value, has):
            yield fails("setting-not-in-force", where, f"it is {has}, and {one.file} sets it to {one.value}", line)


def _judge_written(texts: Texts, state: StateReading) -> Iterator[LintFinding]:
    last = dict[str, _Written]()
    for one in _written(texts):
        matching = [path for path in state.values if fnmatchcase(path, one.pattern)]
        last.update(dict.fromkeys(matching, one))
        if not matching:
            what = "there is no such file, and tmpfiles.d writes to it"
            yield fails("setting-not-in-force", one.pattern, what, one.line, f"by {one.file}")
    for path, one in last.items():
        if not is_same(one.value, state.values[path]):
            what = f"it is {state.values[path]}, and tmpfiles.d sets it to {one.value}"
            yield fails("setting-not-in-force", path, what, one.line, f"by {one.file}")


def is_same(wanted: str, has: str) -> bool:
    """Whether a file of /proc or /sys that reads ``has`` was set to ``wanted``: it may list all choices, with brackets
    around the one that is in force."""
    if wanted == has or f"[{wanted}]" in has.split():
        return True
    try:
        return [int(word, 0) for word in wanted.split()] == [int(word, 0) for word in has.split()]
    except ValueError:
        return False


_KINDS = {**dict.fromkeys("dDvqQ", "directory"), "p": "fifo", "c": "character special file", "b": "block special file"}


def _wrong_file(wanted: Wanted, state: FileState | None) -> Iterator[str]:
    """What of a path is not as its line makes it."""
    if state is None:
        yield "it is missing, and tmpfiles.d makes it"
        return
    if wanted.kind in _KINDS and state.kind != _KINDS[wanted.kind]:
        yield f"it is a {state.kind}, and tmpfiles.d makes a {_KINDS[wanted.kind]}"
        return
    if wanted.kind == "L":
        return
    if wanted.mode is not None and state.mode != wanted.mode:
        yield f"it has mode {state.mode:04o}, and by tmpfiles.d {wanted.mode:04o}"
    if wanted.user and state.user != wanted.user:
        yield f"it belongs to the user {state.user}, and by tmpfiles.d to {wanted.user}"
    if wanted.group and state.group != wanted.group:
        yield f"it belongs to the group {state.group}, and by tmpfiles.d to {wanted.group}"

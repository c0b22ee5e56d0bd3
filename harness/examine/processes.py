"""Each process belongs to a unit: systemd can stop it, limits it, and says what it printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.examine.texts import by_file, lines_of, links, some
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

GROUPS = Probe("control groups", some("grep -aH '' /proc/[0-9]*/cgroup"))
NAMES = Probe("names of processes", some("grep -aH '' /proc/[0-9]*/comm"))
_PARENTS = Probe("parents of processes", some("grep -aH '^PPid:' /proc/[0-9]*/status"))
_PROGRAMS = Probe("programs of processes", some("ls -ln /proc/[0-9]*/exe"))
_FILES = Probe("open files", some("ls -ln /proc/[0-9]*/fd"))
PROBES = (GROUPS, NAMES, _PARENTS, _PROGRAMS, _FILES)

_KTHREADD = 2
_UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")
_MADE_AND_GONE = ("session-", "run-", "user@", "user-runtime-dir@")
"""Units that come and go with a login: one may be gone before its unit was asked for."""
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """``group`` is its control group; ``program`` the path of its executable, as /proc has it. ``open_files`` counts
    all, ``sockets`` are the inodes of those that are sockets."""

    pid: int
    name: str
    parent: int = 0
    group: str = ""
    program: str = ""
    open_files: int = 0
    sockets: frozenset[int] = field(default_factory=frozenset)

    @property
    def is_kernel_thread(self) -> bool:
        return _KTHREADD in (self.pid, self.parent)

    @property
    def unit(self) -> str:
        """The unit of its control group; empty for a process in the root or in a slice."""
        return unit_of(self.group)


def parse(answers: Mapping[str, str]) -> dict[int, Process]:
    """All processes by number; some may have ended between two questions. `ImageError` if the guest lists none."""
    groups = groups_of(answers)
    names = names_of(answers)
    parents = read(answers, _PARENTS, lambda text: {pid: int(rows[0].split()[1]) for pid, rows in _of_processes(text)})
    programs = read(answers, _PROGRAMS, _programs)
    open_files = read(answers, _FILES, _open_files)
    return {
        pid: Process(
            pid=pid,
            name=names[pid],
            parent=parents[pid],
            group=groups[pid],
            program=programs.get(pid, ""),
            open_files=len(open_files.get(pid, ())),
            sockets=frozenset(int(target[8:-1]) for target in open_files.get(pid, ()) if target.startswith("socket:[")),
        )
        for pid in groups
        if pid in names and pid in parents
    }


def groups_of(answers: Mapping[str, str]) -> dict[int, str]:
    """The control group of each process; `ImageError` if the guest lists none."""
    return read(answers, GROUPS, lambda text: {pid: _group(rows) for pid, rows in _of_processes(text)})


def names_of(answers: Mapping[str, str]) -> dict[int, str]:
    """The name of each process; `ImageError` if the guest lists none."""
    return read(answers, NAMES, lambda text: {pid: rows[0] for pid, rows in _of_processes(text)})


def unit_of(group: str) -> str:
    """The topmost unit of a control group; empty for the root and for slices."""
    return next((part for part in group.split("/") if part.endswith(_UNIT_SUFFIXES)), "")


def _of_processes(text: str) -> Iterator[tuple[int, list[str]]]:
    files = by_file(lines_of(text))
    if not any(path.startswith("/proc/1/") for path in files):
        raise ValueError("nothing about process 1")
    for path, rows in files.items():
        yield int(path.split("/")[2]), rows


def _group(rows: list[str]) -> str:
    """cgroups(7): "0::/path", and systemd's own hierarchy where version 1 is in use."""
    found = {row.split(":", 2)[1]: row.split(":", 2)[2] for row in rows}
    return found.get("name=systemd") or found.get("", "")


def _programs(text: str) -> dict[int, str]:
    found = {int(name.split("/")[2]): target for _, name, target in links(lines_of(text))}
    if 1 not in found:
        raise ValueError("no program of process 1")
    return found


def _open_files(text: str) -> dict[int, list[str]]:
    found = defaultdict[int, list[str]](list)
    for folder, _, target in links(lines_of(text)):
        found[int(folder.split("/")[2])].append(target)
    if 1 not in found:
        raise ValueError("no open files of process 1")
    return found


def judge(processes: Mapping[int, Process], units: Mapping[str, object]) -> Iterator[LintFinding]:
    """``units`` are the loaded ones."""
    for process in processes.values():
        if process.pid == 1 or process.is_kernel_thread:
            continue
        where = f"process:{process.name}"
        evidence = f"process {process.pid}, {process.program or 'no program'}, control group {process.group}"
        if process.program.endswith(_DELETED) and not process.program.startswith(("/memfd:", "/dev/")):
            what = "its program is no longer there: it was started in the initrd, or the file was replaced"
            yield fails("process-without-unit", where, what, evidence)
        elif process.unit in ("", "init.scope"):
            yield fails("process-without-unit", where, "it runs outside of all units", evidence)
        elif process.unit not in units and not process.unit.startswith(_MADE_AND_GONE):
            what = f"it runs in {process.unit}, which systemd does not know"
            yield fails("process-without-unit", where, what, evidence)

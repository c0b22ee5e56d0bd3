"""What a soak is told about a host before it begins: the file systems that can fill, and where the journal ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.examine import storage
from harness.examine.storage import Mount
from harness.examine.texts import lines_of, some
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read

_DATE = Probe("date", "date +%s")
_GROUPS = Probe("kind of control groups", "stat -f -c %T /sys/fs/cgroup")
_ROOM = "journalctl -b -q --no-pager -o json MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6 --output-fields=MAX_USE"
_JOURNAL_ROOM = Probe("room of the journal", f"echo look\n{_ROOM}")
"""SD_MESSAGE_JOURNAL_USAGE (systemd, src/systemd/sd-messages.h), with the bytes that the journal may take."""
END_OF_JOURNAL = Probe("end of the journal", "journalctl -q --no-pager -n 1 -o json --output-fields=PRIORITY")
_PROGRAMS = Probe(
    "programs", "echo look\nfor name in logrotate networkctl udevadm virsh; do command -v $name; done; true"
)
PROBES = (_DATE, _GROUPS, _JOURNAL_ROOM, END_OF_JOURNAL, _PROGRAMS, *storage.PROBES)

_IN_RAM = ("tmpfs", "ramfs")
_NOT_OF_THE_HOST = ("/run/credentials", "/run/bootproof", "/run/user", "/sys", "/dev/mqueue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """``mounts`` are the writable file systems, each once. The root overlay's files are in the folder ``upper``, which
    is empty if it cannot be seen. ``began_s`` is the guest's Unix time, ``cursor`` the end of its journal, which may
    take ``journal_bytes``; 0 if it does not say. ``programs`` are those for which `use` asks."""

    began_s: int
    mounts: tuple[Mount, ...]
    upper: str = ""
    cursor: str = ""
    journal_bytes: int = 0
    has_groups: bool = True
    programs: frozenset[str] = field(default_factory=frozenset)

    @property
    def has_hidden_root(self) -> bool:
        return not self.upper and any(mount.place == "/" and mount.kind == "overlay" for mount in self.mounts)

    def shown(self, path: str) -> str:
        """The path by which programs know a file that is at ``path``."""
        return path.removeprefix(self.upper) if self.upper and path.startswith(f"{self.upper}/") else path

    def mount_of(self, path: str) -> Mount | None:
        """The mount that has the file at ``path``."""
        having = [one for one in self.mounts if path.startswith(one.place.rstrip("/") + "/")]
        return max(having, key=lambda one: len(one.place), default=None)


def read_ground(channel: Channel) -> Ground:
    """Ask a ready host; `ImageError` if it does not answer as expected. Two round trips."""
    answers = ask(channel, PROBES)
    return parse(answers, _seen_upper(channel, storage.parse_mounts(answers)))


def parse(answers: Mapping[str, str], upper: str) -> Ground:
    """Pure; `ImageError` for an answer that is not as expected."""
    mounts = storage.parse_mounts(answers)
    return Ground(
        began_s=read(answers, _DATE, int),
        mounts=tuple(mount for mount in writable(mounts) if not upper or mount.kind != "overlay"),
        upper=upper,
        cursor=read(answers, END_OF_JOURNAL, cursor_of),
        journal_bytes=read(answers, _JOURNAL_ROOM, _journal_room),
        has_groups=answers[_GROUPS.name].startswith("cgroup2"),
        programs=read(answers, _PROGRAMS, lambda text: frozenset(_names(lines_of(text)))),
    )


def is_in_ram(mount: Mount) -> bool:
    """An overlay counts: its upper folder is in RAM, or the image were not stateless."""
    return mount.kind in (*_IN_RAM, "overlay")


def writable(mounts: Sequence[Mount]) -> Iterator[Mount]:
    """The file systems that can fill, each by the shortest path under which all of it is seen: pure."""
    chosen = dict[str, Mount]()
    for mount in mounts:
        can_fill = is_in_ram(mount) or mount.is_on_disk
        is_whole = mount.root == "/" and "ro" not in mount.options and not mount.place.startswith(_NOT_OF_THE_HOST)
        if can_fill and is_whole and (mount.kind != "overlay" or mount.place == "/"):
            known = chosen.get(mount.device)
            if known is None or len(mount.place) < len(known.place):
                chosen[mount.device] = mount
    yield from chosen.values()


def _seen_upper(channel: Channel, mounts: Sequence[Mount]) -> str:
    """The upper folder of the root overlay, if it can be seen: its path was given in the initrd."""
    uppers = [mount.value("upperdir") for mount in mounts if mount.place == "/" and mount.kind == "overlay"]
    if not uppers or not uppers[-1]:
        return ""
    probe = Probe("upper folder", some(f"ls -d {shlex.quote(uppers[-1])}"))
    return read(ask(channel, [probe]), probe, lambda text: next(iter(lines_of(text)), ""))


def cursor_of(text: str) -> str:
    """Of the last entry in journalctl's JSON."""
    return str(json.loads(text.splitlines()[-1])["__CURSOR"])


def _journal_room(text: str) -> int:
    """The journal says it for each place when it opens it; the last is the one in use."""
    said = [json.loads(line).get("MAX_USE") for line in lines_of(text)]
    return int(said[-1] or 0) if said else 0


def _names(paths: Sequence[str]) -> Iterator[str]:
    yield from (path.rpartition("/")[2] for path in paths)


def unchecked(ground: Ground) -> Iterator[str]:
    """A sentence for each thing that could not be watched: pure."""
    if ground.has_hidden_root:
        yield "which file of the root overlay grows: its upper folder is hidden"
    if not ground.has_groups:
        yield "the memory of each unit: the host has control groups of version 1"

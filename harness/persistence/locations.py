"""Where persistent paths are stored: on which file system of which disk, through links, bind mounts and overlays."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.qemu.disk_images import DATA_SERIAL

_MOUNTS = Probe("mounts", "cat /proc/self/mountinfo")
_MOST_LAYERS = 8
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""proc(5): blanks, tabs, newlines and backslashes in mountinfo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """``path`` is at ``inner`` of the file system on ``device``, whose ``root`` is mounted on ``mount``."""

    path: str
    device: str
    mount: str
    root: str
    inner: str


def misplaced(channel: Channel, paths: Iterable[str]) -> Iterator[str]:
    """A sentence for each of ``paths`` that is not on the persistent disk."""
    for location in find_locations(channel, paths):
        if DATA_SERIAL not in serials(channel, location):
            yield f"{location.path} is on {location.device}, which is not on the persistent disk"


def serials(channel: Channel, location: Location) -> list[str]:
    """The serial numbers of the disks that ``location`` is stored on; none for a file system in RAM or of a network."""
    if not location.device.startswith("/dev/"):
        return []
    names = Probe("serial numbers", f"lsblk -n -s -P -o NAME,SERIAL {shlex.quote(location.device)}")
    return re.findall(r'SERIAL="([^"]+)"', ask(channel, [names])[names.name])


def partition_number(channel: Channel, location: Location) -> int:
    """The number of the partition that holds ``location``; 0 for a disk without partitions."""
    file = f"/sys/class/block/{shlex.quote(location.device.rpartition('/')[2])}/partition"
    number = Probe("partition number", f"if [ -e {file} ]; then cat {file}; else echo 0; fi")
    return read(ask(channel, [number]), number, int)


def find_locations(channel: Channel, paths: Iterable[str]) -> tuple[Location, ...]:
    """Where each of ``paths`` is stored; `ImageError` for one that does not exist.

    Links are followed; an overlay counts as its upper folder, a bind mount as its source.
    """
    found, left = dict[str, Location](), {path: path for path in paths}
    order = tuple(left)
    for _ in range(_MOST_LAYERS):
        if not left:
            break
        real_paths = Probe("real paths", f"realpath -e -- {shlex.join(left.values())}")
        answers = ask(channel, [real_paths, _MOUNTS])
        mounts = read(answers, _MOUNTS, read_mounts)
        reals = read(answers, real_paths, partial(_lines, count=len(left)))
        places = {path: place(path, real, mounts) for path, real in zip(left, reals, strict=True)}
        left = {path: where for path, where in places.items() if isinstance(where, str)}
        found |= {path: where for path, where in places.items() if isinstance(where, Location)}
    return tuple(found[path] for path in order)


def _lines(text: str, count: int) -> list[str]:
    lines = text.splitlines()
    if len(lines) != count or not all(line.startswith("/") for line in lines):
        raise ValueError(f"not {count} paths")
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of /proc/self/mountinfo: ``root`` of a file system of ``kind`` on ``device`` is mounted on ``target``."""

    target: str
    root: str
    kind: str
    device: str
    options: str


def read_mounts(text: str) -> list[Mount]:
    """The mounts in /proc/self/mountinfo: pure. `ValueError` or `IndexError` for a line that is none."""
    return [_mount(*line.split(" - ", 1)) for line in text.splitlines()]


def _mount(before: str, after: str) -> Mount:
    _, _, _, root, target, *_ = map(_unescaped, before.split(" "))
    kind, device, options = map(_unescaped, after.split(" "))
    return Mount(target=target, root=root, kind=kind, device=device, options=options)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def place(path: str, real: str, mounts: Sequence[Mount]) -> Location | str:
    """Where ``path`` is stored, whose links lead to ``real``; the path below the upper folder of an overlay: pure.

    Of several file systems that are mounted on one folder, the last counts.
    """
    holding = [one for one in mounts if f"{real}/".startswith(f"{one.target.rstrip('/')}/")]
    mount = max(reversed(holding), key=lambda one: len(one.target))
    below = real.removeprefix(mount.target.rstrip("/"))
    if mount.kind == "overlay" and mount.target != "/":
        options = dict(option.partition("=")[::2] for option in mount.options.split(","))
        return f"{options['upperdir']}{below}"
    inner = f"{mount.root.rstrip('/')}{below}"
    return Location(path=path, device=mount.device, mount=mount.target, root=mount.root, inner=inner)

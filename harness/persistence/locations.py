"""Where persistent paths are stored: on which file system of which disk, through links, bind mounts and overlays."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.qemu.disk_images import DATA_SERIAL

_WHERE = r"""
newline='
'
where() { # path
    local real mount target fsroot type source options upper
    real=$(realpath -e -- "$1") || return
    mount=$(findmnt -n -r -o TARGET,FSROOT,FSTYPE,SOURCE,OPTIONS -T "$real") || return
    read -r target fsroot type source options <<EOF
${mount##*"$newline"}
EOF
    if [ -z "$real" ] || [ -z "$options" ]; then
        echo "$1: realpath printed '$real', findmnt printed '$mount'" >&2
        return 1
    fi
    if [ "$type" = overlay ] && [ "$target" != / ]; then
        upper=${options#*upperdir=}
        where "${upper%%,*}${real#"$target"}"
        return
    fi
    printf '%s\t%s\t%s\t%s\n' "${source%%\[*}" "$target" "$fsroot" "${fsroot%/}${real#"${target%/}"}"
}
for path in PATHS; do
    place=$(where "$path") || exit
    printf '%s\t%s\n' "$path" "$place"
done
"""
"""Links are followed; an overlay counts as its upper folder, a bind mount as its source."""


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
    return read(ask(channel, [number]), number.name, int)


def find_locations(channel: Channel, paths: Iterable[str]) -> tuple[Location, ...]:
    """Where each of ``paths`` is stored; `ImageError` for one that does not exist."""
    paths = list(paths)
    if not paths:
        return ()
    where = Probe(f"where {', '.join(paths)} are stored", _WHERE.replace("PATHS", shlex.join(paths)))
    return read(ask(channel, [where]), where.name, lambda text: tuple(map(_location, text.splitlines())))


def _location(line: str) -> Location:
    path, device, mount, root, inner = line.split("\t")
    return Location(path=path, device=device, mount=mount, root=root, inner=inner)

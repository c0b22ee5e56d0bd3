"""Where persistent paths are stored: on which file system of which disk, through links, bind mounts and overlays."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.core.errors import ImageError
from harness.guest.channel import Channel
from harness.qemu.disk_images import DATA_SERIAL

_WHERE = r"""
where() { # path
    local real target fsroot type upper
    real=$(realpath -e -- "$1") || return
    IFS='|' read -r target fsroot type <<EOF
$(findmnt -n -r -o TARGET,FSROOT,FSTYPE -T "$real" | tail -n 1 | tr ' ' '|')
EOF
    if [ "$type" = overlay ] && [ "$target" != / ]; then
        upper=$(findmnt -n -o OPTIONS -T "$real" | tail -n 1 | sed -n 's/.*upperdir=\([^,]*\).*/\1/p')
        where "$upper${real#"$target"}"
        return
    fi
    printf '%s\t%s\t%s\t%s\n' "$(findmnt -n -o SOURCE -T "$real" | tail -n 1 | sed 's/\[.*//')" "$target" "$fsroot" \
        "${fsroot%/}${real#"${target%/}"}"
}
for path in PATHS; do
    printf '%s\t%s\n' "$path" "$(where "$path")"
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
    """The serial numbers of the disks that ``location`` is stored on."""
    device = shlex.quote(location.device)
    return channel.run(f"lsblk -n -s -d -o SERIAL {device}; lsblk -n -s -o SERIAL {device}").text.split()


def partition_number(channel: Channel, location: Location) -> int:
    """The number of the partition that holds ``location``; 0 for a disk without partitions."""
    file = f"/sys/class/block/$(basename {shlex.quote(location.device)})/partition"
    return int(channel.run(f"cat {file} 2>/dev/null || echo 0").text)


def find_locations(channel: Channel, paths: Iterable[str]) -> tuple[Location, ...]:
    """Where each of ``paths`` is stored; `ImageError` for one that does not exist."""
    paths = list(paths)
    if not paths:
        return ()
    done = channel.run(_WHERE.replace("PATHS", shlex.join(paths)))
    found = []
    for line in done.text.splitlines():
        path, *rest = line.split("\t")
        if len(rest) != 4:
            raise ImageError(
                f"{path} does not exist, or is a dangling link: {done.stderr.decode('utf-8', 'replace').strip()}"
            )
        found.append(Location(path=path, device=rest[0], mount=rest[1], root=rest[2], inner=rest[3]))
    if len(found) != len(paths):
        errors = done.stderr.decode("utf-8", "replace").strip()
        raise ImageError(f"the guest did not say where {', '.join(paths)} are stored: {errors}")
    return tuple(found)

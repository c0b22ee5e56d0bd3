"""Disks that have files on /data before a machine boots from them for the first time. None of it needs root.

Such a disk has the layout that the role persist gives to a bare one, so the initrd takes it for a disk of an earlier
machine without identity: it makes the identity and copies every persistent path that is missing. A path with a seeded
file is not missing, so its defaults are copied here.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from harness.core import process
from harness.core.errors import UsageError
from harness.core.namespaces import environment, prefix
from harness.model.artifacts import Artifacts
from harness.model.machine_spec import DiskSpec
from harness.model.seed_file import SeedFile, persistent_path_of
from harness.qemu.disk_images import find_partition, make_disk, put_partition
from harness.store import rootfs_images

DATA_TYPE = UUID("7be3d0c0-7584-4fb4-ae35-1eaa49f836d1")
_LAYOUT = f"""\
label: gpt
size=2GiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=BOOT
size={{data_mib}}MiB, type={DATA_TYPE}, name=data
size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=grub
"""
"""As in images/roles/persist/files/usr/lib/persist/repart.d; sfdisk(8) takes it."""
_OTHERS_MIB = 2048 + 1 + 4
"""The other partitions, and the partition tables at both ends."""
_FEATURES = (
    "none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file,flex_bg,"
    "metadata_csum,64bit,dir_nlink,extra_isize"
)
"""As in mke2fs.conf beside that."""
_DEFAULTS = "usr/share/persist"

_FILL = """\
set -eu
cd {scratch}
unsquashfs -no-progress -quiet -no-xattrs -dest image {rootfs} {wanted}
mkdir tree
{copies}
id() {{ sed -n "s/^$2:[^:]*:\\([0-9]*\\):.*/\\1/p" image/etc/$1; }}
put() {{ # number of the file, path, owner, group, mode
    user=$(id passwd "$3") group=$(id group "$4")
    [ -n "$user" ] && [ -n "$group" ] || {{ echo "the image has no user $3 or no group $4" >&2; exit 1; }}
    install -D -m "$5" -o "$user" -g "$group" "files/$1" "tree$2"
}}
{puts}
mke2fs -q -F -t ext4 -b 4096 -I 256 -O {features} -L data -d tree data.img {size_mib}M
"""


def make_seeded_disk(
    disk: Path, artifacts: Artifacts, persistent_paths: tuple[str, ...], files: Sequence[SeedFile]
) -> DiskSpec:
    """A new raw disk at ``disk`` for the image ``artifacts``, with ``files`` on /data and nothing of a machine yet.

    `UsageError` for a file outside of the persistent paths, and for an image whose defaults cannot be read here.
    """
    if rootfs_images.format_of(artifacts.rootfs) != "squashfs":
        raise UsageError(f"seed: {artifacts.rootfs.name} is not a squashfs, so its defaults cannot be read")
    paths = tuple(dict.fromkeys(persistent_path_of(file, persistent_paths) for file in files))
    spec = make_disk(disk)
    with tempfile.TemporaryDirectory(dir=disk.parent, prefix="seed-") as folder:
        scratch = Path(folder)
        _partition(disk, scratch)
        partition = find_partition(disk, DATA_TYPE)
        data = _fill(scratch, artifacts.rootfs, paths, files, partition.size_bytes >> 20)
        put_partition(data, disk, partition)
    return spec


def _partition(disk: Path, scratch: Path) -> None:
    layout = scratch / "partitions"
    layout.write_text(_LAYOUT.format(data_mib=(disk.stat().st_size >> 20) - _OTHERS_MIB), "ascii")
    program = process.require("sfdisk", "fdisk")
    process.output(["sh", "-c", 'exec "$0" --quiet --no-tell-kernel "$1" <"$2"', program, str(disk), str(layout)])


def _fill(scratch: Path, rootfs: Path, paths: Sequence[str], files: Sequence[SeedFile], size_mib: int) -> Path:
    """The file system for /data, made by the user who is root in a namespace, so that owners are right."""
    (scratch / "files").mkdir()
    for number, file in enumerate(files):
        (scratch / "files" / str(number)).write_bytes(file.content)
    for program, package in (("unsquashfs", "squashfs-tools"), ("mke2fs", "e2fsprogs")):
        process.require(program, package)
    process.output([*prefix(), "sh", "-c", script(scratch, rootfs, paths, files, size_mib)], env=environment())
    return scratch / "data.img"


def script(scratch: Path, rootfs: Path, paths: Sequence[str], files: Sequence[SeedFile], size_mib: int) -> str:
    """The shell script that makes data.img in ``scratch``: pure."""
    wanted = ["etc/passwd", "etc/group", *(f"{_DEFAULTS}{path}" for path in paths)]
    copies = [
        f"mkdir -p {shlex.quote('tree' + str(Path(path).parent))} && "
        f"cp -a {shlex.quote(f'image/{_DEFAULTS}{path}')} {shlex.quote('tree' + path)}"
        for path in paths
    ]
    puts = [
        shlex.join(["put", str(number), file.path, file.owner, file.group, f"{file.mode:04o}"])
        for number, file in enumerate(files)
    ]
    return _FILL.format(
        scratch=shlex.quote(str(scratch.absolute())),
        rootfs=shlex.quote(str(rootfs.absolute())),
        wanted=shlex.join(wanted),
        copies="\n".join(copies),
        puts="\n".join(puts),
        features=_FEATURES,
        size_mib=size_mib,
    )

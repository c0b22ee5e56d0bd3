"""Makes the initrd with the tree's own dracut, and checks that kernel, modules and initrd match."""

from __future__ import annotations

import gzip
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.build import chroot, distributions
from harness.build.distributions import Archive, Distribution
from harness.core import process, serialization
from harness.core.errors import ImageError
from harness.core.namespaces import environment
from harness.model.artifacts import INITRD, KERNEL
from harness.model.definition import ImageDefinition
from harness.model.kernel_image import kernel_version

CONTENTS = "contents.json"
"""The file beside kernel and initrd that has the `Initrd`."""

_RELEASE = "usr/lib/initrd-release"

_MODULE = re.compile(r"\blib/modules/([^/\s]+)/\S*?([^/\s]+)\.ko(?:\.(?:xz|zst|gz))?(?:\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Initrd:
    """The contents of an initrd: dracut modules, kernel modules without ``.ko``, and their kernel versions."""

    dracut_modules: tuple[str, ...]
    drivers: tuple[str, ...]
    kernel_versions: tuple[str, ...]


def make_initrd(definition: ImageDefinition, folder: Path, *, archive: Archive, log: Path) -> None:
    """Put kernel and initrd of ``folder/tree``, and the initrd's contents, into ``folder/out``: for all versions.

    Raises `ImageError` if dracut fails, or if kernel, modules and initrd have different versions.
    """
    tree, out = folder / "tree", folder / "out"
    distribution = distributions.of(definition.distribution)
    version = module_version(tree, distribution)
    dracut = f"dracut --force --no-hostonly --reproducible --kver {version} /mnt/{INITRD}".split()
    env = environment(SOURCE_DATE_EPOCH=str(archive.epoch_s))
    try:
        chroot.run(chroot.entering(tree, ["chroot", str(tree), *dracut], out=out), log=log, env=env)
    except process.CommandFailed as error:
        raise ImageError(f"{definition.name}: dracut failed ({log}):\n{error.tail}") from error
    shutil.copyfile(tree / distribution.kernel.format(version), out / KERNEL)
    (out / INITRD).chmod(0o644)
    listing = ["chroot", str(tree), "lsinitrd", f"/mnt/{INITRD}"]
    contents = read_listing(chroot.output(chroot.entering(tree, listing, out=out)))
    check_kernel(definition.name, kernel_version(out / KERNEL), version, contents)
    serialization.write(out / CONTENTS, contents)


def stamp(definition: ImageDefinition, version: str, folder: Path, *, archive: Archive) -> Initrd:
    """Write the image's name and ``version`` into the initrd in ``folder/out``, by an archive at its end; the contents,
    which then are in no file any more.

    The kernel unpacks the archives of an initrd in order, so the last one has the file that counts
    (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    tree, out = folder / "tree", folder / "out"
    release = ["chroot", str(tree), "lsinitrd", "-f", _RELEASE, f"/mnt/{INITRD}"]
    lines = chroot.output(chroot.entering(tree, release, out=out)).splitlines()
    kept = [line for line in lines if not line.startswith("IMAGE_")]
    text = "\n".join([*kept, f'IMAGE_ID="{definition.name}"', f'IMAGE_VERSION="{version}"', ""])
    with (out / INITRD).open("ab") as initrd:
        initrd.write(gzip.compress(cpio(_RELEASE, text.encode(), archive.epoch_s), mtime=0))
    contents = serialization.read(Initrd, out / CONTENTS)
    (out / CONTENTS).unlink()
    return contents


def cpio(name: str, content: bytes, epoch_s: int) -> bytes:
    """An archive with that file and its folders, in the format newc, which Linux unpacks; a tree may lack cpio(1)."""
    folders = [str(folder) for folder in reversed(Path(name).parents)][1:]
    entries = [(folder, 0o040755, b"") for folder in folders]
    entries += [(name, 0o100644, content), ("TRAILER!!!", 0, b"")]
    archive = b""
    for number, (path, mode, data) in enumerate(entries):
        # inode, mode, owner, group, links, time, size, two device numbers of two parts, size of the name, no checksum
        fields = (number, mode, 0, 0, 1, epoch_s, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path.encode() + b"\0"
        archive += head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    return archive


def module_version(tree: Path, distribution: Distribution) -> str:
    """The version of the kernel modules in ``tree``; there must be exactly one, with its kernel."""
    folder = tree / "usr/lib/modules"
    versions = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if len(versions) != 1:
        found = f"modules of {', '.join(versions)}" if versions else "no kernel modules"
        raise ImageError(
            f"/usr/lib/modules holds {found}; an image needs exactly one kernel: "
            f"list one {distribution.kernel_package} package"
        )
    kernel = distribution.kernel.format(versions[0])
    if not (tree / kernel).is_file():
        raise ImageError(f"/usr/lib/modules/{versions[0]} exists, but /{kernel} does not")
    if not (tree / "usr/bin/dracut").is_file():
        raise ImageError('/usr/bin/dracut, which makes the initrd, is missing: add "dracut" to build.packages')
    return versions[0]


def read_listing(text: str) -> Initrd:
    """Parse the output of lsinitrd: "dracut modules:", a name a line, "====…", then ``ls -l`` of every file."""
    after = text.partition("dracut modules:\n")[2]
    modules = after.partition("\n===")[0].split()
    found = _MODULE.findall(text)
    return Initrd(
        dracut_modules=tuple(sorted(modules)),
        drivers=tuple(sorted({driver for _, driver in found})),
        kernel_versions=tuple(sorted({version for version, _ in found})),
    )


def check_kernel(image: str, kernel: str, modules: str, initrd: Initrd) -> None:
    """`ImageError` unless all three have the same version."""
    in_initrd = initrd.kernel_versions or ("no version at all",)
    if kernel != modules or in_initrd != (modules,):
        raise ImageError(
            f"{image}: the kernel is {kernel}, its modules are for {modules}, the initrd's for "
            f"{', '.join(in_initrd)}: a machine would boot without its drivers"
        )

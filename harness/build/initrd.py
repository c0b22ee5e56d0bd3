"""Makes the initrd with the tree's own dracut, and checks that kernel, modules and initrd match."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.build import chroot
from harness.build.bootstrap import Archive
from harness.core import process
from harness.core.errors import ImageError
from harness.core.namespaces import environment
from harness.model.artifacts import INITRD, KERNEL
from harness.model.definition import ImageDefinition
from harness.model.kernel_image import kernel_version

_MODULE = re.compile(r"\blib/modules/([^/\s]+)/\S*?([^/\s]+)\.ko(?:\.(?:xz|zst|gz))?(?:\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Initrd:
    """The contents of an initrd: dracut modules, kernel modules without ``.ko``, and their kernel versions."""

    dracut_modules: tuple[str, ...]
    drivers: tuple[str, ...]
    kernel_versions: tuple[str, ...]


def make_initrd(definition: ImageDefinition, folder: Path, *, archive: Archive, log: Path) -> tuple[str, Initrd]:
    """Put kernel and initrd of ``folder/tree`` into ``folder/out``; the kernel's version and the initrd's contents.

    Raises `ImageError` if dracut fails, or if kernel, modules and initrd have different versions.
    """
    tree, out = folder / "tree", folder / "out"
    version = module_version(tree)
    dracut = f"dracut --force --no-hostonly --reproducible --kver {version} /mnt/{INITRD}".split()
    env = environment(SOURCE_DATE_EPOCH=str(archive.epoch_s))
    try:
        chroot.run(chroot.entering(tree, ["chroot", str(tree), *dracut], out=out), log=log, env=env)
    except process.CommandFailed as error:
        raise ImageError(f"{definition.name}: dracut failed ({log}):\n{error.tail}") from error
    shutil.copyfile(tree / "boot" / f"vmlinuz-{version}", out / KERNEL)
    (out / INITRD).chmod(0o644)
    listing = ["chroot", str(tree), "lsinitrd", f"/mnt/{INITRD}"]
    contents = read_listing(chroot.output(chroot.entering(tree, listing, out=out)))
    check_kernel(definition.name, kernel_version(out / KERNEL), version, contents)
    return version, contents


def module_version(tree: Path) -> str:
    """The version of the kernel modules in ``tree``; there must be exactly one, with its kernel."""
    folder = tree / "usr/lib/modules"
    versions = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if len(versions) != 1:
        found = f"modules of {', '.join(versions)}" if versions else "no kernel modules"
        raise ImageError(
            f"/usr/lib/modules holds {found}; an image needs exactly one kernel: list one linux-image-… package"
        )
    if not (tree / "boot" / f"vmlinuz-{versions[0]}").is_file():
        raise ImageError(f"/usr/lib/modules/{versions[0]} exists, but /boot/vmlinuz-{versions[0]} does not")
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

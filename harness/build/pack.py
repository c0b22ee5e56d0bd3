"""The last step: packs the root file system into one file, and writes the manifest of all three files."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

from harness.build import chroot, distributions
from harness.build.distributions import Archive, Distribution
from harness.build.initrd import Initrd
from harness.core import process
from harness.core.errors import ImageError
from harness.core.namespaces import environment
from harness.model.artifacts import FILES, ROOTFS, Manifest, describe
from harness.model.definition import ImageDefinition, sources_digest
from harness.packages.database import PackageDatabase

_ZSTD_LEVEL = "3"
"""Takes 3 to 4 s for 1 GB; level 15 makes it 7 % smaller and takes ten times as long."""

_SELINUX = re.compile(r"^SELINUX=[ \t]*((?i:enforcing|permissive|disabled))", re.MULTILINE)
"""The first one counts, in any case, whatever follows it (libselinux, src/selinux_config.c)."""

_TAR_OPTIONS = ("--xattrs", "--xattrs-include=*", "--numeric-owner")


def pack(folder: Path, *, archive: Archive, log: Path) -> None:
    """Pack ``folder/tree`` as ``folder/out/rootfs.squashfs``; files newer than the archive get its date."""
    tree, target = folder / "tree", folder / "out" / ROOTFS
    if not (tree / "proc").is_dir():  # dmsquash-live refuses a root file system without it
        raise ImageError("the tree has no /proc folder, which is needed as a mount point")
    process.require("mksquashfs", "squashfs-tools")
    env = environment(SOURCE_DATE_EPOCH=str(archive.epoch_s))
    options = ["-noappend", "-no-progress", "-xattrs", "-comp", "zstd", "-Xcompression-level", _ZSTD_LEVEL]
    chroot.run(["mksquashfs", str(tree), str(target), *options], log=log, env=env)


def check_labels(definition: ImageDefinition, tree: Path) -> None:
    """`ImageError` if SELinux would be enforcing, and files of the machine have no labels.

    Labels in the tree are kept. Only root can set them in a build, and no role sets those of /data.
    """
    config = tree / "etc/selinux/config"
    text = config.read_text("utf-8", "replace") if config.is_file() else ""
    mode = _SELINUX.search(text)
    if not mode or mode[1].lower() != "enforcing" or {"selinux=0", "enforcing=0"} & set(definition.kernel_arguments):
        return
    lacks = "" if _is_labelled(tree / "usr") else "the files of its root file system have no labels"
    if not lacks and definition.persistent_paths:
        lacks = "role persist makes /data without labels"
    if lacks:
        raise ImageError(
            f"{definition.name}: /etc/selinux/config says SELINUX=enforcing, but {lacks}, and services could not read "
            "them; set SELINUX=permissive in the playbook, or the kernel argument enforcing=0"
        )


def _is_labelled(path: Path) -> bool:
    return "security.selinux" in os.listxattr(path)


def tar(tree: Path, archive: Path, *, log: Path) -> None:
    """Write ``tree`` to one file, with all owners, capabilities and links."""
    chroot.run(["tar", "--create", "--file", str(archive), *_TAR_OPTIONS, "-C", str(tree), "."], log=log)


def untar(archive: Path, tree: Path, *, log: Path) -> None:
    """Unpack an ``archive`` made by `tar` into the new folder ``tree``."""
    tree.mkdir()
    chroot.run(["tar", "--extract", "--file", str(archive), *_TAR_OPTIONS, "-C", str(tree)], log=log)


def packages(tree: Path, database: PackageDatabase) -> dict[str, str]:
    """Name to version of the packages installed in ``tree``, which need not have the package manager."""
    paths = [tree / name for name in database.files]
    files = [path for path in paths if path.is_file() and path.resolve().is_relative_to(tree.resolve())]
    return database.read_files({str(path.relative_to(tree)): path.read_bytes() for path in files})


def builder(distribution: Distribution) -> dict[str, str]:
    """The versions of this host's programs that take part in a build; dracut is the tree's own."""
    return {
        **distribution.builders(),
        "ansible-core": importlib.metadata.version("ansible-core"),
        "mksquashfs": process.output(["mksquashfs", "-version"]).split()[2],
    }


def describe_build(
    definition: ImageDefinition,
    version: str,
    out: Path,
    initrd: Initrd,
    installed: dict[str, str],
    archive: Archive,
) -> Manifest:
    """The manifest of the three files in ``out``."""
    return Manifest(
        image=definition.name,
        version=version,
        kernel_version=initrd.kernel_versions[0],
        kernel_arguments=definition.kernel_arguments,
        files={name: describe(out / name) for name in FILES},
        packages=installed,
        dracut_modules=initrd.dracut_modules,
        initrd_drivers=initrd.drivers,
        definition=sources_digest(definition),
        sources=archive.releases,
        builder={**builder(distributions.of(definition.distribution)), "dracut": installed["dracut"]},
    )

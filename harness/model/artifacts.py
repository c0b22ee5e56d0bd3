"""Artifacts: the files that a build made, ours or another builder's. Immutable; named by a digest over all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.core import digest, serialization
from harness.core.errors import UsageError
from harness.core.serialization import Format

KERNEL, INITRD, ROOTFS, MANIFEST = "vmlinuz", "initrd.img", "rootfs.squashfs", "manifest.json"
FILES = (KERNEL, INITRD, ROOTFS)
"""The files that our builder makes. Another builder's root file system has the name of its format in `ROOTFS_NAMES`."""

ROOTFS_NAMES = {
    "squashfs": ROOTFS,
    "ext4": "rootfs.ext4",
    "xfs": "rootfs.xfs",
    "tar": "rootfs.img",
    "iso": "rootfs.iso",
}
"""``tar`` is a gzipped tar with a file system image ``rootfs.img`` in it; a squashfs may hold ``LiveOS/rootfs.img``;
``iso`` is a live medium with one or more squashfs images, layers of one root file system."""


NEXT = "+next"
"""Appended to the version of the second build that a machine is upgraded to, and twice to that of the third."""

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A valid name of a file of artifacts: it cannot lead out of their folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The description of artifacts; nothing in it depends on when or where they were built.

    ``files`` maps each file's name to its digest and size; ``packages`` maps name to version; ``initrd_drivers`` are
    kernel modules without ``.ko``; ``sources`` maps each Release file of the archive to its SHA-256; ``builder`` maps
    each program of the build to its version. Fields that are unknown for another builder's artifacts are empty.
    """

    FORMAT: ClassVar[Format] = Format(kind="a manifest", number=1, upgrades={0: dict})

    format: int = 1
    image: str
    version: str
    kernel_version: str
    kernel_arguments: tuple[str, ...]
    files: dict[str, FileRecord]
    packages: dict[str, str]
    dracut_modules: tuple[str, ...]
    initrd_drivers: tuple[str, ...]
    definition: str
    sources: dict[str, str]
    builder: dict[str, str]

    @property
    def digest(self) -> str:
        """The artifacts' name: SHA-256 over the manifest, which holds each file's SHA-256.

        The number of the format is left out: a manifest of format 0 names the same artifacts.
        """
        plain = serialization.dump(self)
        del plain["format"]
        return digest.of_value(plain)

    @property
    def rootfs(self) -> str:
        """The file name of the root file system, one of `ROOTFS_NAMES`."""
        return next(name for name in self.files if name in ROOTFS_NAMES.values())

    @property
    def is_ours(self) -> bool:
        """Whether our builder made them; os-release then has the image's name and version."""
        return bool(self.builder)

    @property
    def systemd(self) -> int | None:
        """The systemd release in the image, for example 257; None if the packages are unknown."""
        found = re.match(r"(?:\d+:)?(\d+)", self.packages.get("systemd", ""))
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class InTree:
    """Artifacts of a published tree: ``digest`` is theirs or its beginning; ``tree`` is a folder, an http(s) URL or
    rclone's REMOTE:PATH."""

    tree: str
    digest: str

    @classmethod
    def read(cls, text: str) -> InTree | None:
        """What TREE@DIGEST names; None for another text."""
        found = re.fullmatch(r"(.+?)/*@([0-9a-f]{8,64})", text)
        return cls(tree=found[1], digest=found[2]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """A folder with kernel, initrd, root file system and their manifest."""

    folder: Path
    manifest: Manifest

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL

    @property
    def initrd(self) -> Path:
        return self.folder / INITRD

    @property
    def rootfs(self) -> Path:
        return self.folder / self.manifest.rootfs

    @property
    def digest(self) -> str:
        return self.manifest.digest


def describe(path: Path) -> FileRecord:
    """The record of the file at ``path``."""
    return FileRecord(sha256=digest.of_file(path), size_bytes=path.stat().st_size)


def load_artifacts(folder: Path) -> Artifacts:
    """The artifacts in ``folder``; sizes are compared with the manifest, contents are not read."""
    try:
        manifest = serialization.read(Manifest, folder / MANIFEST)
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no {MANIFEST}, so it is not a folder of artifacts") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / MANIFEST} cannot be read as a manifest: {error}") from error
    check_names(manifest, str(folder / MANIFEST))
    for name, file in manifest.files.items():
        path, awaited = folder / name, file.size_bytes
        seen = path.stat().st_size if path.is_file() else None
        if seen != awaited:
            raise UsageError(f"{path} has {seen or 'no'} bytes, but {awaited} by its manifest; build it again")
    return Artifacts(folder=folder, manifest=manifest)


def check_names(manifest: Manifest, where: str) -> None:
    """`UsageError` if a file name is invalid, or a file that machines boot from is missing; ``where`` is the source."""
    if strange := [name for name in manifest.files if not FILE_NAME.fullmatch(name) or name == MANIFEST]:
        raise UsageError(f"{where} lists {strange[0]!r}, which is not a valid name of a file")
    listed = set(manifest.files)
    if not {KERNEL, INITRD} <= listed or len(listed & set(ROOTFS_NAMES.values())) != 1:
        wanted = f"{KERNEL}, {INITRD} and one of {', '.join(ROOTFS_NAMES.values())}"
        raise UsageError(f"{where} must list {wanted}; it lists {', '.join(sorted(listed)) or 'nothing'}")


def difference(artifacts: Artifacts) -> str:
    """The first file whose bytes differ from the manifest, in a sentence; empty if there is none.

    Reads every file: about a second for 1 GiB.
    """
    for name, file in artifacts.manifest.files.items():
        path = artifacts.folder / name
        seen = digest.of_file(path)
        if seen != file.sha256:
            return f"{path} was changed: its SHA-256 is {seen[:12]}…, but {file.sha256[:12]}… by its manifest"
    return ""

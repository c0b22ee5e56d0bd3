"""Everything that lint knows about an image, as one value, and its one read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from harness.core.errors import BootproofError, UsageError
from harness.lint.known import known
from harness.lint.tree import Look, Stage, Tree
from harness.model.artifacts import Artifacts, Manifest
from harness.model.definition import ImageDefinition
from harness.model.kernel_image import kernel_banner
from harness.packages import owners, sums
from harness.store import rootfs_images
from harness.store.initrd_tree import visit_initrd
from harness.store.squashfs_tree import TreeFile, read_names, visit_tree
from harness.store.squashfs_xattrs import read_attributes

_COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
"""Linux, fs/squashfs/squashfs_fs.h."""
_USERS = ("etc/passwd", "etc/group")
_MOST_OWN_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Previous:
    """The version before: its files' names and sizes, and the numbers of its users and groups."""

    version: str
    manifest: Manifest
    files: Mapping[str, TreeFile]
    users: str
    groups: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """``initrd`` is None while only the names of the root were read. ``owners`` maps a path to its package, ``sums`` to
    the MD5 that the package gave it; ``own`` are the MD5s of the definition's own files. ``compression`` is the
    root's."""

    root: Tree
    manifest: Manifest
    initrd: Tree | None = None
    definition: ImageDefinition | None = None
    kernel_banner: str = ""
    kernel_md5: str = ""
    compression: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    previous: Previous | None = None

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        return (self.root, self.initrd) if self.initrd else (self.root,)

    def is_original(self, path: str) -> bool:
        """Whether the file ``path`` of the root is as its package brought it."""
        file = self.root.files.get(path)
        return file is not None and bool(file.content) and self.sums.get(path) == file.content


def read_image(
    artifacts: Artifacts,
    definition: ImageDefinition | None,
    previous: Artifacts | None = None,
    show: Callable[[Stage, Image], None] = lambda *_: None,
) -> Image:
    """Read kernel, initrd and root file system once. ``show`` gets the image at each stage, before all is known.

    `UsageError` for a root file system that is not read file by file, `ImageError` for one that is damaged.
    """
    manifest = artifacts.manifest
    kind = rootfs_images.format_of(artifacts.rootfs)
    if kind != "squashfs":
        raise UsageError(f"no program here reads {manifest.rootfs} file by file: lint needs a squashfs")
    with artifacts.rootfs.open("rb") as file:
        compression = _COMPRESSIONS.get(int.from_bytes(file.read(22)[20:], "little"), "an unknown compression")
    own = _own_files(definition) if definition else frozenset()
    look = Look(lambda stage, tree: show(stage, Image(root=tree, manifest=manifest, definition=definition, own=own)))
    files = visit_tree(artifacts.rootfs, look, algorithm="md5")
    root = replace(look.tree(_with_root(files)), capabilities=_capabilities(artifacts.rootfs))
    links = {name: file.target for name, file in files.items() if file.kind == "link" and "/" not in name}
    look = Look()
    return Image(
        root=root,
        initrd=look.tree(visit_initrd(artifacts.initrd, look, algorithm="md5"), "initrd:"),
        manifest=manifest,
        definition=definition,
        kernel_banner=_banner(artifacts.kernel),
        kernel_md5=hashlib.md5(artifacts.kernel.read_bytes()).hexdigest(),  # as package databases do
        compression=compression,
        owners=owners(root.texts, links),
        sums=sums(root.texts, links),
        own=own,
        previous=_previous(previous) if previous else None,
    )


def _with_root(files: Mapping[str, TreeFile]) -> dict[str, TreeFile]:
    """unsquashfs calls the root "/"."""
    return {path.strip("/"): file for path, file in files.items()}


_CAPABILITIES = known("capabilities").split()


def _capabilities(rootfs: Path) -> dict[str, tuple[str, ...]] | None:
    """The permitted capabilities of programs (struct vfs_cap_data in the same file)."""
    attributes = read_attributes(rootfs)
    if attributes is None:
        return None
    values = {
        path: found["security.capability"] for path, found in attributes.items() if "security.capability" in found
    }
    return {path: tuple(_names_of(value)) for path, value in values.items()}


def _names_of(value: bytes) -> Iterator[str]:
    """Permitted bits 0 to 31 are in the second word, 32 to 63 in the fourth."""
    permitted = int.from_bytes(value[4:8], "little") | int.from_bytes(value[12:16], "little") << 32
    for bit in range(permitted.bit_length()):
        if permitted >> bit & 1:
            yield f"cap_{_CAPABILITIES[bit]}" if bit < len(_CAPABILITIES) else f"capability {bit}"


def _banner(kernel: Path) -> str:
    try:
        return kernel_banner(kernel)
    except (BootproofError, ValueError):
        return ""


def _own_files(definition: ImageDefinition) -> frozenset[str]:
    """The MD5s of all files in the definition's folder and in the shared roles, which the playbook may have copied."""
    paths = [path for folder in (definition.folder, definition.roles) if folder.is_dir() for path in folder.rglob("*")]
    small = [path for path in paths if path.is_file() and path.stat().st_size <= _MOST_OWN_BYTES]
    return frozenset(hashlib.md5(path.read_bytes()).hexdigest() for path in small)


def _previous(artifacts: Artifacts) -> Previous | None:
    """None for a root file system that is not a squashfs."""
    if rootfs_images.format_of(artifacts.rootfs) != "squashfs":
        return None
    with rootfs_images.reading(artifacts.rootfs) as read:
        texts = read(_USERS) if read else {}
    users, groups = (texts.get(name, b"").decode("utf-8", "replace") for name in _USERS)
    return Previous(
        version=artifacts.manifest.version,
        manifest=artifacts.manifest,
        files=read_names(artifacts.rootfs),
        users=users,
        groups=groups,
    )

"""Everything that lint knows about an image, as one value, and its one read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from harness.core.errors import BootproofError, UsageError
from harness.lint.known import known
from harness.lint.tree import Look, Stage, Tree
from harness.model.artifacts import Artifacts, Manifest
from harness.model.definition import ImageDefinition
from harness.model.kernel_image import kernel_banner
from harness.packages import DATABASES, owners, rights, sum_algorithm, sums
from harness.packages.database import Rights
from harness.store.initrd_tree import visit_initrd
from harness.store.rootfs_tree import RootTree, root_tree
from harness.store.squashfs_tree import TreeFile

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
    """``initrd`` is None until all of the root was read. ``owners`` maps a path to its package, ``sums`` to the digest
    that the package gave it, ``rights`` to its mode and owner; ``own`` are the digests of the definition's own files.
    ``compression`` is the root's."""

    root: Tree
    manifest: Manifest
    initrd: Tree | None = None
    definition: ImageDefinition | None = None
    kernel_banner: str = ""
    kernel_digest: str = ""
    compression: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    rights: Mapping[str, Rights] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    previous: Previous | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all files were read."""
        return self.initrd is not None

    def may_be_original(self, path: str) -> bool:
        """Whether `is_original` is true, or will be when the file is read."""
        file = self.root.files.get(path)
        return self.is_original(path) or (path in self.sums and file is not None and not file.content)

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        return (self.root, self.initrd) if self.initrd else (self.root,)

    def is_original(self, path: str) -> bool:
        """Whether the file ``path`` of the root is as its package brought it."""
        file = self.root.files.get(path)
        return file is not None and bool(file.content) and self.sums.get(path) == file.content


@contextmanager
def opened_root(artifacts: Artifacts) -> Iterator[RootTree]:
    """The root file system; `UsageError` for one that is not read file by file."""
    with root_tree(artifacts.rootfs, artifacts.manifest.kernel_arguments) as found:
        if found is None:
            raise UsageError(
                f"no program here reads {artifacts.manifest.rootfs} file by file: lint needs a squashfs or an ext4"
            )
        yield found


def read_image(
    artifacts: Artifacts,
    rootfs: RootTree,
    definition: ImageDefinition | None,
    previous: Artifacts | None = None,
    show: Callable[[Stage, Image], None] = lambda *_: None,
) -> Image:
    """Read kernel, initrd and root file system once, and some texts of it before. ``show`` gets the image at each
    stage, before all is known.

    `ImageError` for a root file system that is damaged.
    """
    manifest = artifacts.manifest
    image = Image(
        root=Tree({}),
        manifest=manifest,
        definition=definition,
        kernel_banner=_banner(artifacts.kernel),
        compression=rootfs.compression,
        own=_own_files(definition) if definition else frozenset(),
    )

    capabilities: dict[str, tuple[str, ...]] | None = None

    def add(stage: Stage, tree: Tree) -> None:
        nonlocal image, capabilities
        if stage is Stage.TEXTS:
            image = _with_packages(image, tree, artifacts)
            capabilities = _capabilities(rootfs)
        show(stage, replace(image, root=replace(tree, capabilities=capabilities)))

    look = Look(add, rootfs.read_files)
    files = _with_root(rootfs.visit(look, algorithm=sum_algorithm))
    root = replace(look.tree(files), capabilities=capabilities)
    look = Look()
    return replace(
        image,
        root=root,
        initrd=look.tree(visit_initrd(artifacts.initrd, look, algorithm=sum_algorithm(files)), "initrd:"),
        previous=_previous(previous) if previous else None,
    )


def _with_packages(image: Image, tree: Tree, artifacts: Artifacts) -> Image:
    """``image`` with what the package databases say, whose texts ``tree`` has."""
    algorithm = sum_algorithm(tree.files)
    links = {name: file.target for name, file in tree.files.items() if file.kind == "link" and "/" not in name}
    return replace(
        image,
        owners=owners(tree.texts, links),
        sums=sums(tree.texts, links, algorithm),
        rights=rights(tree.texts, links),
        kernel_digest=hashlib.new(algorithm, artifacts.kernel.read_bytes()).hexdigest(),
    )


def _with_root(files: Mapping[str, TreeFile]) -> dict[str, TreeFile]:
    """unsquashfs calls the root "/"."""
    return {path.strip("/"): file for path, file in files.items()}


_CAPABILITIES = known("capabilities").split()


def _capabilities(rootfs: RootTree) -> dict[str, tuple[str, ...]] | None:
    """The permitted capabilities of programs: Linux, include/uapi/linux/capability.h, struct vfs_cap_data."""
    attributes = rootfs.read_attributes()
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
    """The digests of all files in the definition's folder and in the shared roles, which the playbook may have copied,
    by each algorithm that package databases have."""
    paths = [path for folder in (definition.folder, definition.roles) if folder.is_dir() for path in folder.rglob("*")]
    small = [path for path in paths if path.is_file() and path.stat().st_size <= _MOST_OWN_BYTES]
    algorithms = {database.sum_algorithm for database in DATABASES}
    return frozenset(hashlib.new(name, path.read_bytes()).hexdigest() for path in small for name in algorithms)


def _previous(artifacts: Artifacts) -> Previous | None:
    """None for a root file system that is not read file by file."""
    with root_tree(artifacts.rootfs, artifacts.manifest.kernel_arguments) as rootfs:
        if rootfs is None:
            return None
        files = rootfs.read_names()
        sizes = {name: files[name].size_bytes for name in _USERS if name in files and files[name].kind == "file"}
        texts = rootfs.read_files(sizes)
    users, groups = (texts.get(name, b"").decode("utf-8", "replace") for name in _USERS)
    return Previous(
        version=artifacts.manifest.version, manifest=artifacts.manifest, files=files, users=users, groups=groups
    )

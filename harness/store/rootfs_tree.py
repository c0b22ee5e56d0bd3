"""Every file of a root file system in any format that is read here: squashfs, ext4, and the layers of live media."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import ImageError, UsageError
from harness.store import ext4_tree, squashfs_tree
from harness.store.rootfs_images import format_of, layers
from harness.store.squashfs_tree import Algorithm, TreeFile, Visitor
from harness.store.squashfs_xattrs import Attributes, read_attributes

_COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
"""Linux, fs/squashfs/squashfs_fs.h."""
_REMOVED = "0,0"
"""The number of a character device that stands for a file which a higher layer removed: Linux, overlayfs."""


@dataclass(frozen=True)
class RootTree:
    """A root file system whose images are ``layers``, the lowest first. Methods raise `ImageError` if it is damaged."""

    layers: tuple[Path, ...]

    @property
    def is_squashfs(self) -> bool:
        return format_of(self.layers[0]) == "squashfs"

    @property
    def compression(self) -> str:
        """That of a squashfs, empty for others."""
        if not self.is_squashfs:
            return ""
        with self.layers[0].open("rb") as file:
            return _COMPRESSIONS.get(int.from_bytes(file.read(22)[20:], "little"), "an unknown compression")

    def visit(self, visitor: Visitor, *, algorithm: Algorithm) -> dict[str, TreeFile]:
        """As `squashfs_tree.visit_tree`."""
        if not self.is_squashfs:
            return ext4_tree.visit_tree(self.layers[0], visitor, algorithm=algorithm)
        if len(self.layers) == 1:
            return squashfs_tree.visit_tree(self.layers[0], visitor, algorithm=algorithm)
        files, places = self._merged()
        chosen = algorithm if isinstance(algorithm, str) else algorithm(files)
        visitor.names(files)
        for number, layer in enumerate(self.layers):
            passed = squashfs_tree.visit_tree(layer, _Layer(visitor, places, number), algorithm=chosen)
            files.update((path, file) for path, file in passed.items() if places.get(path) == number)
        return files

    def read_files(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """As `squashfs_tree.read_files`."""
        if not self.is_squashfs:
            return ext4_tree.read_files(self.layers[0], sizes)
        if len(self.layers) == 1:
            return squashfs_tree.read_files(self.layers[0], sizes)
        places, found = self._merged()[1], dict[str, bytes]()
        for number, layer in enumerate(self.layers):
            found |= squashfs_tree.read_files(layer, {path: sizes[path] for path in sizes if places[path] == number})
        return found

    def read_names(self) -> dict[str, TreeFile]:
        return self._merged()[0] if self.is_squashfs else ext4_tree.read_names(self.layers[0])

    def read_attributes(self) -> Attributes | None:
        """As `squashfs_xattrs.read_attributes`."""
        if not self.is_squashfs:
            return ext4_tree.read_attributes(self.layers[0])
        if len(self.layers) == 1:
            return read_attributes(self.layers[0])
        places, found = self._merged()[1], dict[str, dict[str, bytes]]()
        for number, layer in enumerate(self.layers):
            attributes = read_attributes(layer)
            if attributes is None:
                return None
            found |= {path: given for path, given in attributes.items() if places.get(path) == number}
        return found

    def _merged(self) -> tuple[dict[str, TreeFile], dict[str, int]]:
        """The files that count, and the layer of each."""
        files, places = dict[str, TreeFile](), dict[str, int]()
        for number, layer in enumerate(self.layers):
            names = squashfs_tree.read_names(layer)
            removed = {path for path, file in names.items() if number and _removes(file)}
            gone = removed | {path for path, file in names.items()
                              if path in files and files[path].kind == "folder" and file.kind != "folder"}  # fmt: skip
            for path in [path for path in files if gone and _is_below(path, gone)]:
                del files[path], places[path]
            files |= {path: file for path, file in names.items() if path not in removed}
            places |= dict.fromkeys((path for path in names if path not in removed), number)
        return files, places


def _removes(file: TreeFile) -> bool:
    return file.kind == "character device" and file.target.replace(" ", ",") == _REMOVED


def _is_below(path: str, gone: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:count]) in gone for count in range(1, len(parts) + 1))


@dataclass(frozen=True)
class _Layer:
    """Shows the files of one layer that no higher one replaces."""

    visitor: Visitor
    places: Mapping[str, int]
    number: int

    def names(self, files: Mapping[str, TreeFile]) -> None: ...

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:
        return self.places.get(path) == self.number and self.visitor.wants(path, file, head)

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:
        self.visitor.contents(path, file, content)


@contextmanager
def root_tree(rootfs: Path, arguments: Sequence[str] = ()) -> Iterator[RootTree | None]:
    """The files of the root file system at ``rootfs``; None for a format that is not read file by file.

    The kernel ``arguments`` are as in `rootfs_images.reading`. `ImageError` for one that is damaged or too large.
    """
    with ExitStack() as stack:
        if format_of(rootfs) == "squashfs":
            squashfs_tree.check_count(rootfs)
        try:
            found = stack.enter_context(layers(rootfs, arguments))
        except UsageError as error:
            raise ImageError(str(error)) from error
        yield RootTree(tuple(found)) if found else None

"""What grew since the previous version, and by which package. A run compares sizes with the definition's budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from harness.core.text import size
from harness.lint.finding import LintFinding, warns
from harness.lint.image import Image
from harness.model.artifacts import INITRD, KERNEL
from harness.store.squashfs_tree import TreeFile

_MOST_GROWTH = 0.05
_LEAST_BYTES = 4 << 20
_SHOWN = 5


def growth(image: Image) -> Iterator[LintFinding]:
    """Files of the artifacts that are more than a twentieth larger than in the previous version."""
    previous, manifest = image.previous, image.manifest
    if previous is None:
        return
    for name in (manifest.rootfs, INITRD, KERNEL):
        old, new = previous.manifest.files.get(name), manifest.files[name]
        if (
            old
            and new.size_bytes > old.size_bytes * (1 + _MOST_GROWTH)
            and new.size_bytes - old.size_bytes >= _LEAST_BYTES
        ):
            what = f"it grew from {size(old.size_bytes)} to {size(new.size_bytes)} since {previous.version}"
            by = _by_package(previous.files, image) if name == manifest.rootfs else []
            yield warns("image-grew", f"artifacts:{name}", what, *by)


def _by_package(old: Mapping[str, TreeFile], image: Image) -> list[str]:
    """The packages whose files grew most, before compression; files of no package count for their folder."""
    grown = Counter[str]()
    for path, file in _once(image.root.files):
        grown[_of(path, image)] += file.size_bytes - (old[path].size_bytes if path in old else 0)
    for path, file in _once(old):
        if path not in image.root.files:
            grown[_of(path, image)] -= file.size_bytes
    return [f"{name}: +{size(count)}" for name, count in grown.most_common(_SHOWN) if count >= 1 << 20]


def _once(files: Mapping[str, TreeFile]) -> Iterator[tuple[str, TreeFile]]:
    """A file with several names is one value in a tree, and takes its bytes once."""
    seen = set[int]()
    for path, file in files.items():
        if id(file) not in seen:
            seen.add(id(file))
            yield path, file


def _of(path: str, image: Image) -> str:
    return image.owners.get(path) or f"/{'/'.join(path.split('/')[:3])} (no package)"


BY_NAMES = ()
BY_TEXTS = ()
BY_CONTENTS = (growth,)

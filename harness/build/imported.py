"""Imports artifacts of another builder: finds them in a folder, describes them, and adds them to the store.

Nothing is written to that folder.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.core.errors import ImageError, UsageError
from harness.model.artifacts import (
    INITRD,
    KERNEL,
    MANIFEST,
    ROOTFS_NAMES,
    Artifacts,
    Manifest,
    describe,
    difference,
    load_artifacts,
)
from harness.model.definition import ImageDefinition, sources_digest
from harness.model.kernel_image import kernel_version
from harness.packages import DATABASES, installed_by
from harness.qemu.kernel_arguments import ROOTFS_DISK, URL_PLACEHOLDER
from harness.store import rootfs_images
from harness.store.initrds import own_arguments
from harness.store.rootfs_tree import root_tree
from harness.store.store import Store

CMDLINE = "cmdline"
"""The file with the kernel arguments, separated by white space."""

_OS_RELEASES = ("usr/lib/os-release", "etc/os-release")
_INITRDS = ("initrd*", "initramfs*", "*.initrd")


def take_in(
    folder: Path,
    definition: ImageDefinition,
    store: Store,
    *,
    kernel_arguments: Sequence[str] | None = None,
    is_previous: bool = False,
) -> Artifacts:
    """Copy the artifacts in ``folder`` to the store.

    With a manifest, every file must match it, to the byte. Without one, a manifest is made: the kernel is the file in
    bzImage format, the initrd the one named ``initrd*`` or ``initramfs*``, the root file system the one named
    ``rootfs*``, or else the only one in a root file system's format. ``kernel_arguments`` take precedence over the
    file ``cmdline``, and that over the definition. A previous version may have another name, such as an image of an
    older release. Raises `UsageError` for missing, ambiguous or damaged files.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name a folder with a kernel, an initrd and a root file system")
    if (folder / MANIFEST).exists():
        if kernel_arguments is not None:
            raise UsageError(
                f"{folder} has a {MANIFEST} with kernel arguments; leave out the manifest, or the arguments"
            )
        found = load_artifacts(folder)
        if found.manifest.image != definition.name and not is_previous:
            raise UsageError(
                f"{folder} holds artifacts of {found.manifest.image} by its {MANIFEST}, not of {definition.name}"
            )
        manifest, files = found.manifest, {name: folder / name for name in found.manifest.files}
        if what := difference(found):
            raise UsageError(f"{what}; copy the folder again from where it was built")
    else:
        files = find_files(folder)
        manifest = _describe(folder, files, definition, kernel_arguments)
    with store.writable(), store.workfolder() as work:
        place = work / "out"
        place.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, place / name)
        return store.add_artifacts(place, manifest)


def in_place(folder: Path, until: ExitStack, *, image: str = "") -> Artifacts:
    """The artifacts of another builder in ``folder``, as `take_in` finds them, to be read where they are.

    Links to the files are in a temporary folder ``until`` it closes. The manifest has what the files show: its image is
    ``image``, else os-release's IMAGE_ID, else the name of the folder. Raises `UsageError` as `take_in` does.
    """
    files = find_files(folder)
    place = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="bootproof-")))
    for name, path in files.items():
        (place / name).symlink_to(path.absolute())
    release = _release(_read_in_place(next(files[name] for name in files if name in ROOTFS_NAMES.values())))
    manifest = Manifest(
        image=image or release.get("IMAGE_ID") or folder.resolve().name,
        version=release.get("IMAGE_VERSION", ""),
        kernel_version=kernel_version(files[KERNEL]),
        kernel_arguments=(),
        files={name: describe(path) for name, path in files.items()},
        packages={},
        dracut_modules=(),
        initrd_drivers=(),
        definition="",
        sources={},
        builder={},
    )
    return Artifacts(folder=place, manifest=manifest)


def _read_in_place(image: Path) -> dict[str, bytes]:
    """os-release, if the format of ``image`` is read file by file; `UsageError` if it is damaged."""
    try:
        with root_tree(image) as tree:
            files = tree.read_names() if tree else {}
            names = [name for name in _OS_RELEASES if name in files and files[name].kind == "file"]
            return tree.read_files({name: files[name].size_bytes for name in names[:1]}) if tree else {}
    except ImageError as error:
        raise UsageError(str(error)) from error


def find_files(folder: Path) -> dict[str, Path]:
    """Kernel, initrd and root file system in ``folder``, by their names in the store."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    initrd = _only([path for path in files if any(path.match(name) for name in _INITRDS)], folder, "initrd",
                   "a file named initrd* or initramfs*")  # fmt: skip
    others = [path for path in files if path != initrd]
    kernel = _only([path for path in others if _is_kernel(path)], folder, "kernel", "a bzImage, usually vmlinuz*")
    others = [path for path in others if path != kernel]
    formats = {path: rootfs_images.format_of(path) for path in others}
    candidates = [path for path, kind in formats.items() if kind and path.name.startswith("rootfs")]
    candidates = candidates or [path for path, kind in formats.items() if kind not in (None, "tar")]
    wanted = "a squashfs, an ext4 or xfs image, a live medium *.iso, or a gzipped tar rootfs.img"
    root = _only(candidates, folder, "root file system", wanted)
    return {KERNEL: kernel, INITRD: initrd, ROOTFS_NAMES[str(formats[root])]: root}


def _only(found: list[Path], folder: Path, what: str, wanted: str) -> Path:
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise UsageError(f"{folder} holds {len(found)} files that could be the {what}: {names}; keep one")
    there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise UsageError(f"{folder} holds no {what} ({wanted}); found: {there}")


def _is_kernel(path: Path) -> bool:
    try:
        return bool(kernel_version(path))
    except ImageError:
        return False


def _describe(
    folder: Path, files: dict[str, Path], definition: ImageDefinition, kernel_arguments: Sequence[str] | None
) -> Manifest:
    """The manifest of another builder's artifacts, as far as their files show."""
    image = files[next(name for name in files if name in ROOTFS_NAMES.values())]
    arguments = _arguments(folder, files[INITRD], definition, kernel_arguments)
    with rootfs_images.reading(image, arguments) as read:
        names = (*_OS_RELEASES, *(name for database in DATABASES for name in database.files))
        found = read(names) if read else {}
    return Manifest(
        image=definition.name,
        version=_release(found).get("IMAGE_VERSION", ""),
        kernel_version=kernel_version(files[KERNEL]),
        kernel_arguments=arguments,
        files={name: describe(path) for name, path in files.items()},
        packages=installed_by(found),
        dracut_modules=(),
        initrd_drivers=(),
        definition=sources_digest(definition),
        sources={},
        builder={},
    )


def _release(found: Mapping[str, bytes]) -> dict[str, str]:
    """os-release(5), from the files that were ``found``."""
    text = next((found[name] for name in _OS_RELEASES if name in found), b"").decode("utf-8", "replace")
    return dict(re.findall(r"""^(\w+)=["']?([^"'\n]*)["']?$""", text, re.MULTILINE))


def _arguments(folder: Path, initrd: Path, definition: ImageDefinition, given: Sequence[str] | None) -> tuple[str, ...]:
    """The kernel arguments, with those that the initrd needs; a key that is given is not added."""
    file = folder / CMDLINE
    if given is None:
        given = file.read_text("utf-8").split() if file.is_file() else definition.kernel_arguments
    if any(URL_PLACEHOLDER in argument for argument in given):
        return tuple(given)
    keys = {argument.partition("=")[0] for argument in given}
    own = own_arguments(initrd, ROOTFS_DISK)
    return (*given, *(argument for argument in own if argument.partition("=")[0] not in keys))

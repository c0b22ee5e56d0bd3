"""Lists the items in the store: who uses each one now, or why no run will use it again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.core import serialization
from harness.core.errors import HostError, UsageError
from harness.core.host_id import boot_id
from harness.core.locks import lock_folder
from harness.core.text import size
from harness.model.artifacts import load_artifacts
from harness.store.store import Store, is_worked_in
from harness.store.template_record import RECORD, Template

_HALF_MADE_S = 3600
"""`serialization.write` renames its temporary file within milliseconds; one that is an hour old has no writer."""


class StoreKind(StrEnum):
    ARTIFACTS = "artifacts"
    TEMPLATE = "template"
    LAYER = "layer"
    PACKAGES = "packages"
    INCOMING = "incoming"
    WORK = "work"
    NOTE = "notes"
    LOG = "logs"
    ACCELERATOR = "accelerators"
    DRIVERS = "drivers"
    OTHER = "other"

    @property
    def is_large(self) -> bool:
        """Whether removing such items frees a noticeable amount of space."""
        return self in (
            StoreKind.ARTIFACTS, StoreKind.TEMPLATE, StoreKind.LAYER, StoreKind.PACKAGES, StoreKind.INCOMING
        )  # fmt: skip

    @property
    def is_grouped(self) -> bool:
        """Whether a table has one line for all such items, which are small and many."""
        return self in (StoreKind.NOTE, StoreKind.LOG, StoreKind.ACCELERATOR, StoreKind.DRIVERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreItem:
    """One item in the store. ``used_s`` is the time of its last use or, if that is not recorded, of its making.

    ``user`` names the kind of process that uses the item now, ``why_stale`` says why no run will use it again; both are
    empty otherwise. ``images`` are the images it is for, as far as known. Times are in seconds since 1970.
    """

    kind: StoreKind
    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    used_s: float
    images: tuple[str, ...] = ()
    version: str = ""
    user: str = ""
    why_stale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSurvey:
    """All items, and the free space on their file system."""

    root: Path
    items: tuple[StoreItem, ...]
    free_bytes: int

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)


def survey(store: Store) -> StoreSurvey:
    """All items in the store; nothing is written."""
    root = store.root
    builds = list(_builds(root))
    artifacts = _judge_artifacts([_artifacts(folder, builds) for folder in _children(root / "artifacts")], builds)
    layers = _judge_layers(list(_layers(root, builds)), builds, artifacts)
    notes = _judge_notes(builds, artifacts)
    work = list(_work(root))
    others = [*layers, *_packages(root), *notes, *_small(root), *_half_made(root)]
    if any(item.user for item in work):
        others = [replace(item, user="a build") for item in others]
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    templates = [_template(folder) for folder in _children(root / "templates")]
    incoming = [_incoming(folder) for folder in _children(root / "incoming")]
    return StoreSurvey(root=root, items=(*artifacts, *templates, *incoming, *work, *others), free_bytes=free_bytes)


Build = tuple[StoreItem, tuple[str, ...]]
"""The note of a build, which has the name of the artifacts it made, and the layers it used."""


def _builds(root: Path) -> Iterator[Build]:
    for path in _children(root / "builds", "*.json"):
        note = _note(path)
        images = [str(note["image"])] if "image" in note else []
        item = _item(StoreKind.NOTE, str(note.get("artifacts", "")), [path], images=images)
        yield item, tuple(note.get("layers", ()))


def _artifacts(folder: Path, builds: Sequence[Build]) -> StoreItem:
    images = sorted({image for note, _ in builds if note.name == folder.name for image in note.images})
    item = _item(StoreKind.ARTIFACTS, folder.name, [folder], images=images, user=_user(folder))
    try:
        manifest = load_artifacts(folder).manifest
    except UsageError:
        return replace(item, why_stale="damaged")
    return replace(item, images=(manifest.image,), version=manifest.version)


def _template(folder: Path) -> StoreItem:
    item = _item(StoreKind.TEMPLATE, folder.name, [folder], user=_user(folder))
    try:
        template = serialization.read(Template, folder / RECORD)
    except (OSError, ValueError):
        return replace(item, why_stale="damaged")
    why_stale = "" if template.boot_id == boot_id() else "of another boot of this host"
    return replace(
        item,
        name=f"{template.state}, {template.spec.boot_path}",
        images=(template.image,),
        version=template.version,
        why_stale=why_stale or template.alteration(),
    )


def _incoming(folder: Path) -> StoreItem:
    """What was received of artifacts; a run that wants them continues a transfer that was interrupted."""
    item = _item(StoreKind.INCOMING, folder.name, [folder], user=_user(folder))
    files = [folder, *_children(folder)]
    item = replace(item, used_s=max(map(_modified_s, files)))
    is_old = time.time() - item.used_s > _HALF_MADE_S
    return replace(item, why_stale="a transfer that was not continued" if is_old and not item.user else "")


def _user(folder: Path) -> str:
    """Who uses ``folder`` now. A use without a process that holds the lock would have to be detected here too."""
    try:
        descriptor = lock_folder(folder, waits=False)
    except HostError:
        return "another process, perhaps: it cannot be locked"
    if descriptor is None:
        return "a run or a boot" if folder.exists() else ""
    os.close(descriptor)
    return ""


def _judge_artifacts(found: list[StoreItem], builds: Sequence[Build]) -> list[StoreItem]:
    """Of the same image and version, only the artifacts used last will be used again unless a digest is given.

    Artifacts without a build note were imported; whether their source still exists is not known here, so they stay.
    """
    built = {note.name for note, _ in builds}
    last: dict[tuple[str, ...], StoreItem] = {}
    for item in sorted(found, key=lambda item: item.used_s):
        if not item.why_stale and item.name in built:
            last[*item.images, item.version] = item

    def judge(item: StoreItem) -> StoreItem:
        latest = item if item.why_stale or item.name not in built else last[*item.images, item.version]
        return item if item is latest else replace(item, why_stale=f"superseded by {latest.name[:12]}")

    return [judge(item) for item in found]


def _judge_notes(builds: Sequence[Build], artifacts: Sequence[StoreItem]) -> Iterator[StoreItem]:
    """The note of a build has the last use and the user of its artifacts."""
    led_to = {item.name: item for item in artifacts}
    for note, _ in builds:
        item = led_to.get(note.name)
        if item is None:
            yield replace(note, why_stale="its artifacts were removed")
        else:
            yield replace(note, used_s=item.used_s, user=item.user)


def _layers(root: Path, builds: Sequence[Build]) -> Iterator[StoreItem]:
    """The tar of each layer, and its note, which was last used with the tar or later."""
    files = [*_children(root / "layers", "*.tar"), *_children(root / "layers", "*.json")]
    for key in sorted({path.stem for path in files}):
        tar, note = root / "layers" / f"{key}.tar", root / "layers" / f"{key}.json"
        images = {image for build, layers in builds if key in layers for image in build.images}
        purpose = str(_note(note).get("for", ""))
        if purpose.startswith("image "):
            images.add(purpose.removeprefix("image "))
        if tar in files:
            yield _item(StoreKind.LAYER, key, [tar], images=sorted(images))
        if note in files:
            is_of_use = tar in files or any(key in layers for _, layers in builds)
            why_stale = "" if is_of_use else "its layer was removed"
            item = _item(StoreKind.NOTE, key, [note], images=sorted(images), why_stale=why_stale)
            yield replace(item, used_s=max(item.used_s, _modified_s(tar)))


def _judge_layers(found: list[StoreItem], builds: Sequence[Build], artifacts: Sequence[StoreItem]) -> list[StoreItem]:
    """A layer is stale with the artifacts made from it. A layer that no finished build has used stays."""
    wanted = {item.name for item in artifacts if not item.why_stale}
    was_needed = {key for _, layers in builds for key in layers}
    is_needed = {key for note, layers in builds if note.name in wanted for key in layers}
    superseded = was_needed - is_needed
    return [replace(item, why_stale="superseded") if item.name in superseded else item for item in found]


def _packages(root: Path) -> Iterator[StoreItem]:
    """The packages of each suite; apart, those with a newer version (files have the dates of the archive).

    Those of RPM families are in a folder for each repository; apt's only folder there is for unfinished downloads.
    """
    for folder in _children(root / "debs"):
        newest: dict[tuple[str, str], Path] = {}
        files = sorted(_children(folder, "*.deb"), key=_modified_s)
        for path in files:
            name, _, rest = path.name.partition("_")
            newest[name, rest.rpartition("_")[2]] = path
        current = set(newest.values())
        old = [path for path in files if path not in current]
        for paths, why_stale in ((sorted(current), ""), (old, "superseded")):
            if paths:
                item = _item(StoreKind.PACKAGES, folder.name, paths, why_stale=why_stale)
                yield replace(item, used_s=_modified_s(folder))
        for repository in _children(folder):
            if repository.is_dir() and repository.name != "partial":
                item = _item(StoreKind.PACKAGES, f"{folder.name}/{repository.name}", [repository])
                yield replace(item, used_s=_modified_s(folder))


def _small(root: Path) -> Iterator[StoreItem]:
    for path in _children(root / "logs", "*.log"):
        yield _item(StoreKind.LOG, path.stem, [path], images=[path.stem.rpartition("-")[0]])
    for path in _children(root / "accelerators", "*.json"):
        yield _item(StoreKind.ACCELERATOR, path.stem, [path])
    for path in _children(root / "drivers", "*.json"):
        yield _item(StoreKind.DRIVERS, path.stem, [path])
    known = ("artifacts", "templates", "builds", "layers", "debs", "logs", "accelerators", "locks", "slots", "tmp")
    for path in _children(root):
        if path.name not in (*known, "incoming", "ssh", "drivers"):
            yield _item(StoreKind.OTHER, path.name, [path])


def _work(root: Path) -> Iterator[StoreItem]:
    for path in _children(root / "tmp"):
        if is_worked_in(path):
            yield _item(StoreKind.WORK, path.name, [path], user="a build")
        else:
            yield _item(StoreKind.WORK, path.name, [path], why_stale="left by a build that died")


def _half_made(root: Path) -> Iterator[StoreItem]:
    for folder in ("builds", "layers", "accelerators", "drivers"):
        for path in _children(root / folder, ".*"):
            if time.time() - _modified_s(path) > _HALF_MADE_S:
                yield _item(StoreKind.OTHER, path.name, [path], why_stale="half made")


def _item(
    kind: StoreKind,
    name: str,
    paths: Sequence[Path],
    *,
    images: Iterable[str] = (),
    user: str = "",
    why_stale: str = "",
) -> StoreItem:
    return StoreItem(
        kind=kind,
        name=name,
        paths=tuple(paths),
        size_bytes=sum(map(_size, paths)),
        used_s=max(map(_modified_s, paths)),
        images=tuple(images),
        user=user,
        why_stale=why_stale,
    )


def _children(folder: Path, pattern: str = "*") -> list[Path]:
    """The files in ``folder`` that match; hidden files only if ``pattern`` begins with a dot."""
    return sorted(path for path in folder.glob(pattern) if path.name.startswith(".") == pattern.startswith("."))


def _note(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        note = json.loads(path.read_text("utf-8"))
        if isinstance(note, dict):
            return note
    return {}


def _size(path: Path) -> int:
    """The bytes on disk of ``path``, as far as this user may read it."""
    files = [path]
    if path.is_dir() and not path.is_symlink():
        files += [Path(folder, name) for folder, names, others in os.walk(path) for name in (*names, *others)]
    size_bytes = 0
    for file in files:
        with suppress(OSError):
            size_bytes += file.lstat().st_blocks * 512  # stat(2): st_blocks counts units of 512 bytes
    return size_bytes


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def summary(found: StoreSurvey) -> str:
    return f"{size(found.size_bytes)} kept in {found.root}, {size(found.free_bytes)} free beside it"

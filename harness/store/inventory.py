"""What the store keeps: ``bootproof store``."""

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
"""`record.write` renames its temporary file within milliseconds; one that is an hour old has no writer."""


class StoreKind(StrEnum):
    """What sort of thing is kept."""

    ARTIFACTS = "artifacts"
    TEMPLATE = "template"
    LAYER = "layer"
    PACKAGES = "packages"
    WORK = "work"
    NOTE = "notes"
    LOG = "logs"
    ACCELERATOR = "accelerators"
    OTHER = "other"

    @property
    def is_large(self) -> bool:
        """Whether removing it makes room."""
        return self in (StoreKind.ARTIFACTS, StoreKind.TEMPLATE, StoreKind.LAYER, StoreKind.PACKAGES)

    @property
    def is_told_together(self) -> bool:
        """Small and many: a line in a table says how many there are."""
        return self in (StoreKind.NOTE, StoreKind.LOG, StoreKind.ACCELERATOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreItem:
    """One thing in the store. ``used_s`` is when it was last used or, where nobody notes that, made.

    ``user`` says who uses it now, ``flaw`` why nobody will again; both are empty otherwise. ``images`` are those it
    is for, as far as that is known. Times are in seconds since 1970.
    """

    kind: StoreKind
    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    used_s: float
    images: tuple[str, ...] = ()
    version: str = ""
    user: str = ""
    flaw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSurvey:
    """All that is kept, and the room beside it."""

    root: Path
    kept: tuple[StoreItem, ...]
    free_bytes: int

    @property
    def size_bytes(self) -> int:
        return sum(kept.size_bytes for kept in self.kept)


def survey(store: Store) -> StoreSurvey:
    """Look at everything in the store; nothing is written."""
    root = store.root
    builds = list(_builds(root))
    artifacts = _judge_artifacts([_artifacts(folder, builds) for folder in _children(root / "artifacts")], builds)
    layers = _judge_layers(list(_layers(root, builds)), builds, artifacts)
    notes = _judge_notes(builds, artifacts)
    work = list(_work(root))
    others = [*layers, *_packages(root), *notes, *_small(root), *_half_made(root)]
    if any(kept.user for kept in work):
        others = [replace(kept, user="a build") for kept in others]
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    templates = [_template(folder) for folder in _children(root / "templates")]
    return StoreSurvey(root=root, kept=(*artifacts, *templates, *work, *others), free_bytes=free_bytes)


Build = tuple[StoreItem, tuple[str, ...]]
"""The note of a build, which has the name of the artifacts it led to, and the layers it went over."""


def _builds(root: Path) -> Iterator[Build]:
    for path in _children(root / "builds", "*.json"):
        note = _note(path)
        images = [str(note["image"])] if "image" in note else []
        yield (
            _kept(StoreKind.NOTE, str(note.get("artifacts", "")), [path], images=images),
            tuple(note.get("layers", ())),
        )


def _artifacts(folder: Path, builds: Sequence[Build]) -> StoreItem:
    images = sorted({image for note, _ in builds if note.name == folder.name for image in note.images})
    kept = replace(_kept(StoreKind.ARTIFACTS, folder.name, [folder], images=images), user=_user(folder))
    try:
        manifest = load_artifacts(folder).manifest
    except UsageError:
        return replace(kept, flaw="damaged")
    return replace(kept, images=(manifest.image,), version=manifest.version)


def _template(folder: Path) -> StoreItem:
    kept = replace(_kept(StoreKind.TEMPLATE, folder.name, [folder]), user=_user(folder))
    try:
        template = serialization.read(Template, folder / RECORD)
    except (OSError, ValueError):
        return replace(kept, flaw="damaged")
    flaw = "" if template.boot_id == boot_id() else "of another boot of this host"
    return replace(
        kept,
        name=f"{template.state}, {template.spec.boot_path}",
        images=(template.image,),
        version=template.version,
        flaw=flaw or template.alteration(),
    )


def _user(folder: Path) -> str:
    """Who needs what is in ``folder`` now. Whoever does so without a process of his own is to be asked here too."""
    try:
        descriptor = lock_folder(folder, waits=False)
    except HostError:
        return "somebody, perhaps: it cannot be locked"
    if descriptor is None:
        return "a run or a boot" if folder.exists() else ""
    os.close(descriptor)
    return ""


def _judge_artifacts(found: list[StoreItem], builds: Sequence[Build]) -> list[StoreItem]:
    """Of the same image and version, only those that were used last will be used again unasked.

    What no build of ours led to was taken in from elsewhere; whether that is still there is not known here.
    """
    built = {note.name for note, _ in builds}
    last: dict[tuple[str, ...], StoreItem] = {}
    for kept in sorted(found, key=lambda kept: kept.used_s):
        if not kept.flaw and kept.name in built:
            last[*kept.images, kept.version] = kept

    def judge(kept: StoreItem) -> StoreItem:
        latest = kept if kept.flaw or kept.name not in built else last[*kept.images, kept.version]
        return kept if kept is latest else replace(kept, flaw=f"superseded by {latest.name[:12]}")

    return [judge(kept) for kept in found]


def _judge_notes(builds: Sequence[Build], artifacts: Sequence[StoreItem]) -> Iterator[StoreItem]:
    """The note of a build is used when and by whom its artifacts are."""
    led_to = {kept.name: kept for kept in artifacts}
    for note, _ in builds:
        kept = led_to.get(note.name)
        if kept is None:
            yield replace(note, flaw="of artifacts that are gone")
        else:
            yield replace(note, used_s=kept.used_s, user=kept.user)


def _layers(root: Path, builds: Sequence[Build]) -> Iterator[StoreItem]:
    """The tar of each layer, and its note, which is used as often or, without the tar, more often."""
    files = [*_children(root / "layers", "*.tar"), *_children(root / "layers", "*.json")]
    for key in sorted({path.stem for path in files}):
        tar, note = root / "layers" / f"{key}.tar", root / "layers" / f"{key}.json"
        images = {image for build, layers in builds if key in layers for image in build.images}
        purpose = str(_note(note).get("for", ""))
        if purpose.startswith("image "):
            images.add(purpose.removeprefix("image "))
        if tar in files:
            yield _kept(StoreKind.LAYER, key, [tar], images=sorted(images))
        if note in files:
            used_s = max(_modified_s(tar), _modified_s(note))
            is_of_use = tar in files or any(key in layers for _, layers in builds)
            flaw = "" if is_of_use else "of a layer that is gone"
            yield replace(_kept(StoreKind.NOTE, key, [note], images=sorted(images), flaw=flaw), used_s=used_s)


def _judge_layers(found: list[StoreItem], builds: Sequence[Build], artifacts: Sequence[StoreItem]) -> list[StoreItem]:
    """A layer goes with the artifacts that came of it. One that no build has finished with yet is wanted."""
    wanted = {kept.name for kept in artifacts if not kept.flaw}
    was_needed = {key for _, layers in builds for key in layers}
    is_needed = {key for note, layers in builds if note.name in wanted for key in layers}
    superseded = was_needed - is_needed
    return [replace(kept, flaw="superseded") if kept.name in superseded else kept for kept in found]


def _packages(root: Path) -> Iterator[StoreItem]:
    """Those of each suite; apart, those that are there in a newer version (apt gives files the archive's dates)."""
    for folder in _children(root / "debs"):
        newest: dict[tuple[str, str], Path] = {}
        files = sorted(_children(folder, "*.deb"), key=_modified_s)
        for path in files:
            name, _, rest = path.name.partition("_")
            newest[name, rest.rpartition("_")[2]] = path
        current = set(newest.values())
        old = [path for path in files if path not in current]
        for paths, flaw in ((sorted(current), ""), (old, "superseded")):
            if paths:
                yield replace(_kept(StoreKind.PACKAGES, folder.name, paths, flaw=flaw), used_s=_modified_s(folder))


def _small(root: Path) -> Iterator[StoreItem]:
    for path in _children(root / "logs", "*.log"):
        yield _kept(StoreKind.LOG, path.stem, [path], images=[path.stem.rpartition("-")[0]])
    for path in _children(root / "accelerators", "*.json"):
        yield _kept(StoreKind.ACCELERATOR, path.stem, [path])
    known = ("artifacts", "templates", "builds", "layers", "debs", "logs", "accelerators", "locks", "slots", "tmp")
    for path in _children(root / "learned", "*.json"):
        yield _kept(StoreKind.NOTE, path.stem, [path], images=[path.stem])
    for path in _children(root):
        if path.name not in (*known, "learned", "ssh"):
            yield _kept(StoreKind.OTHER, path.name, [path])


def _work(root: Path) -> Iterator[StoreItem]:
    for path in _children(root / "tmp"):
        kept = _kept(StoreKind.WORK, path.name, [path])
        yield replace(kept, user="a build") if is_worked_in(path) else replace(kept, flaw="left by a build that died")


def _half_made(root: Path) -> Iterator[StoreItem]:
    for folder in ("builds", "layers", "accelerators"):
        for path in _children(root / folder, ".*"):
            if time.time() - _modified_s(path) > _HALF_MADE_S:
                yield _kept(StoreKind.OTHER, path.name, [path], flaw="half made")


def _kept(
    kind: StoreKind, name: str, paths: Sequence[Path], *, images: Iterable[str] = (), flaw: str = ""
) -> StoreItem:
    return StoreItem(
        kind=kind,
        name=name,
        paths=tuple(paths),
        size_bytes=sum(map(_size, paths)),
        used_s=max(map(_modified_s, paths)),
        images=tuple(images),
        flaw=flaw,
    )


def _children(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in ``folder``; hidden files only if ``pattern`` asks for them."""
    return sorted(path for path in folder.glob(pattern) if path.name.startswith(".") == pattern.startswith("."))


def _note(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        note = json.loads(path.read_text("utf-8"))
        if isinstance(note, dict):
            return note
    return {}


def _size(path: Path) -> int:
    """What ``path`` takes on disk, as far as this user may look into it."""
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

"""The store: a content-addressed folder of artifacts, build layers, templates and caches.

    artifacts/<digest>/     read-only files; every user locks the folder with flock(2)
    builds/<key>.json       the artifacts made from a build's inputs, and the layers between
    layers/<key>.tar, .json  trees between the steps of a build, and their notes
    debs/<suite>/           downloaded packages
    drivers/<digest>.json   what the files of artifacts say about drivers
    incoming/<digest>/      what was received so far of artifacts that another host made; locked while they are received
    history/                earlier runs, in one SQLite file
    logs/                   the last log of each image's build steps
    locks/                  one file a key; locked while a process makes what the key names
    tmp/<name>/             work in progress; its process holds its lock

Everything is made in ``tmp``, on the same file system, and renamed into place, so that it is always complete. The
modification time of artifacts, layers and package folders is the time of their last use.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core import digest, durable, locks, serialization
from harness.core.errors import HostError, UsageError
from harness.core.user import home
from harness.model.artifacts import MANIFEST, NEXT, Artifacts, Manifest, difference, load_artifacts

_LOCK = "lock"

VARIABLE = "BOOTPROOF_STORE"
"""The environment variable with the folder of the store."""


def find_store() -> Store:
    """The store of this user: ``$BOOTPROOF_STORE``, ``$XDG_CACHE_HOME/bootproof`` or ``~/.cache/bootproof``."""
    named, caches = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            return Store(Path(named).expanduser().absolute())
        folder = Path(caches) if caches else home(os.environ, os.getuid()) / ".cache"
    except (HostError, RuntimeError) as error:  # RuntimeError: a ~ that stands for no home
        raise HostError(f"no place for the store: {error}", remedy=f"set {VARIABLE} to a folder") from None
    return Store(folder.absolute() / "bootproof")


@dataclass(frozen=True, slots=True)
class Store:
    """A folder on disk; only methods that need to write do so."""

    root: Path

    def folder(self, name: str) -> Path:
        """The folder ``name`` of the store, made if it is missing; `HostError` when that is impossible."""
        path = self.root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "set BOOTPROOF_STORE to another folder"
            raise HostError(f"{path} cannot be created: {error.strerror}", remedy=remedy) from error
        return path

    def artifacts(self, digest: str) -> Artifacts:
        """The artifacts of that digest, or of the only one that begins with it (8 characters or more)."""
        if re.fullmatch(r"[0-9a-f]{8,64}", digest):
            found = sorted((self.root / "artifacts").glob(f"{digest}*"))
            if len(found) == 1:
                return load_artifacts(found[0])
        raise UsageError(f"no artifacts {digest!r} in {self.root}; run bootproof build to make some")

    def whole_artifacts(self, digest: str) -> Artifacts | None:
        """As `artifacts`, but each byte is compared with the manifest: None if they are missing or damaged."""
        try:
            artifacts = self.artifacts(digest)
        except UsageError:
            return None
        return None if _damage(artifacts.folder, artifacts.folder.name, contents=True) else artifacts

    def newest(self, image: str, version: str = "") -> Artifacts:
        """The artifacts of ``image``, and of ``version`` if given, that were used last.

        Without a version, not those that a run builds only to upgrade to.
        """
        there = set[str]()
        for folder in sorted((self.root / "artifacts").glob("[0-9a-f]*"), key=modified_ns, reverse=True):
            with suppress(UsageError):
                artifacts = load_artifacts(folder)
                manifest = artifacts.manifest
                is_meant = manifest.version == version if version else not manifest.version.endswith(NEXT)
                if manifest.image == image and is_meant:
                    return artifacts
                there.add(f"{manifest.image}@{manifest.version}")
        wanted = f"{image}@{version}" if version else image
        raise UsageError(f"no artifacts of {wanted} in {self.root}; known: {', '.join(sorted(there)) or 'none'}")

    def add_artifacts(self, folder: Path, manifest: Manifest) -> Artifacts:
        """Move the manifest's files from ``folder``, in a work folder, to their place in the store."""
        place = self.folder("artifacts") / manifest.digest
        serialization.write(folder / MANIFEST, manifest)
        for name in (*manifest.files, MANIFEST):
            (folder / name).chmod(0o444)
            durable.sync(folder / name)
        with self.locked("artifacts"):
            if place.exists() and _damage(place, manifest.digest, contents=True):
                place.rename(folder.parent / f"damaged-{manifest.digest}")
            if not place.exists():
                durable.sync(folder)
                folder.rename(place)
                durable.sync(place.parent)
            note_use(place)
            return load_artifacts(place)

    def hold(self, make: Callable[[], Artifacts], until: ExitStack) -> Artifacts:
        """The artifacts that ``make`` finds or builds, locked until ``until`` closes, so that no prune removes them.

        If a prune removes them before they are locked, ``make`` is called again. Artifacts outside the store are not
        locked.
        """
        while True:
            artifacts = make()
            if artifacts.folder.resolve().parent != (self.root / "artifacts").resolve():
                return artifacts
            descriptor = locks.lock_folder(artifacts.folder, is_shared=True)
            if descriptor is not None:
                until.callback(os.close, descriptor)
                note_use(artifacts.folder)
                return artifacts

    def built(
        self, key: str, *, contents: bool = False, damaged: Callable[[str], None] = lambda _: None
    ) -> Artifacts | None:
        """The artifacts that a build with the inputs ``key`` made, or None if they are missing or damaged.

        Sizes are compared with the manifest, and with ``contents`` every byte. ``damaged`` is called with a sentence
        about damaged artifacts.
        """
        try:
            note = json.loads((self.root / "builds" / f"{key}.json").read_text("utf-8"))
            place = self.root / "artifacts" / note["artifacts"]
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None
        if not place.is_dir():
            return None
        what = _damage(place, place.name, contents=contents)
        if what:
            damaged(what)
            return None
        note_use(place)
        return load_artifacts(place)

    def remember_build(self, key: str, artifacts: Artifacts, layers: Sequence[str] = ()) -> None:
        note = {"artifacts": artifacts.digest, "image": artifacts.manifest.image, "layers": layers}
        serialization.write(self.folder("builds") / f"{key}.json", note)

    def layer(self, key: str) -> Path | None:
        """The tar of that layer, if the store has it; asking for it is a use."""
        path = self.root / "layers" / f"{key}.tar"
        if not path.is_file():
            return None
        note_use(path)
        return path

    def layer_note(self, key: str) -> Any:
        """The note of that layer, as plain JSON; None if there is none. Asking for it is a use."""
        note_use(self.root / "layers" / f"{key}.json")
        return self._layer_note(key)

    def _layer_note(self, key: str) -> Any:
        try:
            return json.loads((self.root / "layers" / f"{key}.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def is_whole_layer(self, key: str) -> bool:
        """Whether the tar of that layer, which exists, is unchanged since it was added."""
        note, tar = self._layer_note(key), self.root / "layers" / f"{key}.tar"
        return isinstance(note, dict) and note.get("sha256") == digest.of_file(tar)

    def remove_layer(self, key: str) -> None:
        """Remove the tar of that layer; its note stays."""
        (self.root / "layers" / f"{key}.tar").unlink(missing_ok=True)

    def add_layer(self, key: str, tar: Path, note: dict[str, Any], *, kept: int = 2) -> None:
        """Move ``tar`` into the store; of the layers with the same ``note["for"]``, only the last ``kept`` stay.

        Notes stay without their tars: a note is enough to know that a build changes nothing.
        """
        folder = self.folder("layers")
        place = folder / f"{key}.tar"
        durable.sync(tar)
        sha256 = digest.of_file(tar)
        tar.replace(place)
        serialization.write(folder / f"{key}.json", {**note, "sha256": sha256})
        durable.sync(folder)
        others = [path for path in folder.glob("*.tar") if path != place and self._is_for(path, note["for"])]
        for path in sorted(others, key=modified_ns, reverse=True)[kept - 1 :]:
            path.unlink(missing_ok=True)

    def _is_for(self, tar: Path, purpose: str) -> bool:
        note = self._layer_note(tar.stem)
        return isinstance(note, dict) and note.get("for") == purpose

    def packages(self, suite: str) -> Path:
        """The folder of packages downloaded for ``suite``; asking for it is a use."""
        path = self.folder(f"debs/{suite}")
        note_use(path)
        return path

    def log(self, image: str, step: str) -> Path:
        """A new log for that step, in place of the last build's."""
        path = self.folder("logs") / f"{image}-{step}.log"
        path.write_bytes(b"")
        return path

    @contextmanager
    def locked(self, key: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """While the block lasts, no other process on this host makes what ``key`` names.

        ``waiting`` is called once if another process has the lock.
        """
        with locks.locked(self.folder("locks") / key, waiting=waiting):
            yield

    @contextmanager
    def workfolder(self, *, remove: Callable[[Path], None] = shutil.rmtree) -> Iterator[Path]:
        """An empty folder on the store's file system, removed when the block ends.

        Folders of dead processes are removed first. ``remove`` is for trees with files that this user may not remove.
        """
        place = self.folder("tmp")
        with self.locked("tmp"):
            for path in [path for path in place.iterdir() if not is_worked_in(path)]:
                with suppress(HostError, OSError):  # a build's tree, for which only a build has the rights
                    _remove(path, remove)
            folder = Path(tempfile.mkdtemp(dir=place))
            lock_file = (folder / _LOCK).open("wb")
            locks.lock(lock_file)
        try:
            yield folder
        finally:
            with suppress(HostError, OSError):  # the next work folder tries again
                _remove(folder, remove)
            lock_file.close()

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Turn every `OSError` in the block into a `HostError` that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(self.root) from error
            where = error.filename or self.root
            remedy = f"; the store {self.root} must be a folder that you can write: set BOOTPROOF_STORE to another"
            raise HostError(f"{where}: {error.strerror}{remedy}") from error


def disk_full(folder: Path) -> HostError:
    """The error for a write to ``folder`` on a full disk."""
    free_mib = shutil.disk_usage(folder).free >> 20
    return HostError(
        f"no space left in {folder} ({free_mib} MiB free): free some, for example with bootproof store prune, "
        "or set BOOTPROOF_STORE to a folder on a larger disk"
    )


def is_worked_in(path: Path) -> bool:
    """Whether a living process works in ``path``, a folder in ``tmp``."""
    return locks.is_locked(path / _LOCK)


def _remove(folder: Path, remove: Callable[[Path], None]) -> None:
    """Remove a work folder. Without its lock it looks stale to other processes, which may remove it too."""
    while folder.exists():
        with suppress(FileNotFoundError):
            remove(folder)


def _damage(folder: Path, name: str, *, contents: bool) -> str:
    """Why ``folder`` does not hold the artifacts with the digest ``name``, in a sentence; empty if it does."""
    try:
        artifacts = load_artifacts(folder)
    except UsageError as error:
        return str(error)
    if artifacts.digest != name:
        return f"{folder / MANIFEST} is the manifest of other artifacts: {artifacts.digest[:12]}…"
    return difference(artifacts) if contents else ""


def modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def note_use(path: Path) -> None:
    """Set the time of the last use of ``path`` to now. (Access times are not reliable: see noatime in mount(8).)"""
    with suppress(OSError):  # removed, or in a store that is read-only for this user
        os.utime(path)

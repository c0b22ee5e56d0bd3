"""The thin builder: `build` calls mmdebstrap, Ansible, dracut and mksquashfs in order, and records.

    packages ─mmdebstrap→ first layer ─Ansible→ second layer ─stamp, dracut, mksquashfs→ artifacts

Each arrow is skipped when the store holds what it would make.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness import digest, record
from harness.artifacts import Artifacts, Manifest
from harness.build import bootstrap, configure, initrd, namespace, pack
from harness.definition import ImageDefinition
from harness.errors import BootproofError
from harness.store import Store, disk_full

_FORMAT = 1
"""Another number makes every store pack again."""

_TAR_OPTIONS = ("--xattrs", "--xattrs-include=*", "--numeric-owner")
_DISK_FULL = ("No space left on device", "have enough free space")


class Progress(Protocol):
    """Who wants to know how far a build is."""

    def started(self, step: str, detail: str) -> None:
        """``step`` begins; ``detail`` says of what, or why it waits."""

    def ended(self, step: str, took_s: float) -> None:
        """``step`` is over, well or not."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A `Progress` that tells nobody."""

    def started(self, step: str, detail: str) -> None: ...

    def ended(self, step: str, took_s: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """What one call of `build` is about."""

    definition: ImageDefinition
    store: Store
    version: str
    mirror: str | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What is known of a first layer. ``content`` is the same for the same packages of the same archive."""

    key: str
    content: str
    archive: bootstrap.Archive


def build(
    definition: ImageDefinition,
    store: Store,
    *,
    version: str | None = None,
    refresh: bool = False,
    mirror: str | None = None,
    progress: Progress = Silent(),
) -> Artifacts:
    """The artifacts of ``definition``, from the store if nothing changed since they were made.

    ``version`` takes the place of the definition's own: only os-release, initrd and packing are done again.
    ``refresh`` asks the archive for newer packages; the same packages give the same artifacts. ``mirror`` is
    where packages are fetched, and leaves no trace. Call it from the main thread: when that ends, however it
    ends, so does every program of the build.

    Raises `ImageError` when the definition does not build, quoting the step's log, which is kept in the
    store's ``logs``; `HostError` when this machine lacks a program, namespaces, room or the network.
    """
    task = _Build(
        definition=definition,
        store=store,
        version=version or definition.version,
        mirror=mirror,
        progress=progress,
    )
    base = _base(task, refresh=refresh)
    found = store.built(_build_key(task, base))
    return found or _artifacts(task, base)


def _base(task: _Build, *, refresh: bool) -> _Base:
    key = bootstrap.layer_key(task.definition)
    known = _read_base(task.store, key)
    return known if known and not refresh else _bootstrap(task, key, refresh=refresh)


def _read_base(store: Store, key: str) -> _Base | None:
    note = store.layer_note(key)
    if note is None:
        return None
    return _Base(key=key, content=note["content"], archive=record.load(bootstrap.Archive, note["archive"]))


def _bootstrap(task: _Build, key: str, *, refresh: bool) -> _Base:
    """The first layer, made anew. The same packages as before are the same layer, whatever the archive's date."""
    with _alone(task, key), _workfolder(task) as folder:
        known = _read_base(task.store, key)
        if known and task.store.layer(key) and not refresh:
            return known
        detail = f"{task.definition.distribution} {task.definition.suite}"
        with _step(task, "bootstrap", detail) as log:
            archive = bootstrap.bootstrap(task.definition, task.store, folder, mirror=task.mirror, log=log)
        packages = pack.packages(folder / "tree")
        note = task.store.layer_note(key)
        if not known or note["packages"] != packages:
            plain = record.dump(archive)
            content = digest.of_value([packages, plain])
            note = {"for": f"packages {key}", "content": content, "archive": plain, "packages": packages}
        elif task.store.layer(key):
            return known
        _save_layer(task, folder, key, note, kept=1)
    return _Base(key=key, content=note["content"], archive=record.load(bootstrap.Archive, note["archive"]))


def _artifacts(task: _Build, base: _Base) -> Artifacts:
    """The last three steps, over the second layer."""
    base, layer = _configured(task, base)
    key = _build_key(task, base)
    with _alone(task, key), _workfolder(task) as folder:
        found = task.store.built(key)
        if found:
            return found
        (folder / "out").mkdir()
        with _step(task, "unpack", "") as log:
            _unpack_layer(task, folder, layer, log)
        manifest = _finish(task, base, folder)
        artifacts = task.store.add_artifacts(folder / "out", manifest)
        task.store.remember_build(key, artifacts)
    return artifacts


def _finish(task: _Build, base: _Base, folder: Path) -> Manifest:
    tree, epoch = folder / "tree", str(base.archive.epoch_s)
    with _step(task, "initrd", f"IMAGE_VERSION {task.version}") as log:
        stamp = namespace.inside(tree, "stamped", task.definition.name, task.version)
        namespace.run(stamp, log=log)
        kernel, contents = initrd.make_initrd(task.definition, folder, archive=base.archive, log=log)
        namespace.run(namespace.inside(tree, "anonymous", epoch), log=log)
    with _step(task, "pack", "") as log:
        packages = pack.packages(tree)
        pack.pack(folder, archive=base.archive, log=log)
    with _step(task, "describe", ""):
        return pack.describe_build(
            task.definition, task.version, folder / "out", kernel, contents, packages, base.archive
        )


def _configured(task: _Build, base: _Base) -> tuple[_Base, str]:
    """The key of the second layer, which is in the store when this returns, and the first one under it."""
    key = configure.layer_key(task.definition, base.content)
    if task.store.layer(key):
        return base, key
    if not task.store.layer(base.key):
        base = _bootstrap(task, base.key, refresh=False)
        key = configure.layer_key(task.definition, base.content)
    with _alone(task, key), _workfolder(task) as folder:
        if not task.store.layer(key):
            with _step(task, "configure", f"{task.definition.playbook} of {task.definition.name}") as log:
                _unpack_layer(task, folder, base.key, log)
                configure.configure(task.definition, task.store, folder, archive=base.archive, log=log)
            _save_layer(task, folder, key, {"for": f"image {task.definition.name}"}, kept=2)
    return base, key


def _build_key(task: _Build, base: _Base) -> str:
    layer = configure.layer_key(task.definition, base.content)
    return digest.of_value([_FORMAT, layer, task.version])


def _save_layer(task: _Build, folder: Path, key: str, note: Any, *, kept: int) -> None:
    tar = folder / "layer.tar"
    with _step(task, "keep", "") as log:
        namespace.run(["tar", "--create", "--file", str(tar), *_TAR_OPTIONS, "-C", str(folder / "tree"), "."], log=log)
        task.store.add_layer(key, tar, note, kept=kept)


def _unpack_layer(task: _Build, folder: Path, key: str, log: Path) -> None:
    tree, tar = folder / "tree", task.store.root / "layers" / f"{key}.tar"
    tree.mkdir()
    namespace.run(["tar", "--extract", "--file", str(tar), *_TAR_OPTIONS, "-C", str(tree)], log=log)


@contextmanager
def _step(task: _Build, name: str, detail: str) -> Iterator[Path]:
    """Tell when a step begins and ends; its log is what the block gets. A full disk is the host's fault."""
    log = task.store.log(task.definition.name, name)
    task.progress.started(name, detail)
    started_s = time.monotonic()
    try:
        yield log
    except (BootproofError, OSError) as error:
        text = log.read_text("utf-8", "replace")
        if any(sign in text or sign in str(error) for sign in _DISK_FULL):
            raise disk_full(task.store.root) from error
        raise
    finally:
        task.progress.ended(name, time.monotonic() - started_s)


def _alone(task: _Build, key: str) -> AbstractContextManager[None]:
    def waiting() -> None:
        task.progress.started("wait", f"another build of {task.definition.name} is at it")

    return task.store.locked(key, waiting=waiting)


def _workfolder(task: _Build) -> AbstractContextManager[Path]:
    return task.store.workfolder(remove=namespace.remove)

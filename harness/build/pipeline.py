"""Builds artifacts: `build` calls the distribution's bootstrap program, Ansible, dracut and mksquashfs in order.

    packages ─bootstrap→ first layer ─Ansible→ second layer ─dracut→ kernel, initrd ─stamp, mksquashfs→ artifacts

Each arrow is skipped if the store has its result.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

from harness.build import bootstrap, chroot, configure, distributions, initrd, pack
from harness.core import digest, serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.core.namespaces import remove
from harness.model.artifacts import Artifacts, Manifest
from harness.model.definition import DEFINITION_FILE, ImageDefinition, check_version
from harness.store.store import Store, disk_full

_FORMAT = 3
"""A new number makes every store pack again."""

_EARLIEST_S = 1735689600
"""2025-01-01: there was no Bootproof before."""
_MOST_AHEAD_S = 86400
_LAST_S = 253402300799
"""9999-12-31."""

_LEAST_BYTES = 1 << 20
_DISK_FULL = ("No space left on device", "have enough free space")


class Progress(Protocol):
    """Receives the progress of a build."""

    def started(self, step: str, detail: str) -> None:
        """``step`` begins; ``detail`` names its object, or says why it waits."""

    def ended(self, step: str, took_s: float) -> None:
        """``step`` has ended, with or without an error."""

    def damaged(self, what: str) -> None:
        """An item in the store cannot be used: ``what`` is a sentence."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A `Progress` that prints nothing."""

    def started(self, step: str, detail: str) -> None: ...

    def ended(self, step: str, took_s: float) -> None: ...

    def damaged(self, what: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """The arguments of one call of `build`."""

    definition: ImageDefinition
    store: Store
    version: str
    mirror: str | None
    verify: bool
    progress: Progress

    @property
    def distribution(self) -> distributions.Distribution:
        return distributions.of(self.definition.distribution)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """The note of a first layer: ``packages`` maps name to version."""

    packages: dict[str, str]
    archive: distributions.Archive

    @property
    def content(self) -> str:
        return digest.of_value(serialization.dump(self))


def build(
    definition: ImageDefinition,
    store: Store,
    *,
    version: str | None = None,
    refresh: bool = False,
    mirror: str | None = None,
    verify: bool = False,
    progress: Progress = Silent(),
) -> Artifacts:
    """The artifacts of ``definition``, from the store if nothing changed since they were made.

    ``version`` replaces the definition's own: only os-release and packing are done again. ``refresh`` asks the
    archive for newer packages; the same packages give the same artifacts. ``mirror`` is the URL that packages are
    fetched from; it leaves no trace. With ``verify``, every byte of the artifacts in the store is compared with their
    manifest. Damaged items in the store are made again. Call it from the main thread: when that ends, however it ends,
    every program of the build ends too.

    Raises `ImageError` if the definition does not build, quoting the step's log, which is kept in the store's
    ``logs``; `HostError` if this host lacks a program, namespaces, disk space, the network or the right time.
    """
    task = _Build(
        definition=definition,
        store=store,
        version=definition.version if version is None else check_version(version),
        mirror=mirror,
        verify=verify,
        progress=progress,
    )
    if mirror is not None and not re.fullmatch(r"[a-z+]+:/\S+", mirror):
        raise UsageError(f"--mirror {mirror!r} is not a URL; for example http://mirror.example/archive")
    if not definition.can_be_built:
        raise UsageError(
            f"{definition.folder / DEFINITION_FILE} has no [build]; --artifacts DIR names another builder's artifacts"
        )
    with store.writable():
        base = _read_base(task)
        found = base and store.built(_build_key(task, base), contents=verify)
        if found and not refresh:
            return found
        # One lock for all versions of an image: they share the log files, and usually the second layer.
        with _alone(task, f"image-{definition.name}"), store.workfolder(remove=remove) as folder:
            check_clock(time.time(), base.archive.epoch_s if base else 0)
            _check_mount(folder)
            return _make(task, folder, refresh=refresh)


def check_clock(now_s: float, archive_s: int) -> None:
    """`HostError` if the clock is wrong: signatures would not be valid, and new files older than the archive's.

    ``archive_s`` is the date of the package archive, 0 if it is not known yet.
    """
    if now_s < _EARLIEST_S:
        raise HostError(
            f"this host's clock says {_date(now_s)}, but it is at least {_date(_EARLIEST_S)}: timedatectl set-ntp true"
        )
    if now_s + _MOST_AHEAD_S < archive_s:
        raise HostError(
            f"the package archive has the date {_date(archive_s)}, but this host's clock says {_date(now_s)}; correct "
            "the clock (timedatectl set-ntp true), or the archive's metadata if the clock is right"
        )


def _date(moment_s: float) -> date:
    """In UTC; the last one that Python knows for those after it."""
    return datetime.fromtimestamp(min(moment_s, _LAST_S), UTC).date()


def _check_mount(folder: Path) -> None:
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise HostError(
            f"{folder.parent} is mounted noexec, but builds run the image's own programs there; "
            "set BOOTPROOF_STORE to another folder"
        )


def _make(task: _Build, folder: Path, *, refresh: bool) -> Artifacts:
    """Run the steps whose result the store lacks; between them, ``folder/tree`` is the last layer, or missing."""
    known = _read_base(task)
    base = known if known and not refresh else _bootstrapped(task, folder, refresh=refresh)
    found = task.store.built(
        _build_key(task, base), contents=task.verify, damaged=lambda what: _report_damage(task, what)
    )
    if found:
        return found
    base = _configured(task, base, folder)
    manifest = _finish(task, base, folder)
    artifacts = task.store.add_artifacts(folder / "out", manifest)
    second = configure.layer_key(task.definition, base.content)
    layers = [bootstrap.layer_key(task.definition), second, _boot_key(second)]
    task.store.remember_build(_build_key(task, base), artifacts, layers)
    return artifacts


def _bootstrapped(task: _Build, folder: Path, *, refresh: bool) -> _Base:
    """Make the first layer in the store. The same packages give the same layer, whatever the archive's date."""
    key, debs = bootstrap.layer_key(task.definition), f"debs-{task.definition.suite}"
    with _alone(task, key):
        known, held = _read_base(task), task.store.layer(key)
        if known and held and not refresh:
            return known
        with (
            _alone(task, debs),
            _step(task, "bootstrap", f"{task.definition.distribution} {task.definition.suite}") as log,
        ):
            archive = bootstrap.bootstrap(task.definition, task.store, folder, mirror=task.mirror, log=log)
            check_clock(time.time(), archive.epoch_s)
            packages = pack.packages(folder / "tree", task.distribution.database)
        base = known if known and known.packages == packages else _Base(packages=packages, archive=archive)
        if held and base == known:
            remove(folder / "tree")
        else:
            _keep_layer(task, folder, key, {"for": f"packages {key}", **serialization.dump(base)}, kept=1)
    return base


def _configured(task: _Build, base: _Base, folder: Path) -> _Base:
    """Make ``folder/tree`` the second layer; returns the first layer under it."""
    tree, first = folder / "tree", bootstrap.layer_key(task.definition)
    key = configure.layer_key(task.definition, base.content)
    if _unpack_layer(task, tree, key):
        return base
    if not tree.exists() and not _unpack_layer(task, tree, first):
        return _configured(task, _bootstrapped(task, folder, refresh=False), folder)
    what = f"{task.definition.playbook} of {task.definition.name}"
    with _alone(task, f"debs-{task.definition.suite}"), _step(task, "configure", what) as log:
        configure.configure(task.definition, task.store, folder, archive=base.archive, log=log)
    _keep_layer(task, folder, key, {"for": f"image {task.definition.name}"}, kept=2)
    return base


def _finish(task: _Build, base: _Base, folder: Path) -> Manifest:
    tree, epoch = folder / "tree", str(base.archive.epoch_s)
    _make_boot_files(task, base, folder)
    with _step(task, "stamp", f"IMAGE_VERSION {task.version}") as log:
        contents = initrd.stamp(task.definition, task.version, folder, archive=base.archive)
        chroot.run(chroot.tree_action(tree, "stamped", task.definition.name, task.version), log=log)
        chroot.run(chroot.tree_action(tree, "anonymous", epoch, *task.distribution.traces), log=log)
    with _step(task, "pack", "") as log:
        pack.check_labels(task.definition, tree)
        packages = pack.packages(tree, task.distribution.database)
        pack.pack(folder, archive=base.archive, log=log)
    with _step(task, "describe", ""):
        return pack.describe_build(task.definition, task.version, folder / "out", contents, packages, base.archive)


def _make_boot_files(task: _Build, base: _Base, folder: Path) -> None:
    """Put the kernel and the initrd of all versions into ``folder/out``."""
    out, key = folder / "out", _boot_key(configure.layer_key(task.definition, base.content))
    if _unpack_layer(task, out, key):
        return
    out.mkdir()
    with _step(task, "initrd", "dracut") as log:
        initrd.make_initrd(task.definition, folder, archive=base.archive, log=log)
    _keep_layer(task, folder, key, {"for": f"initrd {task.definition.name}"}, kept=2, of="out")


def _boot_key(second_layer: str) -> str:
    return digest.of_value(["kernel and initrd", second_layer])


def _read_base(task: _Build) -> _Base | None:
    """The store's note of the first layer; None if it is missing or not valid."""
    note = task.store.layer_note(bootstrap.layer_key(task.definition))
    try:
        return serialization.load(_Base, {name: note[name] for name in ("packages", "archive")})
    except (KeyError, TypeError, ValueError):
        return None


def _build_key(task: _Build, base: _Base) -> str:
    return digest.of_value([_FORMAT, configure.layer_key(task.definition, base.content), task.version])


def _keep_layer(task: _Build, folder: Path, key: str, note: Any, *, kept: int, of: str = "tree") -> None:
    tar = folder / "layer.tar"
    with _step(task, "keep", "") as log:
        pack.tar(folder / of, tar, log=log)
        task.store.add_layer(key, tar, note, kept=kept)


def _unpack_layer(task: _Build, tree: Path, key: str) -> bool:
    """Unpack that layer into ``tree``; False if the store does not have it, or it is damaged."""
    tar = task.store.layer(key)
    if tar is None:
        return False
    with _step(task, "unpack", "") as log:
        if not task.store.is_whole_layer(key):
            _report_damage(task, f"{tar} was changed after it was made")
            task.store.remove_layer(key)
            return False
        if tree.exists():
            remove(tree)
        pack.untar(tar, tree, log=log)
    return True


def _report_damage(task: _Build, what: str) -> None:
    task.progress.damaged(f"{what}; it is made again")


@contextmanager
def _step(task: _Build, name: str, detail: str) -> Iterator[Path]:
    """Report the begin and the end of a step, and yield its log. A full disk is a `HostError`."""
    log = task.store.log(task.definition.name, name)
    task.progress.started(name, detail)
    started_s = time.monotonic()
    try:
        yield log
    except (BootproofError, OSError) as error:
        output = f"{log.read_text('utf-8', 'replace')}{error}{error.__cause__}"
        is_full = shutil.disk_usage(task.store.root).free < _LEAST_BYTES
        if is_full or any(text in output for text in _DISK_FULL):
            raise disk_full(task.store.root) from error
        raise
    finally:
        task.progress.ended(name, time.monotonic() - started_s)


@contextmanager
def _alone(task: _Build, key: str) -> Iterator[None]:
    """While the block lasts, no other build on this host makes what ``key`` names; waiting for one is a step."""
    waited: list[float] = []

    def waiting() -> None:
        task.progress.started("wait", "another build on this host is making it")
        waited.append(time.monotonic())

    with task.store.locked(key, waiting=waiting):
        for started_s in waited:
            task.progress.ended("wait", time.monotonic() - started_s)
        yield

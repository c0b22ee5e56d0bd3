"""Checks the folders that runs and builds write to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import HostError
from harness.core.locks import try_lock
from harness.core.user import user_name
from harness.host.doctor.check import CheckState, HostCheck
from harness.store.store import find_store

_GIB = 1 << 30
_ROOM_GIB, _LEAST_GIB = 15, 3
_PLACES = ("/var/tmp", "/home", "/srv", "/mnt", "/data", "/opt")


def places() -> Iterator[HostCheck]:
    yield _store()
    yield _runs()


def _store() -> HostCheck:
    try:
        root = find_store().root
    except HostError as error:
        return HostCheck(name="store", state=CheckState.MISSING, detail=error.problem, remedy=_other_store())
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_gib = shutil.disk_usage(existing).free / _GIB
    problem = _problem_with(existing, root)
    if problem or free_gib < _LEAST_GIB:
        detail = f"{root}: {problem or f'{free_gib:.1f} GiB free; base needs {_LEAST_GIB}'}"
        return HostCheck(name="store", state=CheckState.MISSING, detail=detail, remedy=_other_store())
    if free_gib < _ROOM_GIB:
        detail = f"{root}: {free_gib:.0f} GiB free, enough for base; nova-kvm needs {_ROOM_GIB}"
        remedy = "bootproof store prune" if root.exists() else _other_store()
        return HostCheck(name="store", state=CheckState.LIMITED, detail=detail, remedy=remedy)
    return HostCheck(name="store", state=CheckState.OK, detail=f"{root}, {free_gib:.0f} GiB free")


def _problem_with(existing: Path, root: Path) -> str:
    """Why ``existing`` (the store, or its nearest existing parent) is not suitable, in a sentence; empty if it is."""
    if os.statvfs(existing).f_flag & os.ST_NOEXEC:
        return "is mounted noexec; builds run the image's own programs there"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=existing) as folder:
            problem = _problem_with_locks(Path(folder))
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return problem or next(filter(None, (_problem_with_moving(root, name) for name in ("artifacts", "layers"))), "")


def _problem_with_locks(folder: Path) -> str:
    first, second = os.open(folder, os.O_RDONLY), os.open(folder, os.O_RDONLY)
    try:
        if try_lock(first) and not try_lock(second):
            return ""
    except OSError as error:
        return f"flock(2) does not work there: {error.strerror} (a network file system?)"
    finally:
        os.close(first)
        os.close(second)
    return "flock(2) does not lock there (a network file system?)"


def _problem_with_moving(root: Path, name: str) -> str:
    """Files are made in tmp and renamed into place, which only works on one file system."""
    if not (root / name).is_dir() or not (root / "tmp").is_dir():
        return ""
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=root / name, ignore_cleanup_errors=True) as folder:
        moved = root / "tmp" / Path(folder).name
        try:
            Path(folder).rename(moved)
        except OSError as error:
            return f"{root / 'tmp'} and {root / name} must be on one file system: {error.strerror}"
        shutil.rmtree(moved, ignore_errors=True)
    return ""


def _other_store() -> str:
    """The command that moves the store to a folder with enough space, or its form if no such folder is found."""
    folders = [Path(place) for place in _PLACES if os.access(place, os.W_OK) and Path(place).is_dir()]
    roomy = [folder for folder in folders if shutil.disk_usage(folder).free >= _ROOM_GIB * _GIB]
    fit = next((folder for folder in roomy if not _problem_with(folder, folder)), None)
    return f"export BOOTPROOF_STORE={fit / f'bootproof-{user_name()}' if fit else '/a/folder/with/room'}"


def _runs() -> HostCheck:
    folder = Path.cwd() / "runs"
    try:
        with tempfile.TemporaryFile(dir=folder if folder.exists() else folder.parent):
            pass
    except OSError as error:
        detail = f"{folder} cannot be written: {error.strerror}; --run-dir names another folder"
        remedy = f"pytest --image base --run-dir {tempfile.gettempdir()}/runs"
        return HostCheck(name="runs", state=CheckState.LIMITED, detail=detail, remedy=remedy)
    return HostCheck(name="runs", state=CheckState.OK, detail=f"{folder}: logs and verdicts")

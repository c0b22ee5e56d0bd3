"""What a host gets of a run, and what comes back: tar archives that are made and unpacked as they pass."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError, UsageError
from harness.model.artifacts import Artifacts, difference, load_artifacts
from harness.pool.frames import FrameReader, FrameWriter
from harness.store.store import Store

REPOSITORY, PLAN, RUNS = "repository", "plan.json", "runs"
"""In a host's folder of a run: the files of the repository, the plan, and the folder for the part."""

_LEFT_OUT = {".git", ".venv", "__pycache__", "node_modules", ".tox", ".mypy_cache", ".ruff_cache"}
_NOT_SENT = ("id_ed25519", "id_ed25519.pub", "latest")
_ARTIFACTS, _BUILDS, _LAYERS = "artifacts", "builds", "layers"


def pack_repository(root: Path, plan: Path, archive: Path) -> None:
    """Write the files of the repository at ``root``, and the ``plan``, to ``archive``: what git knows or would add,
    else all but hidden and generated files."""
    with tarfile.open(archive, "w") as tar:
        for name in _repository_files(root):
            if os.path.lexists(root / name):  # one that git knows may have been removed
                tar.add(root / name, f"{REPOSITORY}/{name}", recursive=False)
        tar.add(plan, PLAN)


def _repository_files(root: Path) -> Iterable[str]:
    argv = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    with suppress(HostError):
        if names := process.output(argv):
            return sorted(name for name in set(names.split("\0")) if name and not name.startswith(f"{RUNS}/"))
    return _files_below(root)


def _files_below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        place = Path(folder).relative_to(root)
        if place == Path():
            folders[:] = [name for name in folders if name != RUNS]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (str(place / name) for name in sorted([*files, *links]))


def send_archive(archive: Path, writer: FrameWriter) -> None:
    with archive.open("rb") as file:
        shutil.copyfileobj(file, writer, 1 << 18)
    writer.end()


def unpack(reader: FrameReader, folder: Path) -> None:
    """`HostError` where the disk is full; no file of the archive can lie outside of ``folder``."""
    try:
        with tarfile.open(fileobj=reader, mode="r|") as tar:
            tar.extractall(folder, filter="data")
        reader.drain()
    except tarfile.TarError as error:
        raise HostError(f"the files of the run did not arrive whole: {error}") from error
    except OSError as error:
        raise HostError(f"{folder} cannot be written: {error.strerror or error}") from error


def send_artifacts(digest: str, store: Store, writer: FrameWriter) -> None:
    """The artifacts, and the store's notes of their build, so that the other host need not build them."""
    with tarfile.open(fileobj=writer, mode="w|") as tar:
        tar.add(store.artifacts(digest).folder, _ARTIFACTS)
        for note in _notes_of(digest, store):
            tar.add(note, f"{note.parent.name}/{note.name}")
    writer.end()


def _notes_of(digest: str, store: Store) -> Iterator[Path]:
    for note in sorted((store.root / _BUILDS).glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            plain = json.loads(note.read_text("utf-8"))
            if plain["artifacts"] == digest:
                yield note
                layers = (store.root / _LAYERS / f"{key}.json" for key in plain.get("layers", ()))
                yield from (layer for layer in layers if layer.is_file())


def take_artifacts(digest: str, reader: FrameReader, store: Store) -> Artifacts:
    """Add what `send_artifacts` sends to ``store``, once every byte is as its manifest says."""
    with store.writable(), store.workfolder() as work:
        unpack(reader, work)
        found = load_artifacts(work / _ARTIFACTS)
        if found.digest != digest or (what := difference(found)):
            raise HostError(
                f"the artifacts {digest[:12]} did not arrive whole: {what if found.digest == digest else ''}"
            )
        for folder in (_BUILDS, _LAYERS):
            for note in (work / folder).glob("*.json"):
                shutil.copyfile(note, store.folder(folder) / note.name)
        (work / "add").mkdir()
        return store.add_artifacts((work / _ARTIFACTS).rename(work / "add" / "out"), found.manifest)


def has_artifacts(digest: str, store: Store) -> bool:
    """Whether every byte of them is there."""
    try:
        return not difference(store.artifacts(digest))
    except UsageError:
        return False


def send_runs(folder: Path, writer: FrameWriter) -> None:
    """The folders of the part's runs, without keys."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        is_link = member.issym() and not member.linkname.startswith("/")
        is_kept = member.isreg() or member.isdir() or is_link
        return member if is_kept and Path(member.name).name not in _NOT_SENT else None

    with tarfile.open(fileobj=writer, mode="w|") as tar:
        for run in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            tar.add(run, run.name, filter=kept)
    writer.end()

"""Brings artifacts of a published tree into the store: once a host, resumed after an interruption, every byte verified.

The tree is a folder, an http(s) URL or a remote of rclone with artifacts/DIGEST/manifest.json and the files that the
manifest names. What was received so far is in incoming/DIGEST of the store, locked by the process that receives.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from harness.build.pipeline import Progress
from harness.core import digest, durable, process, serialization
from harness.core.errors import HostError, UsageError
from harness.core.locks import lock_folder
from harness.core.process import CommandFailed
from harness.core.text import size
from harness.model.artifacts import MANIFEST, Artifacts, FileRecord, InTree, Manifest, check_names
from harness.promotion.remote import rclone_argv
from harness.store.store import Store, disk_full

_MANIFEST_BYTES = 16 << 20
"""More than any manifest has: about 50 bytes a package."""

_CURL = ("--fail", "--silent", "--show-error", "--location", "--proto", "=http,https", "--connect-timeout", "20",
         "--speed-limit", "1024", "--speed-time", "30",
         "--retry", "2", "--retry-connrefused", "--retry-max-time", "20")  # fmt: skip
"""curl(1): a transfer below 1 KiB/s for 30 s ends; a server that refuses or is busy is asked again after 1 and 3 s. A
transfer that took longer than 20 s is not repeated by curl, which would discard what it received."""

_NO_RANGES = 33
"""curl(1), exit codes: "HTTP range error", the server sends whole files only."""


class Missing(Exception):
    """The tree does not have the file."""


class Source(Protocol):
    """A tree that artifacts are received from."""

    def find(self, beginning: str) -> Sequence[str]:
        """What there is whose name begins so; `UsageError` where that cannot be known."""

    def get(self, name: str, target: Path, most_bytes: int) -> None:
        """Write ``artifacts/name`` to ``target``, whose bytes so far may be kept, but little more than ``most_bytes``.

        `Missing` if there is no such file, `HostError` if it cannot be received.
        """


def bring(wanted: InTree, image: str, store: Store, progress: Progress) -> Artifacts:
    """The artifacts of ``image`` in the store; those that it lacks are received first.

    `UsageError` if the tree does not have them, or they are of another image; `HostError` if they cannot be received,
    or any byte differs from the manifest.
    """
    if artifacts := store.whole_artifacts(wanted.digest):
        return _of_image(artifacts, image)
    source = source_of(wanted.tree)
    name = _full_digest(source, wanted)
    with store.writable(), _receiving(store, name, progress) as folder:
        if artifacts := store.whole_artifacts(name):  # another process has just brought them
            shutil.rmtree(folder)
            return _of_image(artifacts, image)
        return _received(source, InTree(tree=wanted.tree, digest=name), image, store, folder, progress)


def source_of(tree: str) -> Source:
    if urlsplit(tree).scheme in ("http", "https"):
        return _Http(tree)
    if ":" in tree and not Path(tree).exists():
        return _Remote(tree)
    if not Path(tree).is_dir():
        raise UsageError(f"the published tree {tree} does not exist: expected a folder, a URL or rclone's REMOTE:PATH")
    return _Folder(Path(tree))


def _full_digest(source: Source, wanted: InTree) -> str:
    found = [wanted.digest]
    if len(wanted.digest) < 64:
        found = [name for name in source.find(wanted.digest) if re.fullmatch(r"[0-9a-f]{64}", name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{_shown(wanted.tree)} has {len(found)} artifacts {wanted.digest}…; give more digits")
    raise _absent(wanted)


def _absent(wanted: InTree) -> UsageError:
    return UsageError(
        f"{_shown(wanted.tree)} has no artifacts {wanted.digest[:12]}; send them from a host that has them: "
        f"bootproof push {wanted.digest} TREE"
    )


def _of_image(artifacts: Artifacts, image: str) -> Artifacts:
    _check_image(artifacts.manifest, image, f"the artifacts {artifacts.digest[:12]}")
    return artifacts


def _check_image(manifest: Manifest, image: str, what: str) -> None:
    if manifest.image != image:
        raise UsageError(f"{what} are of the image {manifest.image}, not of {image}")


@contextmanager
def _receiving(store: Store, name: str, progress: Progress) -> Iterator[Path]:
    """The folder with what was received so far of the artifacts ``name``; no other process receives them meanwhile."""
    waits = False
    while True:
        folder = store.folder(f"incoming/{name}")
        descriptor = lock_folder(folder, waits=waits)
        if descriptor is not None:
            break
        if not waits:
            progress.started("wait", f"for the artifacts {name[:12]}, which another process brings")
        waits = True
    try:
        yield folder
    finally:
        os.close(descriptor)


def _received(source: Source, wanted: InTree, image: str, store: Store, folder: Path, progress: Progress) -> Artifacts:
    manifest = _manifest(source, wanted, folder)
    _check_image(manifest, image, f"the artifacts {wanted.digest[:12]} in {_shown(wanted.tree)}")
    left = [name for name, record in manifest.files.items() if _problem(folder / name, record)]
    left_bytes = sum(manifest.files[name].size_bytes for name in left)
    if left_bytes > shutil.disk_usage(folder).free:
        raise disk_full(store.root)
    began_s = time.monotonic()
    progress.started("bring", f"{wanted.digest[:12]}, {size(left_bytes)} from {_shown(wanted.tree)}")
    for name in left:
        _receive(source, wanted, name, manifest.files[name], folder)
    progress.ended("bring", time.monotonic() - began_s)
    with store.workfolder() as work:
        place = work / "out"
        place.mkdir()
        for name in manifest.files:
            (folder / name).rename(place / name)
        artifacts = store.add_artifacts(place, manifest)
    shutil.rmtree(folder)
    return artifacts


def _manifest(source: Source, wanted: InTree, folder: Path) -> Manifest:
    file, where = folder / MANIFEST, f"{_shown(wanted.tree)}/artifacts/{wanted.digest}/{MANIFEST}"
    file.unlink(missing_ok=True)
    try:
        source.get(f"{wanted.digest}/{MANIFEST}", file, _MANIFEST_BYTES)
    except Missing:
        raise _absent(wanted) from None
    try:
        if file.stat().st_size > _MANIFEST_BYTES:
            raise ValueError(f"it has more than {size(_MANIFEST_BYTES)}")
        manifest = serialization.read(Manifest, file)
    except ValueError as error:
        raise HostError(f"{where} is not a manifest: {str(error).partition(chr(10))[0]}") from None
    if manifest.digest != wanted.digest:
        raise HostError(f"{where} is the manifest of other artifacts: {manifest.digest[:12]}…; push them again")
    check_names(manifest, where)
    return manifest


def _receive(source: Source, wanted: InTree, name: str, record: FileRecord, folder: Path) -> None:
    """The file ``name`` in ``folder``, with the bytes that the manifest says.

    The bytes of an earlier try are kept; if the whole is then wrong, the file is received once more from its start.
    """
    file = folder / name
    if file.exists() and file.stat().st_size >= record.size_bytes:
        file.unlink()  # its bytes are wrong
    was_begun = file.exists()
    problem = _got(source, wanted, name, record, file)
    if problem and was_begun:
        problem = _got(source, wanted, name, record, file)
    if problem:
        raise HostError(
            f"{_shown(wanted.tree)}/artifacts/{wanted.digest}/{name} {problem}; compare the tree with the host that "
            "sent it, and send it again"
        )


def _got(source: Source, wanted: InTree, name: str, record: FileRecord, file: Path) -> str:
    try:
        source.get(f"{wanted.digest}/{name}", file, record.size_bytes)
    except Missing:
        return "is missing: the tree was sent in part"
    if problem := _problem(file, record):
        file.unlink()
    return problem


def _problem(file: Path, record: FileRecord) -> str:
    """What is wrong with the received ``file``; empty if nothing is."""
    if not file.is_file():
        return "is missing"
    seen = file.stat().st_size
    if seen > record.size_bytes:
        return f"has more than the {record.size_bytes} bytes of its manifest"
    if seen < record.size_bytes:
        return f"has {seen} bytes, but {record.size_bytes} by its manifest"
    is_same = digest.of_file(file) == record.sha256
    return "" if is_same else "has other bytes than its manifest says"


def _shown(tree: str) -> str:
    """A URL without the password in it."""
    return re.sub(r"//[^/@]*@", "//…@", tree)


# Sources


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def find(self, beginning: str) -> Sequence[str]:
        return [path.name for path in sorted((self.root / "artifacts").glob(f"{beginning}*")) if path.is_dir()]

    def get(self, name: str, target: Path, most_bytes: int) -> None:
        source = self.root / "artifacts" / name
        if not source.is_file():
            raise Missing
        if source.stat().st_size > most_bytes:
            target.write_bytes(b"")
            os.truncate(target, most_bytes + 1)  # too large, without a copy
            return
        target.unlink(missing_ok=True)
        durable.copy(source, target)


@dataclass(frozen=True, slots=True)
class _Http:
    url: str

    def find(self, beginning: str) -> Sequence[str]:
        raise UsageError(f"{_shown(self.url)}@{beginning}: a web server lists no artifacts; give all 64 digits")

    def get(self, name: str, target: Path, most_bytes: int) -> None:
        """A transfer that breaks off is continued as long as each try gets further than all before."""
        furthest = _size(target)
        while True:
            begun = _size(target)
            failed = self._try(name, target, most_bytes)
            reached = _size(target)
            if failed is None or reached > most_bytes:
                return
            if begun and (failed.status == _NO_RANGES or " 416" in failed.tail):
                target.unlink()  # it cannot be continued
            elif reached <= furthest:
                raise HostError(
                    f"{_shown(self.url)}/artifacts/{name} cannot be fetched: {_last_line(failed)}"
                ) from failed
            furthest = max(furthest, reached)

    def _try(self, name: str, target: Path, most_bytes: int) -> CommandFailed | None:
        argv = [process.require("curl", "curl"), *_CURL, "--continue-at", "-", "--output", str(target)]
        try:
            process.output(_limited([*argv, f"{self.url}/artifacts/{name}"], most_bytes))
        except CommandFailed as error:
            if " 404" in error.tail or " 410" in error.tail:
                raise Missing from error
            return error
        return None


@dataclass(frozen=True, slots=True)
class _Remote:
    place: str

    def find(self, beginning: str) -> Sequence[str]:
        argv = [*rclone_argv(), "lsf", "--dirs-only", "--include", f"/{beginning}*/**", f"{self.place}/artifacts"]
        try:
            return process.output(argv).replace("/", "").split()
        except CommandFailed as error:
            if "directory not found" in error.tail:
                return []
            raise self._failed("artifacts", error) from error

    def get(self, name: str, target: Path, most_bytes: int) -> None:
        argv = [*rclone_argv(), "copyto", f"{self.place}/artifacts/{name}", str(target)]
        try:
            process.output(_limited(argv, most_bytes))
        except CommandFailed as error:
            if "not found" in error.tail:
                raise Missing from error
            if not (target.exists() and target.stat().st_size > most_bytes):
                raise self._failed(f"artifacts/{name}", error) from error

    def _failed(self, below: str, error: CommandFailed) -> HostError:
        return HostError(f"{self.place}/{below} cannot be fetched: {_last_line(error)}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _last_line(error: CommandFailed) -> str:
    return error.tail.splitlines()[-1] if error.tail else f"status {error.status}"


def _limited(argv: Sequence[str], most_bytes: int) -> list[str]:
    """No file that it writes is longer than one byte more: setrlimit(2), RLIMIT_FSIZE."""
    return [process.require("prlimit", "util-linux"), f"--fsize={most_bytes + 1}", *argv]

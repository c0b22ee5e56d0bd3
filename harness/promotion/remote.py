"""A published tree on remote storage, by rclone: artifacts are sent first, then the attestation, the pointer last.

What a promotion needs of the remote tree is fetched into a local one, and what changed there is sent. A remote stream
is two objects that change one after the other: IMAGE/STREAM/boot.ipxe, which machines read, and IMAGE/STREAM.json,
which decides where the stream points; the next promotion sends both again. Each is renamed into place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError
from harness.core.process import CommandFailed
from harness.model.artifacts import MANIFEST, Artifacts
from harness.promotion.attest import NotVerified
from harness.promotion.published_tree import Pointer, PublishedTree, read_pointer
from harness.store.store import find_store

_SCRIPT = "boot.ipxe"


@dataclass(frozen=True, slots=True)
class LocalTree:
    """A tree on this host, from which nothing needs to be fetched."""

    tree: PublishedTree

    def fetch_artifacts(self, image: str, stream: str) -> None: ...

    def fetch_digest(self, name: str) -> None: ...

    def publish(self, pointer: Pointer) -> None: ...


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """The tree at ``place``, rclone's REMOTE:PATH; ``tree`` holds the part of it that was fetched or is to be sent."""

    place: str
    tree: PublishedTree

    def fetch_streams(self, image: str) -> None:
        """Fetch the streams of ``image``, or of every image, with the manifests and attestations they point to."""
        below, depth = (f"streams/{image}", "/*") if image else ("streams", "/*/*")
        self._fetch(below, ["--exclude", f"{depth}/{_SCRIPT}", "--exclude", f"{depth}/history.jsonl"])
        for pointer in (self.tree.root / "streams").glob("*/*.json"):
            self._unfold(pointer)

    def _unfold(self, file: Path) -> None:
        """Make the links that a tree on a file system has; `NotVerified` for a changed pointer."""
        pointer = read_pointer(file.read_bytes(), f"{self.place}: {file.name}")
        if (pointer.image, f"{pointer.stream}.json") != (file.parent.name, file.name):
            raise NotVerified(
                f"{self.place}: {file.name} is about {pointer.image} {pointer.stream}", "restore it from a copy"
            )
        link = file.with_suffix("")
        shutil.rmtree(link, ignore_errors=True)
        link.symlink_to(Path(".generations") / pointer.generation)
        file.unlink()
        file.symlink_to(Path(link.name) / "stream.json")
        if self.tree.current(pointer.image, pointer.stream) != pointer:
            raise NotVerified(f"{self.place}: {file.name} was sent in part", "promote again from the host that sent it")
        for attestation in pointer.entry.attestations:
            self._fetch(f"attestations/{attestation}")
        self._fetch(
            f"artifacts/{pointer.entry.artifacts}", ["--include", MANIFEST], into=f"manifests/{pointer.entry.artifacts}"
        )

    def fetch_artifacts(self, image: str, stream: str) -> None:
        """Fetch all artifacts and attestations in the history of ``stream``."""
        for entry in self.tree.history(image, stream):
            self._fetch(f"artifacts/{entry.artifacts}")
            for attestation in entry.attestations:
                self._fetch(f"attestations/{attestation}")

    def fetch_digest(self, name: str) -> None:
        """Fetch the artifacts of that digest, if the tree has them."""
        self._fetch(f"artifacts/{name}")

    def publish(self, pointer: Pointer) -> None:
        """Send the artifacts and the attestations of ``pointer``, then ``pointer`` itself."""
        entry, streams = pointer.entry, f"streams/{pointer.image}"
        for folder in (f"artifacts/{entry.artifacts}", *(f"attestations/{name}" for name in entry.attestations)):
            self._send(folder)
        generation = f"{streams}/.generations/{pointer.generation}"
        self._send(generation)
        local = self.tree.root / generation
        self._replace(local / "history.jsonl", f"{streams}/{pointer.stream}/history.jsonl")
        self._replace(local / _SCRIPT, f"{streams}/{pointer.stream}/{_SCRIPT}")
        self._replace(local / "stream.json", f"{streams}/{pointer.stream}.json")

    def send_artifacts(self, artifacts: Artifacts) -> bool:
        """Send ``artifacts``, their manifest last; False if they were there. `HostError` if the copy differs."""
        place = f"{self.place}/artifacts/{artifacts.digest}"
        names = [f"--include=/{name}" for name in artifacts.manifest.files]
        try:
            was_there = MANIFEST in process.output([*rclone_argv(), "lsf", place]).split()
        except CommandFailed:  # there is no such folder, or the copy will say what is wrong
            was_there = False
        if not was_there:
            self._rclone("copy", "--checksum", *names, str(artifacts.folder), place)
            self._rclone("copyto", str(artifacts.folder / MANIFEST), f"{place}/{MANIFEST}")
        self._rclone("check", "--one-way", *names, f"--include=/{MANIFEST}", str(artifacts.folder), place)
        return not was_there

    def _fetch(self, below: str, options: Iterable[str] = (), into: str = "") -> None:
        into = str(self.tree.root / (into or below))
        self._rclone("copy", f"{self.place}/{below}", into, *options, may_be_missing=True)

    def _send(self, below: str) -> None:
        """Send a folder; existing files are compared by content where the remote can hash. A check ends it."""
        self._rclone("copy", "--checksum", str(self.tree.root / below), f"{self.place}/{below}")
        self._rclone("check", "--one-way", str(self.tree.root / below), f"{self.place}/{below}")

    def _replace(self, local: Path, below: str) -> None:
        self._rclone("copyto", str(local), f"{self.place}/{below}.new")
        self._rclone("moveto", f"{self.place}/{below}.new", f"{self.place}/{below}")

    def _rclone(self, *arguments: str, may_be_missing: bool = False) -> None:
        """Run rclone; `HostError` if it fails, except for a missing source with ``may_be_missing``."""
        try:
            process.output([*rclone_argv(), *arguments])
        except CommandFailed as error:
            if not (may_be_missing and "directory not found" in error.tail):
                raise HostError(
                    f"{self.place}: rclone failed; the streams there are unchanged:\n{error.tail}"
                ) from error


def rclone_argv() -> list[str]:
    return [process.require("rclone", "rclone"), "--retries", "1", "--low-level-retries", "3"]


def open_tree(given: str, image: str, until: ExitStack) -> LocalTree | RemoteTree:
    """The tree that ``given`` names: a folder, or rclone's REMOTE:PATH, whose streams of ``image`` are fetched."""
    if ":" not in given or Path(given).exists():
        return LocalTree(PublishedTree(Path(given).absolute()))
    folder = until.enter_context(find_store().workfolder())
    remote = RemoteTree(given, PublishedTree(folder / "tree"))
    remote.tree.root.mkdir()
    remote.fetch_streams(image)
    return remote

"""The published tree: the folder from which machines boot, over any HTTP server.

    artifacts/DIGEST/…                 the artifacts; never changed
    attestations/SHA256/…              an attestation and its bill of materials, by the former's digest; never changed
    streams/IMAGE/STREAM/              a link to one of the generations: moving it is the promotion
        stream.json                    the artifacts that the stream points to, since when, and by which verdict
        boot.ipxe                      the script that machines chain to
        history.jsonl                  all promotions, the latest last; each line has the digest of the one before
    streams/IMAGE/STREAM.json          a link to stream.json
    streams/IMAGE/.generations/…       the current generation of each stream

All three files of a generation change in one step, by replacing the link. A promotion that is killed before that step
leaves the old generation in place, and a new one without a link to it, which the next promotion removes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core import digest, durable, serialization
from harness.core.errors import HostError, UsageError
from harness.core.locks import try_lock
from harness.model.artifacts import MANIFEST, Artifacts
from harness.model.layout import ATTESTATION, SBOM, STATEMENT
from harness.model.machine_spec import BootPath
from harness.promotion.attest import NotVerified
from harness.qemu.ipxe import published_script
from harness.qemu.kernel_arguments import kernel_arguments
from harness.store.store import disk_full

_POINTER, _SCRIPT, _HISTORY = "stream.json", "boot.ipxe", "history.jsonl"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIRST = ""
"""The ``previous`` of the first line of a history."""


def is_name(text: str) -> bool:
    """Whether an image or a stream can have that name."""
    return bool(_NAME.fullmatch(text)) and not text.endswith(".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One line of a history. ``action`` is promote or rollback.

    ``artifacts``, ``attestation``, ``policy`` and ``script`` (of boot.ipxe) are SHA-256, and so are the ``further``
    attestations of a promotion that several runs prove; ``by`` names the keys that signed them; ``previous`` is the
    digest of the line before. `ValueError` for an invalid digest, because paths are made of them.
    """

    at: str
    action: str
    artifacts: str
    version: str
    attestation: str
    policy: str
    by: str
    script: str
    previous: str
    further: tuple[str, ...] = ()

    @property
    def attestations(self) -> tuple[str, ...]:
        """All attestations that prove it."""
        return (self.attestation, *self.further)

    def __post_init__(self) -> None:
        for name in (self.artifacts, *self.attestations):
            if not _DIGEST.fullmatch(name):
                raise ValueError(f"{name!r} is not a SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """The artifacts that a stream points to: the last line of its history, and the number of lines."""

    image: str
    stream: str
    number: int
    entry: StreamEntry

    def __post_init__(self) -> None:
        for name in (self.image, self.stream):
            if not is_name(name):
                raise ValueError(f"{name!r} is not a valid name of an image or a stream")

    @property
    def generation(self) -> str:
        return f"{self.stream}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The bytes of an attestation and of the bill of materials that it names."""

    attestation: bytes
    sbom: bytes

    @property
    def name(self) -> str:
        return digest.of_bytes(self.attestation)

    @property
    def files(self) -> dict[str, bytes]:
        return {ATTESTATION: self.attestation, SBOM: self.sbom}


def read_proof(folder: Path) -> Proof:
    """The proof in the ``folder`` of a run; `NotVerified` if it is incomplete."""
    try:
        return Proof(attestation=(folder / ATTESTATION).read_bytes(), sbom=(folder / SBOM).read_bytes())
    except FileNotFoundError as error:
        if Path(error.filename).name == SBOM:
            why, remedy = "it was removed, or not copied with the attestation", "restore it, or run the tests again"
        elif (folder / STATEMENT).exists():
            why, remedy = "the run did not sign its verdict", f"run bootproof attest sign {folder} --key KEY"
        else:
            why, remedy = "the run did not sign its verdict", "run the tests with --sign-key KEY"
        raise NotVerified(f"{error.filename} is missing: {why}", remedy) from error


@dataclass(frozen=True, slots=True)
class PublishedTree:
    """A published tree at ``root``; only `put`, `put_proof` and `move` write."""

    root: Path

    def artifacts(self, name: str) -> Path:
        return self.root / "artifacts" / name

    def manifest(self, name: str) -> Path:
        """The manifest of the artifacts ``name``; of a remote tree, it is fetched without the other files."""
        there = self.artifacts(name) / MANIFEST
        return there if there.exists() else self.root / "manifests" / name / MANIFEST

    def current(self, image: str, stream: str) -> Pointer | None:
        """Where the stream points; None if there is no such stream. `NotVerified` if it was changed by hand."""
        link = self._stream(image, stream)
        if not link.is_dir():
            return None
        beside = link.with_name(f"{stream}.json")
        if beside.exists() and not (beside.is_symlink() and beside.readlink() == Path(stream) / _POINTER):
            raise _changed(beside)
        return _read_generation(link.resolve(), image, stream)[0]

    def history(self, image: str, stream: str) -> tuple[StreamEntry, ...]:
        """All promotions and rollbacks of the stream, the latest last; `NotVerified` if it was changed by hand."""
        folder = self._stream(image, stream)
        if not folder.is_dir():
            known = ", ".join(" ".join(each) for each in self.streams()) or "none"
            raise UsageError(f"{self.root} has no stream {stream} of {image}; known: {known}")
        return _read_generation(folder.resolve(), image, stream)[1]

    def streams(self) -> Iterator[tuple[str, str]]:
        """Each image and stream."""
        for link in sorted((self.root / "streams").glob("*/*")):
            if link.is_symlink() and link.is_dir():
                yield link.parent.name, link.name

    def _stream(self, image: str, stream: str) -> Path:
        for name in (image, stream):
            if not is_name(name):
                raise UsageError(
                    f"{name!r} is not a valid name of an image or a stream: letters, digits and ._- only, no .json"
                )
        return self.root / "streams" / image / stream

    # Writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While the block lasts, no other promotion writes here."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("ab")
        except OSError as error:
            raise HostError(f"{self.root} cannot be written: {error.strerror}") from error
        with lock:
            if not try_lock(lock):
                raise HostError(f"another promotion is running in {self.root}; wait until it has ended, then try again")
            try:
                yield
            except OSError as error:
                if error.errno in (28, 122):  # ENOSPC, EDQUOT
                    raise disk_full(self.root) from error
                raise HostError(f"{error.filename or self.root}: {error.strerror}") from error

    def put(self, artifacts: Artifacts, files: dict[str, str]) -> None:
        """Add artifacts with the attested ``files`` (name to SHA-256).

        Files are copied and hashed in one pass; those that exist are hashed. `NotVerified` if a byte differs.
        """
        place = self.artifacts(artifacts.digest)
        if place.exists():
            check_files(place, files)
            return
        self._clean()
        with durable.made(place) as half_made:
            for name, awaited in files.items():
                source = artifacts.folder / name
                try:
                    seen = durable.copy(source, half_made / name)
                except FileNotFoundError as error:
                    raise NotVerified(f"{source} is missing", "build it again") from error
                if seen != awaited:
                    raise _other_bytes(source, awaited, seen)

    def put_proof(self, proof: Proof) -> None:
        """Add an attestation and its bill of materials."""
        place = self.root / "attestations" / proof.name
        if place.exists():
            check_files(place, {name: digest.of_bytes(content) for name, content in proof.files.items()})
            return
        with durable.made(place) as half_made:
            for name, content in proof.files.items():
                durable.write(half_made / name, content)

    def proof(self, name: str) -> Proof:
        """The proof by the digest of its attestation; `NotVerified` if that is missing or changed."""
        folder = self.root / "attestations" / name
        check_files(folder, {ATTESTATION: name})
        return read_proof(folder)

    def proofs(self, entry: StreamEntry) -> tuple[Proof, ...]:
        """All proofs of a promotion, as `proof`."""
        return tuple(self.proof(name) for name in entry.attestations)

    def move(self, image: str, stream: str, entry: StreamEntry, script: str) -> Pointer:
        """Point the stream to the artifacts of ``entry``, in one step."""
        link = self._stream(image, stream)
        history = self.history(image, stream) if link.is_dir() else ()
        previous = _digest(history[-1]) if history else _FIRST
        entries = [*history, replace(entry, previous=previous, script=digest.of_bytes(script.encode()))]
        pointer = Pointer(image=image, stream=stream, number=len(entries), entry=entries[-1])
        generations = link.parent / ".generations"
        generations.mkdir(parents=True, exist_ok=True)
        generation = generations / pointer.generation
        self._clean()
        generation.mkdir()
        generation.chmod(0o755)
        durable.write(generation / _HISTORY, b"".join(_line(one) for one in entries))
        durable.write(generation / _SCRIPT, script.encode())
        durable.write(generation / _POINTER, _sealed(pointer))
        proven = [self.root / "artifacts", self.root / "attestations"]
        for folder in (generation, generations, link.parent, link.parent.parent, *proven, self.root):
            durable.sync(folder)
        durable.link(generation.relative_to(link.parent), link)
        durable.link(Path(stream) / _POINTER, link.with_name(f"{stream}.json"))
        durable.sync(link.parent)
        return pointer

    def _clean(self) -> None:
        """Remove what killed promotions have left, and all generations but the current ones."""
        left = [
            path for name in ("artifacts", "attestations", "streams/*") for path in self.root.glob(f"{name}/.new-*")
        ]
        for generation in (self.root / "streams").glob("*/.generations/*"):
            link = generation.parents[1] / generation.name.rpartition("-")[0]
            if not (link.is_symlink() and link.readlink().name == generation.name):
                left.append(generation)
        for path in left:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_files(folder: Path, files: dict[str, str]) -> None:
    """`NotVerified` unless each file in ``folder`` has that SHA-256."""
    for name, awaited in files.items():
        path = folder / name
        if not path.is_file():
            raise NotVerified(f"{path} is missing", "restore that folder: it was removed, or copied in part")
        seen = digest.of_file(path)
        if seen != awaited:
            raise _other_bytes(path, awaited, seen)


def _other_bytes(path: Path, awaited: str, seen: str) -> NotVerified:
    return NotVerified(
        f"{path} was changed after it was attested: its SHA-256 is {seen[:12]}…, not {awaited[:12]}…",
        "build the image and run its tests again",
    )


def boot_script(artifacts: Artifacts, image: str, stream: str) -> str:
    """The iPXE script that boots ``artifacts`` from the tree; it retries for ever.

    `NotVerified` if the version or an argument contains iPXE syntax.
    """
    words = " ".join((artifacts.manifest.version, *artifacts.manifest.kernel_arguments))
    if not words.isprintable() or any(syntax in words for syntax in ("${", "||", "&&")):
        raise NotVerified(f"the version or the kernel arguments contain iPXE syntax: {words!r}", "change them")
    place = f"${{images}}/artifacts/{artifacts.digest}"
    arguments = kernel_arguments(
        artifacts.manifest.kernel_arguments, artifacts.manifest.rootfs, BootPath.IPXE_BIOS, place
    )
    build = f"{image} {artifacts.manifest.version}, published by {stream}"
    return published_script(f"{image} {stream}", place, arguments, build)


# Files


def _read_generation(folder: Path, image: str, stream: str) -> tuple[Pointer, tuple[StreamEntry, ...]]:
    """The pointer and the history in ``folder``, if both are unchanged and agree; `NotVerified` otherwise."""
    file = folder / _POINTER
    try:
        pointer = read_pointer(file.read_bytes(), str(file))
        lines = (folder / _HISTORY).read_bytes().splitlines(keepends=True)
        entries = tuple(serialization.load(StreamEntry, json.loads(line)) for line in lines)
        script = digest.of_file(folder / _SCRIPT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _changed(file) from error
    chain = [_FIRST, *map(_digest, entries)]
    is_sound = (
        (pointer.image, pointer.stream, pointer.number) == (image, stream, len(entries))
        and lines == [_line(entry) for entry in entries]
        and all(entry.previous == before for entry, before in zip(entries, chain, strict=False))
        and bool(entries)
        and pointer.entry == entries[-1]
        and script == pointer.entry.script
    )
    if not is_sound:
        raise _changed(file)
    return pointer, entries


def read_pointer(text: bytes, where: str) -> Pointer:
    """The pointer in ``text``, from any source: `NotVerified` unless its names, digests and seal are valid."""
    try:
        pointer = serialization.load(Pointer, json.loads(text)["stream"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _changed(Path(where)) from error
    if _sealed(pointer) != text:
        raise _changed(Path(where))
    return pointer


def _changed(file: Path) -> NotVerified:
    return NotVerified(
        f"{file} was changed by hand, or sent in part",
        "restore the tree from a copy; no promotion wrote its present content",
    )


def _plain(entry: StreamEntry) -> dict[str, Any]:
    """Without further attestations, as Bootproof before December 2026 wrote it."""
    plain: dict[str, Any] = serialization.dump(entry)
    return plain if entry.further else {name: value for name, value in plain.items() if name != "further"}


def _line(entry: StreamEntry) -> bytes:
    return json.dumps(_plain(entry), sort_keys=True).encode() + b"\n"


def _digest(entry: StreamEntry) -> str:
    return digest.of_bytes(_line(entry))


def _sealed(pointer: Pointer) -> bytes:
    """The JSON of ``pointer`` with its own digest, so that every change is noticed."""
    plain = {**serialization.dump(pointer), "entry": _plain(pointer.entry)}
    return json.dumps({"stream": plain, "sha256": digest.of_value(plain)}, indent=2).encode() + b"\n"

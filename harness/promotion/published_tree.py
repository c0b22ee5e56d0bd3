"""The published tree: what machines boot, as any HTTP server can serve it.

    artifacts/DIGEST/…                 the artifacts; never changed
    attestations/SHA256/…              an attestation and its bill of materials, by the former's digest; never changed
    streams/IMAGE/STREAM/              a link to one of the generations: moving it is the promotion
        stream.json                    what the stream carries, since when, and by which verdict
        boot.ipxe                      what machines chain to
        history.jsonl                  all that it carried, the latest last; each line has the digest of the one before
    streams/IMAGE/STREAM.json          a link to the first of these
    streams/IMAGE/.generations/…       the current one of each stream

All three files of a generation change in the one step that replaces the link. Whatever was killed before leaves the old
generation, and a new one that nobody points to, which the next promotion removes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from harness.core import digest, serialization
from harness.core.errors import HostError, UsageError
from harness.core.locks import try_lock
from harness.model.artifacts import MANIFEST, Artifacts
from harness.model.layout import ATTESTATION, SBOM
from harness.model.machine_spec import BootPath
from harness.promotion.attest import Refused
from harness.qemu.ipxe import published_script
from harness.qemu.kernel_arguments import kernel_arguments
from harness.store.store import disk_full

_POINTER, _SCRIPT, _HISTORY = "stream.json", "boot.ipxe", "history.jsonl"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_FIRST = ""
"""What stands for the line before the first of a history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One line of a history. ``action`` is promote or rollback; ``attestation`` and ``policy`` are SHA-256 of what was
    believed then, ``script`` is that of boot.ipxe; ``by`` is the key that signed; ``previous`` is the digest of the
    line before. `ValueError` for what is no digest: paths are made of them."""

    at: str
    action: str
    artifacts: str
    version: str
    attestation: str
    policy: str
    by: str
    script: str
    previous: str

    def __post_init__(self) -> None:
        for name in (self.artifacts, self.attestation):
            if not _DIGEST.fullmatch(name):
                raise ValueError(f"{name!r} is no SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What a stream carries: the last line of its history, and how many there are."""

    image: str
    stream: str
    number: int
    entry: StreamEntry

    def __post_init__(self) -> None:
        for name in (self.image, self.stream):
            if not _NAME.fullmatch(name) or name.endswith(".json"):
                raise ValueError(f"{name!r} is no name of an image or a stream")

    @property
    def generation(self) -> str:
        return f"{self.stream}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An attestation and the bill of materials that it names, as they are on disk."""

    attestation: bytes
    sbom: bytes

    @property
    def name(self) -> str:
        return digest.of_bytes(self.attestation)

    @property
    def files(self) -> dict[str, bytes]:
        return {ATTESTATION: self.attestation, SBOM: self.sbom}


def read_proof(folder: Path) -> Proof:
    """What a run left in its folder; `Refused` if it is not there."""
    try:
        return Proof(attestation=(folder / ATTESTATION).read_bytes(), sbom=(folder / SBOM).read_bytes())
    except FileNotFoundError as error:
        raise Refused(
            f"{error.filename} is missing: nobody vouches for what was proven",
            "run the tests with --sign-key KEY, or BOOTPROOF_SIGN_KEY set",
        ) from error


@dataclass(frozen=True, slots=True)
class PublishedTree:
    """A published tree at ``root``; nothing is written before `put` or `move`."""

    root: Path

    def artifacts(self, name: str) -> Path:
        return self.root / "artifacts" / name

    def manifest(self, name: str) -> Path:
        """Of these artifacts; of a tree elsewhere, all that is fetched unasked."""
        there = self.artifacts(name) / MANIFEST
        return there if there.exists() else self.root / "manifests" / name / MANIFEST

    def current(self, image: str, stream: str) -> Pointer | None:
        """What the stream carries; None if there is no such stream. `Refused` for one that was changed by hand."""
        link = self._stream(image, stream)
        if not link.is_dir():
            return None
        beside = link.with_name(f"{stream}.json")
        if beside.exists() and not (beside.is_symlink() and beside.readlink() == Path(stream) / _POINTER):
            raise _changed(beside)
        return _read_generation(link.resolve(), image, stream)[0]

    def history(self, image: str, stream: str) -> tuple[StreamEntry, ...]:
        """All that it carried, the latest last; `Refused` as above."""
        folder = self._stream(image, stream)
        if not folder.is_dir():
            raise UsageError(f"{self.root} has no stream {stream} of {image}; there: {self._known() or 'none'}")
        return _read_generation(folder.resolve(), image, stream)[1]

    def streams(self) -> Iterator[tuple[str, str]]:
        """Each image and stream."""
        for link in sorted((self.root / "streams").glob("*/*")):
            if link.is_symlink() and link.is_dir():
                yield link.parent.name, link.name

    def _known(self) -> str:
        return ", ".join(f"{image} {stream}" for image, stream in self.streams())

    def _stream(self, image: str, stream: str) -> Path:
        for name in (image, stream):
            if not _NAME.fullmatch(name) or name.endswith(".json"):
                raise UsageError(
                    f"{name!r} is no name of an image or a stream: letters, digits, ._-, no .json at its end"
                )
        return self.root / "streams" / image / stream

    # Writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While the block lasts, nobody else writes here."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("ab")
        except OSError as error:
            raise HostError(f"{self.root} cannot be written: {error.strerror}") from error
        with lock:
            if not try_lock(lock):
                raise HostError(f"somebody else is promoting in {self.root}; wait for that, then try again")
            try:
                yield
            except OSError as error:
                if error.errno in (28, 122):  # ENOSPC, EDQUOT
                    raise disk_full(self.root) from error
                raise HostError(f"{error.filename or self.root}: {error.strerror}") from error

    def put(self, artifacts: Artifacts, files: dict[str, str]) -> None:
        """Artifacts as they were attested, by SHA-256 in ``files``.

        They are copied and hashed in one pass; what is there already is hashed. `Refused` if a byte differs.
        """
        place = self.artifacts(artifacts.digest)
        if place.exists():
            check_files(place, files)
            return
        self._clean()
        with _made(place) as half_made:
            for name, awaited in files.items():
                seen = _copy(artifacts.folder / name, half_made / name)
                if seen != awaited:
                    raise _other_bytes(artifacts.folder / name, awaited, seen)

    def put_proof(self, proof: Proof) -> None:
        """What the artifacts are believed by."""
        place = self.root / "attestations" / proof.name
        if place.exists():
            check_files(place, {name: digest.of_bytes(content) for name, content in proof.files.items()})
            return
        with _made(place) as half_made:
            for name, content in proof.files.items():
                _write(half_made / name, content)

    def proof(self, name: str) -> Proof:
        """The attestation with that digest; `Refused` if it is missing or another."""
        folder = self.root / "attestations" / name
        check_files(folder, {ATTESTATION: name})
        return read_proof(folder)

    def move(self, image: str, stream: str, entry: StreamEntry, script: str) -> Pointer:
        """Let the stream carry what ``entry`` says, from one instant to the next."""
        link = self._stream(image, stream)
        history = self.history(image, stream) if link.is_dir() else ()
        own = {"previous": _digest(history[-1]) if history else _FIRST, "script": digest.of_bytes(script.encode())}
        entries = [*history, replace(entry, **own)]
        pointer = Pointer(image=image, stream=stream, number=len(entries), entry=entries[-1])
        generations = link.parent / ".generations"
        generations.mkdir(parents=True, exist_ok=True)
        generation = generations / pointer.generation
        self._clean()
        generation.mkdir()
        generation.chmod(0o755)
        _write(generation / _HISTORY, b"".join(_line(one) for one in entries))
        _write(generation / _SCRIPT, script.encode())
        _write(generation / _POINTER, _sealed(pointer))
        proven = [self.root / "artifacts", self.root / "attestations"]
        for folder in (generation, generations, link.parent, link.parent.parent, *proven, self.root):
            _sync(folder)
        _link(generation.relative_to(link.parent), link)
        _link(Path(stream) / _POINTER, link.with_name(f"{stream}.json"))
        _sync(link.parent)
        return pointer

    def _clean(self) -> None:
        """What promotions that were killed have left, and generations of the past."""
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
    """`Refused` unless each file in ``folder`` has that SHA-256."""
    for name, awaited in files.items():
        path = folder / name
        if not path.is_file():
            raise Refused(f"{path} is missing", "somebody took it away, or half of it was copied: restore that folder")
        seen = digest.of_file(path)
        if seen != awaited:
            raise _other_bytes(path, awaited, seen)


def _other_bytes(path: Path, awaited: str, seen: str) -> Refused:
    return Refused(
        f"{path} is not what was attested: SHA-256 {awaited[:12]}… awaited, {seen[:12]}… there",
        "build and prove it again",
    )


def boot_script(artifacts: Artifacts, image: str, stream: str) -> str:
    """The iPXE script of that stream; `Refused` if the version or an argument would be iPXE syntax."""
    said = " ".join((artifacts.manifest.version, *artifacts.manifest.kernel_arguments))
    if not said.isprintable() or any(mark in said for mark in ("${", "||", "&&")):
        raise Refused(f"the version or the kernel arguments would mean something to iPXE: {said!r}", "change them")
    place = f"${{images}}/artifacts/{artifacts.digest}"
    arguments = kernel_arguments(
        artifacts.manifest.kernel_arguments, artifacts.manifest.rootfs, BootPath.IPXE_BIOS, place
    )
    carried = f"{image} {artifacts.manifest.version}, as {stream} carries it"
    return published_script(f"{image} {stream}", place, arguments, carried)


# Files


@contextmanager
def _made(place: Path) -> Iterator[Path]:
    """A folder that is at ``place`` when the block has filled it, as a whole."""
    place.parent.mkdir(exist_ok=True)
    half_made = place.with_name(f".new-{place.name}")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir()
    half_made.chmod(0o755)
    try:
        yield half_made
        _sync(half_made)
        half_made.rename(place)
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise
    _sync(place.parent)


def _read_generation(folder: Path, image: str, stream: str) -> tuple[Pointer, tuple[StreamEntry, ...]]:
    """Both are as they were written, and agree; `Refused` otherwise."""
    try:
        text = (folder / _POINTER).read_bytes()
        pointer = serialization.load(Pointer, json.loads(text)["stream"])
        lines = (folder / _HISTORY).read_bytes().splitlines(keepends=True)
        entries = tuple(serialization.load(StreamEntry, json.loads(line)) for line in lines)
        script = digest.of_file(folder / _SCRIPT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _changed(folder / _POINTER) from error
    chain = [_FIRST, *map(_digest, entries)]
    is_sound = (
        text == _sealed(pointer)
        and (pointer.image, pointer.stream, pointer.number) == (image, stream, len(entries))
        and lines == [_line(entry) for entry in entries]
        and all(entry.previous == before for entry, before in zip(entries, chain, strict=False))
        and bool(entries)
        and pointer.entry == entries[-1]
        and script == pointer.entry.script
    )
    if not is_sound:
        raise _changed(folder / _POINTER)
    return pointer, entries


def read_pointer(text: bytes, where: str) -> Pointer:
    """What a pointer says, wherever it comes from: names and digests are such, and it is as it was written."""
    try:
        pointer = serialization.load(Pointer, json.loads(text)["stream"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _changed(Path(where)) from error
    if _sealed(pointer) != text:
        raise _changed(Path(where))
    return pointer


def _changed(file: Path) -> Refused:
    return Refused(
        f"{file} was changed by hand, or sent in part",
        "restore the tree from a copy; what it carries now was not put there by a promotion",
    )


def _line(entry: StreamEntry) -> bytes:
    return json.dumps(serialization.dump(entry), sort_keys=True).encode() + b"\n"


def _digest(entry: StreamEntry) -> str:
    return digest.of_bytes(_line(entry))


def _sealed(pointer: Pointer) -> bytes:
    """With its own digest: no byte of it changes unseen."""
    plain = serialization.dump(pointer)
    return json.dumps({"stream": plain, "sha256": digest.of_value(plain)}, indent=2).encode() + b"\n"


def _link(target: Path, link: Path) -> None:
    """A symbolic link, in place of what was there: rename(2) is one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    half_made = link.with_name(f".new-{link.name}")
    half_made.unlink(missing_ok=True)
    half_made.symlink_to(target)
    half_made.replace(link)


def _copy(source: Path, target: Path) -> str:
    """The SHA-256 of what was copied, read once."""
    seen = sha256()
    try:
        with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
            while chunk := reader.read(_CHUNK_BYTES):
                seen.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[writer.write(view) :]
            os.fchmod(writer.fileno(), 0o444)
            os.fsync(writer.fileno())
    except FileNotFoundError as error:
        raise Refused(f"{source} is missing", "build it again") from error
    return seen.hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Bundles: everything needed to boot the same failure again somewhere else, in one file.

A bundle is a tar, packed by zstd(1): ``bundle.json`` first, then files without folders, each with its SHA-256 in
there. It comes from anywhere, so nothing of it is believed: names lead nowhere, sizes are bounded, disks refer to no
other file, and what is run is made anew from values that were checked, never taken from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import struct
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from harness.core import process, serialization
from harness.core.errors import HarnessError, HostError, UsageError
from harness.machine.boot_plan import BootRecord
from harness.model import network_faults
from harness.model.artifacts import FILE_NAME, Artifacts, Manifest, check_names
from harness.model.definition import ImageDefinition
from harness.model.layout import BOOT_RECORD, CAPTURE, CHANNEL_LOG, MEMORY, NETWORK_LOG, SCREENSHOT, UEFI_VARIABLES
from harness.model.machine_spec import DiskFormat
from harness.model.verdict import Finding
from harness.qemu import disk_images
from harness.replay import redact

FORMAT = 1
_INDEX = "bundle.json"
_LOGS = (
    "console.log", "qmp.log", "qemu.log", "argv", "journal.log", NETWORK_LOG, CHANNEL_LOG, SCREENSHOT, CAPTURE, MEMORY,
    UEFI_VARIABLES,
)  # fmt: skip
_UNREADABLE = (CAPTURE, MEMORY, SCREENSHOT)
"""In which what is secret cannot be told from the rest."""
_INDEX_BYTES, _MOST_BYTES = 8 << 20, 8 << 30
"""The most that is read of an index, and unpacked of a whole bundle."""
_PIECE_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.@_-]{0,199}")
_TEST = re.compile(r"(?!-)(?!.*\.\./)[A-Za-z0-9_][A-Za-z0-9_./-]*\.py::[^/\0-\x1f]*(?:\[.*\])?")
"""A test of the checkout that replays it: no option, and no file elsewhere."""
_MOST_CPUS, _MOST_MEMORY_MIB = 64, 1 << 20
UNFINISHED = "boot-unfinished"
"""The finding about a boot that was on its way when its run was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What was found. ``test`` is what failed in the machine, run with ``seed``; empty if it was the boot itself.

    ``seen`` of the ``tries`` of its run, up to then, failed like that.
    """

    finding: Finding
    test: str = ""
    seed: int = 1
    seen: int = 1
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One failure on paper. ``before`` is what ran when an upgrade by kexec failed.

    ``files`` maps the name of each file that came along to its SHA-256.
    """

    format: int
    made_by: str
    architecture: str
    failure: Failure
    plan: BootRecord
    manifest: Manifest
    definition: ImageDefinition
    before: Manifest | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A bundle that was opened and checked, its files in ``folder``."""

    bundle: Bundle
    folder: Path


def write(
    target: Path,
    failure: Failure,
    boot: Path,
    known: Iterable[Artifacts],
    definition: ImageDefinition,
    *,
    with_artifacts: bool = False,
) -> Path:
    """``target``, made of the folder of the ``boot`` that failed; whole, or not there. Its artifacts are ``known``.

    `HostError` where it cannot be written.
    """
    plan = serialization.read(BootRecord, boot / BOOT_RECORD)
    by_digest = {one.digest: one for one in known}
    if unknown := {plan.artifacts, plan.before} - {"", *by_digest}:
        raise HarnessError(f"nobody knows the artifacts {min(unknown)[:12]} of {boot}")
    artifacts, before = by_digest[plan.artifacts], by_digest[plan.before] if plan.before else None
    half_made = target.with_name(f".{target.name}.new")
    try:
        with _portable_disks(plan, boot, definition.redact) as (portable, words), ExitStack() as stack:
            unreadable = _UNREADABLE if definition.redact else ()
            sources = {name: boot / name for name in _LOGS if name not in unreadable}
            sources |= portable
            sources |= {name: artifacts.folder / name for name in artifacts.manifest.files} if with_artifacts else {}
            pieces = {
                name: _Piece.of(stack.enter_context(path.open("rb")), words if name in _LOGS else frozenset())
                for name, path in sources.items()
                if path.is_file()
            }
            bundle = Bundle(
                format=FORMAT,
                made_by=version("bootproof"),
                architecture=platform.machine(),
                failure=replace(failure, finding=_without(failure.finding, words)),
                plan=replace(plan, disks=tuple(_portable_name(name) for name in plan.disks)),
                manifest=artifacts.manifest,
                definition=definition,
                before=before.manifest if before else None,
                files={name: piece.sha256() for name, piece in pieces.items()},
            )
            _pack(half_made, bundle, pieces)
        half_made.replace(target)
    except OSError as error:
        raise HostError(f"{target} cannot be written: {error.strerror}; make room there") from error
    finally:
        half_made.unlink(missing_ok=True)
    return target


@contextmanager
def _portable_disks(
    plan: BootRecord, boot: Path, secrets: tuple[str, ...]
) -> Iterator[tuple[dict[str, Path], frozenset[bytes]]]:
    """The kept disks, each a qcow2 that needs no other file, while the block lasts, and what was left out of them."""
    words = frozenset[bytes]()
    with TemporaryDirectory(prefix=".disks.", dir=boot) as folder:
        made = dict[str, Path]()
        for name in filter(None, plan.disks):
            made[_portable_name(name)] = Path(folder) / _portable_name(name)
            source = boot / name
            if secrets:
                disk_images.flatten(source, raw := Path(folder) / "raw")
                words |= redact.leave_out(raw, secrets)
                source = raw
            disk_images.pack(source, made[_portable_name(name)])
            if secrets:
                source.unlink()
        yield made, words


def _without(finding: Finding, words: frozenset[bytes]) -> Finding:
    def hide(text: str) -> str:
        return redact.hide(text.encode(), words).decode("utf-8", "replace")

    evidence = tuple(map(hide, finding.evidence))
    return replace(finding, what=hide(finding.what), cause=hide(finding.cause), evidence=evidence)


def _portable_name(name: str) -> str:
    return f"{Path(name).stem}.{DiskFormat.QCOW2}" if name else ""


class _Piece:
    """An open file as long as it is now: its machine may still run, and add to it."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self.file, self.size_bytes = file, size_bytes

    @classmethod
    def of(cls, file: IO[bytes], hidden: frozenset[bytes]) -> _Piece:
        if not hidden:
            return cls(file, os.fstat(file.fileno()).st_size)
        content = redact.hide(file.read(), hidden)
        return cls(io.BytesIO(content), len(content))

    def sha256(self) -> str:
        seen, left_bytes = hashlib.sha256(), self.size_bytes
        while piece := self.file.read(min(left_bytes, _PIECE_BYTES)):
            seen.update(piece)
            left_bytes -= len(piece)
        self.file.seek(0)
        return seen.hexdigest()


def _pack(target: Path, bundle: Bundle, pieces: dict[str, _Piece]) -> None:
    index = (json.dumps(serialization.dump(bundle), indent=1) + "\n").encode()
    with (
        target.open("wb") as packed,
        process.writing(["zstd", "-cq"], "zstd", packed.fileno()) as pipe,
        tarfile.open(fileobj=pipe, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(_member(_INDEX, len(index)), io.BytesIO(index))
        for name, piece in pieces.items():
            tar.addfile(_member(name, piece.size_bytes), piece.file)


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    return member


def unpack(source: Path, folder: Path) -> Unpacked:
    """The bundle ``source``, its files in ``folder``; `UsageError` says in a sentence why it is none."""
    if not source.is_file():
        raise UsageError(f"{source}: there is no such bundle")
    try:
        with process.reading([process.require("zstd", "zstd"), "-dcq", "--memory=256MB", str(source)]) as stream:
            bundle = _read(source, stream, folder)
            while stream.read(_PIECE_BYTES):  # the end of the tar is padded
                pass
    except (process.CommandFailed, tarfile.TarError, EOFError) as error:
        said = str(error).strip().splitlines()[-1] if str(error) else type(error).__name__
        raise UsageError(f"{source} is no whole bundle: {said}") from error
    _check(source, bundle, folder)
    return Unpacked(bundle=bundle, folder=folder)


def _read(source: Path, stream: IO[bytes], folder: Path) -> Bundle:
    members = _members(source, stream)
    name, content = next(members, ("", iter(())))
    bundle = _index(source, name, content)
    awaited = dict(bundle.files)
    for name, content in members:
        if name not in awaited or not FILE_NAME.fullmatch(name):
            raise UsageError(f"{source} holds {name!r}, which its index does not list as a file")
        _unpack_file(source, content, folder / name, awaited.pop(name))
    if awaited:
        raise UsageError(f"{source} is no whole bundle: {next(iter(awaited))} is missing")
    return bundle


def _members(source: Path, stream: IO[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Names and contents of the files in a tar, which holds nothing else; each content must be read before the next.

    Python's own reader would take a header's word for how much memory it needs.
    """
    left_bytes = _MOST_BYTES
    while (block := stream.read(tarfile.BLOCKSIZE)) and block != bytes(tarfile.BLOCKSIZE):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        if member.type != tarfile.REGTYPE:
            raise UsageError(f"{source} holds {member.name!r}, which its index does not list as a file")
        left_bytes -= member.size
        if member.size < 0 or left_bytes < 0:
            raise UsageError(f"{source} unpacks to more than {_MOST_BYTES >> 30} GiB, which no bundle does")
        yield member.name, _content(stream, member.size)
        stream.read(-member.size % tarfile.BLOCKSIZE)


def _content(stream: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    while size_bytes:
        piece = stream.read(min(size_bytes, _PIECE_BYTES))
        if not piece:
            raise EOFError("its end is missing")
        size_bytes -= len(piece)
        yield piece


def _index(source: Path, name: str, content: Iterator[bytes]) -> Bundle:
    if name != _INDEX:
        raise UsageError(f"{source} is no bundle: it does not begin with {_INDEX}")
    text = bytearray()
    for piece in content:
        text += piece
        if len(text) > _INDEX_BYTES:
            raise UsageError(f"{source} is no bundle: its {_INDEX} has more than {_INDEX_BYTES >> 20} MiB")
    try:
        plain = json.loads(text)
        if not isinstance(plain, dict):
            raise ValueError("it is no object")
        made_by, format_ = plain.get("made_by"), plain.get("format")
        if isinstance(format_, int) and format_ > FORMAT:
            raise UsageError(f"{source} was made by bootproof {made_by}, which is newer than this one; upgrade it")
        return serialization.load(Bundle, plain)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is no bundle: {_INDEX}: {error}") from error


def _unpack_file(source: Path, content: Iterator[bytes], target: Path, awaited: str) -> None:
    seen = hashlib.sha256()
    with target.open("xb") as file:
        for piece in content:
            seen.update(piece)
            file.write(piece)
    if seen.hexdigest() != awaited:
        raise UsageError(f"{source} is damaged: {target.name} has other bytes than its index says")


def _check(source: Path, bundle: Bundle, folder: Path) -> None:
    """What the values themselves do not forbid, and a stranger might try."""
    spec = bundle.plan.spec
    if bundle.architecture != platform.machine():
        raise UsageError(f"{source} is of a machine of {bundle.architecture}; this host is {platform.machine()}")
    test, seen, tries = bundle.failure.test, bundle.failure.seen, bundle.failure.tries
    if test and not _TEST.fullmatch(test):
        raise UsageError(f"{source} cannot be replayed: {test!r} is no test in a folder below this one")
    if not 0 < seen <= tries:
        raise UsageError(f"{source} is no bundle: nothing fails in {seen} of {tries}")
    hardware = spec.hardware.partition(":")[0]
    for name in (spec.name, bundle.manifest.image, *filter(None, [hardware]), *(disk.serial for disk in spec.disks)):
        if not _NAME.fullmatch(name):
            raise UsageError(f"{source} is no bundle: nothing is called {name!r}")
    if not (0 < spec.cpus <= _MOST_CPUS and 0 < spec.memory_mib <= _MOST_MEMORY_MIB):
        raise UsageError(f"{source} is no bundle: {spec.cpus} CPUs and {spec.memory_mib} MiB are no machine")
    try:
        datetime.fromisoformat(spec.clock or "2011-03-01")
    except ValueError:
        raise UsageError(f"{source} is no bundle: no clock says {spec.clock!r}") from None
    with _naming(source):
        check_names(bundle.manifest, "its manifest")
        for name in bundle.plan.network_faults:
            network_faults.read(name)
    if bundle.before:
        with _naming(source):
            check_names(bundle.before, "its manifest")
    words = (*bundle.manifest.kernel_arguments, *(bundle.before.kernel_arguments if bundle.before else ()))
    for word in words:
        if not word.isprintable():
            raise UsageError(f"{source} is no bundle: {word!r} is no kernel argument")
    _check_disks(source, bundle, folder)


def _check_disks(source: Path, bundle: Bundle, folder: Path) -> None:
    named = list(filter(None, bundle.plan.disks))
    if len(bundle.plan.disks) != len(bundle.plan.spec.disks) or not set(named) <= set(bundle.files):
        raise UsageError(f"{source} is no bundle: it lacks disks of its machine")
    for name in named:
        if problem := _leads_out(folder / name):
            raise UsageError(f"{source}: {name} {problem}; such a disk is not opened")


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _leads_out(disk: Path) -> str:
    """What is wrong with a qcow2 from a stranger (QEMU, docs/interop/qcow2.txt); empty if nothing is."""
    with disk.open("rb") as file:
        header = file.read(104)
    if len(header) < 72 or header[:4] != b"QFI\xfb":
        return "is no qcow2"
    backing, crypt = struct.unpack_from(">Q", header, 8)[0], struct.unpack_from(">I", header, 32)[0]
    release = struct.unpack_from(">I", header, 4)[0]
    incompatible = struct.unpack_from(">Q", header, 72)[0] if release >= 3 and len(header) >= 80 else 0
    if backing:
        return "stands on another file"
    if incompatible & 4:
        return "has its data in another file"
    return "is encrypted" if crypt else ""

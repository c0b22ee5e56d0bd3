"""Read a bundle from anywhere, without trusting it.

Names must not lead to other folders, sizes are bounded, disks must not refer to other files, and nothing from a bundle
is executed: what runs is made from values that were checked.
"""

from __future__ import annotations

import hashlib
import platform
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from harness.core import process, serialization
from harness.core.errors import UsageError
from harness.model import network_faults
from harness.model.artifacts import FILE_NAME, check_names
from harness.replay.bundle import INDEX, Bundle

MOST_BYTES = 8 << 30
"""The largest bundle that is unpacked, and the largest index that is read."""
_INDEX_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.@_-]{0,199}")
_TEST = re.compile(r"(?!-)(?!.*\.\./)[A-Za-z0-9_][A-Za-z0-9_./-]*\.py::[^/\0-\x1f]*(?:\[.*\])?")
"""A test below the working directory: not an option, not a path elsewhere."""
_MOST_CPUS, _MOST_MEMORY_MIB = 64, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A bundle that was checked, with its files in ``folder``."""

    bundle: Bundle
    folder: Path


def unpack(source: Path, folder: Path, *, most_bytes: int = MOST_BYTES) -> Unpacked:
    """Unpack ``source`` into ``folder``. `UsageError` with one sentence if it is not a valid bundle."""
    if not source.is_file():
        raise UsageError(f"bundle not found: {source}")
    try:
        with process.reading([process.require("zstd", "zstd"), "-dcq", "--memory=256MB", str(source)]) as stream:
            bundle = _read(source, stream, folder, most_bytes)
            while stream.read(_CHUNK_BYTES):  # the padding at the end of the tar
                pass
    except (process.CommandFailed, tarfile.TarError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error) else type(error).__name__
        raise UsageError(f"{source} is not a complete bundle: {reason}") from error
    _check(source, bundle, folder)
    return Unpacked(bundle=bundle, folder=folder)


def _read(source: Path, stream: IO[bytes], folder: Path, most_bytes: int) -> Bundle:
    members = _members(source, stream, most_bytes)
    name, content = next(members, ("", iter(())))
    bundle = _index(source, name, content)
    expected = dict(bundle.files)
    for name, content in members:
        if name not in expected or not FILE_NAME.fullmatch(name):
            raise UsageError(f"{source} contains {name!r}, which its index does not list as a file")
        _unpack_file(source, content, folder / name, expected.pop(name))
    if expected:
        raise UsageError(f"{source} is not a complete bundle: {next(iter(expected))} is missing")
    return bundle


def _members(source: Path, stream: IO[bytes], most_bytes: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Names and contents of the files in a tar, which must hold nothing else; read each content before the next.

    Python's own reader allocates as much memory as a header claims.
    """
    left_bytes = most_bytes
    while (block := stream.read(tarfile.BLOCKSIZE)) and block != bytes(tarfile.BLOCKSIZE):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        if member.type != tarfile.REGTYPE:
            raise UsageError(f"{source} contains {member.name!r}, which its index does not list as a file")
        left_bytes -= member.size
        if member.size < 0 or left_bytes < 0:
            raise UsageError(
                f"{source} is not a valid bundle: it unpacks to more than {most_bytes / (1 << 30):.3g} GiB"
            )
        yield member.name, _content(stream, member.size)
        stream.read(-member.size % tarfile.BLOCKSIZE)


def _content(stream: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    while size_bytes:
        chunk = stream.read(min(size_bytes, _CHUNK_BYTES))
        if not chunk:
            raise EOFError("the file is truncated")
        size_bytes -= len(chunk)
        yield chunk


def _index(source: Path, name: str, content: Iterator[bytes]) -> Bundle:
    if name != INDEX:
        raise UsageError(f"{source} is not a bundle: it does not begin with {INDEX}")
    text = bytearray()
    for chunk in content:
        text += chunk
        if len(text) > _INDEX_BYTES:
            raise UsageError(f"{source} is not a valid bundle: {INDEX} is larger than {_INDEX_BYTES >> 20} MiB")
    try:
        plain = serialization.parse(text.decode())
        if not isinstance(plain, dict):
            raise ValueError("not a JSON object")
        return serialization.load(Bundle, plain, str(source))
    except ValueError as error:
        raise UsageError(f"{source} is not a valid bundle: {INDEX}: {error}") from error


def _unpack_file(source: Path, content: Iterator[bytes], target: Path, expected: str) -> None:
    seen = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in content:
            seen.update(chunk)
            file.write(chunk)
    if seen.hexdigest() != expected:
        raise UsageError(f"{source} is damaged: the SHA-256 of {target.name} is not the one in {INDEX}")


def _check(source: Path, bundle: Bundle, folder: Path) -> None:
    """Refuse values that the types allow and a hostile bundle might contain."""
    if bundle.architecture != platform.machine():
        raise UsageError(f"{source} is for {bundle.architecture}; this host is {platform.machine()}")
    try:
        for manifest in filter(None, (bundle.manifest, bundle.before)):
            check_names(manifest, "its manifest")
        for name in bundle.plan.network_faults:
            network_faults.read(name)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    if problem := next(_problems(bundle, folder), ""):
        raise UsageError(f"{source} is not a valid bundle: {problem}")


def _problems(bundle: Bundle, folder: Path) -> Iterator[str]:
    spec, failure = bundle.plan.spec, bundle.failure
    for test in filter(None, (failure.test, *failure.tests)):
        if not _TEST.fullmatch(test):
            yield f"{test!r} is not a test below this folder"
    if not 0 < failure.seen <= failure.tries:
        yield f"it says {failure.seen} of {failure.tries} tries failed"
    hardware = spec.hardware.partition(":")[0]
    for name in (spec.name, bundle.manifest.image, *filter(None, [hardware]), *(disk.serial for disk in spec.disks)):
        if not _NAME.fullmatch(name):
            yield f"{name!r} is not a valid name"
    if not (0 < spec.cpus <= _MOST_CPUS and 0 < spec.memory_mib <= _MOST_MEMORY_MIB):
        yield f"its machine has {spec.cpus} CPUs and {spec.memory_mib} MiB of memory"
    try:
        datetime.fromisoformat(spec.clock or "2011-03-01")
    except ValueError:
        yield f"{spec.clock!r} is not a valid time for the clock"
    for manifest in filter(None, (bundle.manifest, bundle.before)):
        for word in manifest.kernel_arguments:
            if not word.isprintable():
                yield f"{word!r} is not a valid kernel argument"
    named = list(filter(None, bundle.plan.disks))
    if len(bundle.plan.disks) != len(spec.disks) or not set(named) <= set(bundle.files):
        yield "disks of its machine are missing"
    for name in named:
        if problem := _unsafe(folder / name):
            yield f"{name} {problem}"


def _unsafe(disk: Path) -> str:
    """Why QEMU must not open this qcow2 (docs/interop/qcow2.txt in QEMU); empty if it may."""
    with disk.open("rb") as file:
        header = file.read(104)
    if len(header) < 72 or header[:4] != b"QFI\xfb":
        return "is not a qcow2 image"
    backing, crypt = struct.unpack_from(">Q", header, 8)[0], struct.unpack_from(">I", header, 32)[0]
    release = struct.unpack_from(">I", header, 4)[0]
    incompatible = struct.unpack_from(">Q", header, 72)[0] if release >= 3 and len(header) >= 80 else 0
    if backing:
        return "has a backing file"
    if incompatible & 4:
        return "has an external data file"
    return "is encrypted" if crypt else ""

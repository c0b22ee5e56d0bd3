"""Write a bundle from the folder of a failed boot."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from harness.core import process, serialization
from harness.core.errors import HarnessError, HostError
from harness.machine.boot_plan import BootRecord
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.layout import BOOT_RECORD, CAPTURE, CHANNEL_LOG, MEMORY, NETWORK_LOG, SCREENSHOT, UEFI_VARIABLES
from harness.model.machine_spec import DiskFormat
from harness.model.verdict import Finding
from harness.qemu import disk_images
from harness.replay import redact
from harness.replay.bundle import INDEX, Bundle, Failure

_LOGS = (
    "console.log", "qmp.log", "qemu.log", "argv", "journal.log", NETWORK_LOG, CHANNEL_LOG, SCREENSHOT, CAPTURE, MEMORY,
    UEFI_VARIABLES,
)  # fmt: skip
_BINARY = (CAPTURE, MEMORY, SCREENSHOT)
"""Secrets cannot be found and removed in these, so an image with secrets has none of them in its bundles."""
_CHUNK_BYTES = 1 << 20


def write_bundle(
    target: Path,
    failure: Failure,
    boot: Path,
    known: Iterable[Artifacts],
    definition: ImageDefinition,
    *,
    with_artifacts: bool = False,
) -> Path:
    """Write ``target`` from ``boot``, the folder of the boot that failed; its artifacts are among ``known``.

    ``target`` is complete or does not exist. `HostError` if it cannot be written, `HarnessError` if the artifacts of
    the boot are not among ``known``.
    """
    plan = serialization.read(BootRecord, boot / BOOT_RECORD)
    by_digest = {artifacts.digest: artifacts for artifacts in known}
    if unknown := {plan.artifacts, plan.before} - {"", *by_digest}:
        raise HarnessError(f"{boot}: no artifacts with the digest {min(unknown)[:12]} were given")
    artifacts, before = by_digest[plan.artifacts], by_digest[plan.before] if plan.before else None
    unfinished = target.with_name(f".{target.name}.new")
    try:
        with _portable_disks(plan, boot, definition.redact) as (disks, secrets), ExitStack() as stack:
            logs = {name: boot / name for name in _LOGS if not (definition.redact and name in _BINARY)}
            built = {name: artifacts.folder / name for name in artifacts.manifest.files} if with_artifacts else {}
            members = {
                name: Member.of(stack.enter_context(path.open("rb")), secrets if name in _LOGS else frozenset())
                for name, path in (logs | disks | built).items()
                if path.is_file()
            }
            bundle = Bundle(
                made_by=version("bootproof"),
                architecture=platform.machine(),
                failure=replace(failure, finding=_redacted(failure.finding, secrets)),
                plan=replace(plan, disks=tuple(_portable_name(name) for name in plan.disks)),
                manifest=artifacts.manifest,
                definition=definition,
                before=before.manifest if before else None,
                files={name: member.sha256() for name, member in members.items()},
            )
            pack(unfinished, bundle, members)
        unfinished.replace(target)
    except OSError as error:
        raise HostError(f"{target} cannot be written: {error.strerror}; free disk space there") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return target


@contextmanager
def _portable_disks(
    plan: BootRecord, boot: Path, secrets: tuple[str, ...]
) -> Iterator[tuple[dict[str, Path], frozenset[bytes]]]:
    """The disks of the boot as qcow2 without backing files, for the duration of the block; and the secrets removed from
    them."""
    words: frozenset[bytes] = frozenset()
    with TemporaryDirectory(prefix=".disks.", dir=boot) as folder:
        made: dict[str, Path] = {}
        for name in filter(None, plan.disks):
            made[_portable_name(name)] = Path(folder) / _portable_name(name)
            source = boot / name
            if secrets:
                disk_images.flatten(source, raw := Path(folder) / "raw")
                words |= redact.remove_files(raw, secrets)
                source = raw
            disk_images.pack(source, made[_portable_name(name)])
            if secrets:
                source.unlink()
        yield made, words


def _redacted(finding: Finding, words: frozenset[bytes]) -> Finding:
    def hide(text: str) -> str:
        return redact.hide(text.encode(), words).decode("utf-8", "replace")

    evidence = tuple(map(hide, finding.evidence))
    return replace(finding, what=hide(finding.what), cause=hide(finding.cause), evidence=evidence)


def _portable_name(name: str) -> str:
    return f"{Path(name).stem}.{DiskFormat.QCOW2}" if name else ""


class Member:
    """An open file, cut to its present length: its machine may still run and append to it."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self.file, self.size_bytes = file, size_bytes

    @classmethod
    def of(cls, file: IO[bytes], hidden: frozenset[bytes]) -> Member:
        if not hidden:
            return cls(file, os.fstat(file.fileno()).st_size)
        content = redact.hide(file.read(), hidden)
        return cls(io.BytesIO(content), len(content))

    def sha256(self) -> str:
        seen, left_bytes = hashlib.sha256(), self.size_bytes
        while chunk := self.file.read(min(left_bytes, _CHUNK_BYTES)):
            seen.update(chunk)
            left_bytes -= len(chunk)
        self.file.seek(0)
        return seen.hexdigest()


def pack(target: Path, bundle: Bundle, members: dict[str, Member]) -> None:
    index = (json.dumps(serialization.dump(bundle), indent=1) + "\n").encode()
    with (
        target.open("wb") as packed,
        process.writing(["zstd", "-cq"], "zstd", packed.fileno()) as pipe,
        tarfile.open(fileobj=pipe, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(_header(INDEX, len(index)), io.BytesIO(index))
        for name, member in members.items():
            tar.addfile(_header(name, member.size_bytes), member.file)


def _header(name: str, size_bytes: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size_bytes, 0o644
    return header

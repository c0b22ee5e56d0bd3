"""Promotion: its overhead over hashing and copying, and whether kills or damage ever break it."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core import digest
from harness.core.errors import BootproofError, HostError
from harness.promotion.promote import promote
from harness.store.store import find_store

from .start import ROOT
from .table import Figure, Limit, compared

_IMAGE_MIB = 600

sys.path.insert(0, str(ROOT))
from tests.harness.proven import Proven  # noqa: E402


def measure(*, quick: bool) -> list[Figure]:
    with TemporaryDirectory(dir=find_store().folder("bench")) as folder:
        pairs = list(_pairs(Path(folder), 2 if quick else 5))
    kills, flips = (50, 100) if quick else (1000, 2000)
    return [
        compared("promote", f"decide and promote {_IMAGE_MIB} MiB", [pair[0] for pair in pairs], "hash and copy once",
                 [pair[1] for pair in pairs], unit="s", limit=Limit(most=1.2, binding=False)),
        Figure(row="promote", what=f"{kills} promotions, killed or without room", unit="broken",
               value=_broken_by_kills(kills), limit=Limit(most=0, unit="broken")),
        Figure(row="promote", what=f"{flips} flipped bits", value=_accepted_flips(flips), unit="accepted",
               limit=Limit(most=0, unit="accepted")),
    ]  # fmt: skip


def _pairs(folder: Path, count: int) -> Iterator[tuple[float, float]]:
    """Alternating: a whole promotion, and reading, hashing, copying and syncing the same files."""
    proven = Proven(folder)
    proven.demand()
    rootfs = random.Random(1).randbytes(1 << 20) * _IMAGE_MIB
    artifacts = proven.artifacts("0", rootfs=rootfs)
    del rootfs
    proof = proven.proof(artifacts, proven.verdict(artifacts))
    for _ in range(count):
        shutil.rmtree(proven.tree.root, ignore_errors=True)
        os.sync()
        began_s = time.perf_counter()
        promote(proven.tree, "site", "stable", artifacts, [proof], proven.promoter())
        middle_s = time.perf_counter()
        copy = folder / "copy"
        copy.mkdir()
        for file in artifacts.folder.iterdir():
            digest.of_file(file)
            shutil.copyfile(file, copy / file.name)
            with (copy / file.name).open("rb") as copied:
                os.fsync(copied.fileno())
        end_s = time.perf_counter()
        shutil.rmtree(copy)
        yield middle_s - began_s, end_s - middle_s


def _broken_by_kills(count: int) -> int:
    """Nine of ten are killed at a random instant, others run out of space; counts those that broke the tree."""
    draw, broken = random.Random(1), 0
    with TemporaryDirectory() as folder, _small_disk(Path(folder)) as disk:
        proven = Proven(disk)
        proven.demand()
        proven.promote("0")
        for number in (1, 2):
            proven.proof(proven.artifacts(str(number)), proven.verdict(proven.artifacts(str(number))))
        began_s = time.perf_counter()
        proven.promote("1")
        took_s = time.perf_counter() - began_s
        known = list(proven.tree.history("site", "stable"))
        for attempt in range(count):
            version = str(2 - attempt % 2) if known[-1].version != str(2 - attempt % 2) else "0"
            filler = disk / "filler"
            if attempt % 10 == 9:
                _fill(filler, disk, draw.randrange(0, 60_000))
            child = multiprocessing.get_context("fork").Process(target=_quietly_promote, args=(proven, version))
            child.start()
            if attempt % 10 != 9:
                time.sleep(draw.uniform(0, 4 * took_s))
                os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
            filler.unlink(missing_ok=True)
            now = list(proven.tree.history("site", "stable"))
            current = proven.tree.current("site", "stable")
            is_whole = now[: len(known)] == known and len(now) - len(known) in (0, 1)
            is_whole = is_whole and current is not None and current.entry == now[-1]
            for name, file in proven.artifacts(now[-1].version).manifest.files.items():
                is_whole = is_whole and digest.of_file(proven.tree.artifacts(now[-1].artifacts) / name) == file.sha256
            broken += not is_whole
            known = now
        print(f"    {len(known) - 2} of {count} got through, {broken} broke something", file=sys.stderr)
    return broken


def _quietly_promote(proven: Proven, version: str) -> None:
    with suppress(HostError):
        proven.promote(version)


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A small file system; only root can mount one, others get the folder."""
    if os.geteuid():
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "bench", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(file: Path, disk: Path, left_bytes: int) -> None:
    room = shutil.disk_usage(disk).free - left_bytes
    if os.geteuid() == 0 and room > 0:
        file.write_bytes(bytes(room))


def _accepted_flips(count: int) -> int:
    """Flipped bits in artifacts, manifest, attestation, policy, signature, pointer and history that were accepted."""
    draw, accepted = random.Random(2), 0
    with TemporaryDirectory() as folder:
        proven = Proven(Path(folder))
        proven.demand()
        proven.promote("1")
        artifacts = proven.artifacts("2")
        proof = proven.proof(artifacts, proven.verdict(artifacts))
        loose = proven.folder / "attestation.json"
        loose.write_bytes(proof.attestation)
        stream = proven.tree.root / "streams" / "site" / "stable"
        files = [*artifacts.folder.iterdir(), loose, proven.policy, proven.policy.with_name("policy.toml.sig")]
        files += [stream / "stream.json", stream / "history.jsonl", stream / "boot.ipxe"]
        before = os.readlink(stream)
        for _ in range(count):
            file = draw.choice(files)
            good = file.read_bytes()
            spoilt = bytearray(good)
            spoilt[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
            file.chmod(0o644)
            file.write_bytes(spoilt)
            with suppress(BootproofError):
                promote(proven.tree, "site", "stable", artifacts,
                        [replace(proof, attestation=loose.read_bytes())], proven.promoter())  # fmt: skip
                accepted += 1
            accepted += os.readlink(stream) != before
            file.write_bytes(good)
    return accepted

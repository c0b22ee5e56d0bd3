"""Runs in shards: how much faster simulated hosts are than one, beside what the plan says, and how long a merge takes.

A simulated host is a thread with slots for its boots; a boot is a sleep of a boot's length. Each host boots the
templates that its tests need once, and hands its tests to the slots as they become free, the longest first.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.model.events import PlannedTest
from harness.model.machine_spec import BootPath
from harness.model.shard import Collected, ImagePlan, Shard
from harness.runs.cut import cut, units_of

from ..shard_runs import BASE, ShardRun
from .table import Figure, Limit

_BOOT_S = 0.25
_LANES = 2
_HOSTS = (1, 2, 4, 8, 16)
_PARTS, _TESTS, _LOGS_BYTES = 64, 2000, 1 << 30


def measure(*, quick: bool) -> list[Figure]:
    return [*_scaling(_HOSTS[:3] if quick else _HOSTS), *_merging(8 if quick else _PARTS, quick=quick)]


def _scaling(hosts: Iterable[int]) -> Iterable[Figure]:
    collected = _thorough_run()
    alone_s = 0.0
    for count in hosts:
        made = cut(collected, count)
        with ThreadPoolExecutor(count) as pool:
            begun_s = time.monotonic()
            for host in [pool.submit(_run_host, collected, shard) for shard in made.shards]:
                host.result()
            took_s = time.monotonic() - begun_s
        alone_s = alone_s or took_s
        yield Figure(
            row="shards",
            what=f"{count} simulated hosts: {alone_s / took_s:.2f} times as fast as one",
            value=took_s,
            unit="s",
            compared_with=f"the plan's {made.speed_up:.2f}",
            ratio=made.speed_up * took_s / alone_s,
            limit=Limit(most=round(1 / 0.85, 2), binding=False),
        )


def _thorough_run() -> Collected:
    """As ``--thorough`` of nova-kvm: many tests with a boot of their own, a few long ones, and those that look."""
    booting = [_test(f"boot-{number}", 1) for number in range(48)]
    long = [_test(f"long-{number}", 3, templates=("booted", "rebooted")) for number in range(4)]
    looking = [
        _test(f"look-{file}-{number}", 0, group=f"look-{file}", templates=("booted",))
        for file in range(4)
        for number in range(15)
    ]
    tests = (*booting, *long, *looking)
    image = ImagePlan(
        definition=BASE, boot_paths=(BootPath.DIRECT,), is_thorough=True, digests={}, versions={}, tests=tests,
        expected_s={test.test: _BOOT_S / 60 for test in looking},
    )  # fmt: skip
    return Collected(images=(image,), settings={}, boot_s=_BOOT_S, lanes=_LANES)


def _test(name: str, boots: int, group: str = "", templates: tuple[str, ...] = ()) -> PlannedTest:
    return PlannedTest(test=name, file="f", checks=(), group=group or name, boots=boots, templates=templates)


def _run_host(collected: Collected, shard: Shard) -> None:
    own, slots = set(shard.tests), threading.Semaphore(_LANES)
    locks: dict[str, threading.Lock] = {}
    booted = set[str]()
    for name in {template for unit in units_of(collected) for template in unit.templates}:
        locks[name] = threading.Lock()

    def boot(seconds: float) -> None:
        with slots:
            time.sleep(seconds)

    def run(took_s: float, templates: frozenset[str]) -> None:
        for name in sorted(templates):
            with locks[name]:
                if name not in booted:
                    boot(_BOOT_S)
                    booted.add(name)
        boot(took_s)

    units = [unit for unit in units_of(collected) if own.issuperset(unit.tests)]
    with ThreadPoolExecutor(8) as workers:
        for done in [workers.submit(run, unit.took_s, unit.templates) for unit in units]:
            done.result()


def _merging(parts: int, *, quick: bool) -> Iterable[Figure]:
    tests, logs_bytes = (200, 1 << 24) if quick else (_TESTS, _LOGS_BYTES)
    with TemporaryDirectory() as folder:
        shards = ShardRun(folder=Path(folder) / "runs", count=tests, shards=parts, log_bytes=logs_bytes // tests)
        for number in range(1, parts + 1):
            shards.part(number)
        command: list[str | Path] = [Path(sys.executable).with_name("bootproof"), "merge", Path(folder) / "runs"]
        begun_s = time.monotonic()
        done = subprocess.run(
            [*command, "--run-dir", Path(folder) / "merged"], capture_output=True, text=True, check=False, cwd=folder
        )
        took_s = time.monotonic() - begun_s
    if done.returncode:
        raise RuntimeError(
            f"bootproof merge ended with status {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"
        )
    memory_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    what = f"merge of {parts} parts with {tests} tests and {logs_bytes >> 20} MiB of logs"
    yield Figure(row="shards", what=what, value=took_s, unit="s", limit=Limit(most=60.0, unit="s", binding=False))
    yield Figure(
        row="shards", what="the memory of the merge", value=memory_mib, unit="MiB",
        limit=Limit(most=500.0, unit="MiB", binding=False),
    )  # fmt: skip

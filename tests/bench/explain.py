"""``bootproof explain`` of a log of 100 MB: seconds, and MiB of memory at its peak."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from .start import ROOT
from .table import Figure, Limit

_LOG_BYTES = 100_000_000
_CONSOLES = ROOT / "tests" / "consoles"


def measure(*, quick: bool) -> list[Figure]:
    """The log repeats a good boot; the last boot panics."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "console.log")
        good = (_CONSOLES / "ubuntu-24.04.good.log").read_bytes()
        bad = (_CONSOLES / "debian-11.crash.log").read_bytes()
        with log.open("wb") as file:
            for _ in range(_LOG_BYTES // len(good)):
                file.write(good)
            file.write(bad)
        size_mb = log.stat().st_size / 1e6
        samples = [_explain(log) for _ in range(1 if quick else 3)]
    taken_s, memory_mib = ([sample[place] for sample in samples] for place in (0, 1))
    return [
        Figure(row="explain", what="explain of a 100 MB log", value=median(taken_s), unit="s",
               limit=Limit(most=10.0, unit="s"), samples={"seconds": taken_s}),
        Figure(row="explain", what="its rate", value=size_mb / median(taken_s), unit="MB/s"),
        Figure(row="explain", what="its memory", value=median(memory_mib), unit="MiB",
               limit=Limit(most=200.0, unit="MiB"), samples={"memory": memory_mib}),
    ]  # fmt: skip


def _explain(log: Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    argv = [str(Path(sys.executable).with_name("bootproof")), "explain", str(log)]
    started_s = time.perf_counter()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        page = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        taken_s = time.perf_counter() - started_s
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 1 or "[kernel-panic]" not in page:
        raise RuntimeError(f"the panic at the end was not found; status {child.returncode}:\n{page[-2000:]}")
    return taken_s, usage.ru_maxrss / 1024

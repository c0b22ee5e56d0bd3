"""``bootproof explain`` of a log of 100 MB, as it is and as a terminal wraps it: seconds, and MiB at its peak."""

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

_LOG_BYTES, _COLUMNS = 100_000_000, 80
_CONSOLES = ROOT / "tests" / "consoles"


def measure(*, quick: bool) -> list[Figure]:
    """The log repeats a good boot; the last boot panics."""
    return [
        figure
        for what, columns in (("a 100 MB log", 0), ("a 100 MB log that a terminal wrapped", _COLUMNS))
        for figure in _measure(what, columns, 1 if quick else 3)
    ]


def _measure(what: str, columns: int, times: int) -> list[Figure]:
    with TemporaryDirectory() as folder:
        log = Path(folder, "console.log")
        good, bad = (
            _wrapped((_CONSOLES / name).read_bytes(), columns)
            for name in ("ubuntu-24.04.good.log", "debian-11.crash.log")
        )
        with log.open("wb") as file:
            for _ in range(_LOG_BYTES // len(good)):
                file.write(good)
            file.write(bad)
        size_mb = log.stat().st_size / 1e6
        samples = [_explain(log) for _ in range(times)]
    taken_s, memory_mib = ([sample[place] for sample in samples] for place in (0, 1))
    return [
        Figure(row="explain", what=f"explain of {what}", value=median(taken_s), unit="s",
               limit=Limit(most=10.0, unit="s"), samples={"seconds": taken_s}),
        Figure(row="explain", what=f"rate, {what}", value=size_mb / median(taken_s), unit="MB/s"),
        Figure(row="explain", what=f"memory, {what}", value=median(memory_mib), unit="MiB",
               limit=Limit(most=200.0, unit="MiB"), samples={"memory": memory_mib}),
    ]  # fmt: skip


def _wrapped(log: bytes, columns: int) -> bytes:
    """``log`` with a line end after every so many characters of a line; 0 leaves it as it is."""
    if not columns:
        return log
    lines = (line.rstrip(b"\r") for line in log.split(b"\n"))
    return b"\r\n".join(line[at : at + columns] for line in lines for at in range(0, max(1, len(line)), columns))


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

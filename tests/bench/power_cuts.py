"""The time of the check power-cuts: a whole run on base, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.model.events import PowerCutsJudged, ReportedTest
from harness.runs.folder import Run
from harness.store.store import find_store

from .start import ROOT
from .table import Figure, Limit

_CUTS = 20000


def measure(*, quick: bool) -> list[Figure]:
    """Seconds to judge all states, and from then to the end of the run, in which one state in a thousand is booted."""
    count = 2000 if quick else _CUTS
    with TemporaryDirectory(dir=find_store().folder("bench")) as folder:
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n8", "--image", "base", "--thorough"]
        argv += [f"--power-cuts={count}", f"--run-dir={folder}", "tests/image/test_power_cuts.py"]
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
        run = Run((Path(folder) / "latest").resolve(), "main")
        judged = [(at.time_s, at.event.took_s) for at in run.events() if isinstance(at.event, PowerCutsJudged)]
        ends_s = [event.time_s for event in run.events() if isinstance(event.event, ReportedTest)]
        if not judged or " failed" in done.stdout.splitlines()[-1]:
            raise RuntimeError(done.stdout[-2000:])
    (judged_s, took_s), *_ = judged
    boots_s = max(ends_s) - judged_s
    return [
        Figure(row="power-cuts", what=f"{count} states of a disk judged", value=took_s, unit="s",
               limit=Limit(most=120, unit="s", binding=False)),
        Figure(row="power-cuts", what=f"{max(2, count // 1000)} of them booted, -n 8", value=boots_s, unit="s",
               limit=Limit(most=300, unit="s", binding=False)),
    ]  # fmt: skip

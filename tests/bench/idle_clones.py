"""What the shared machines of eight workers cost while no test uses them, and how long each takes to continue.

They are made as a run makes them, and paused as after a test. CPU seconds are those of their QEMUs: the first minute
counts from the start of each, so that it has its start and the inspection of its files and units, too.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.lab import Lab, open_lab
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.machine.states import BOOTED
from harness.machine.templates import Templates
from harness.model.definition import load_definition
from harness.model.events import Frozen, Resumed
from harness.store.store import find_store

from .clones import make_templates
from .start import ROOT
from .table import Figure, Limit

_CLONES = 8
_MINUTE_S = 60
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def measure(*, quick: bool) -> list[Figure]:
    """Of nova-kvm, or quickly of two clones of base."""
    definition = load_definition(ROOT / "images" / ("base" if quick else "nova-kvm"))
    clones = 2 if quick else _CLONES
    artifacts = build(definition, find_store())
    with TemporaryDirectory(dir=find_store().folder("bench")) as name:
        templates = make_templates(definition, artifacts, Path(name))
        with ExitStack() as stack:
            templates.hold(BOOTED, stack)
        (frozen,) = templates.store.run.of_kind(Frozen)
        units = ", ".join(f"{unit} {seconds:g} s" for unit, seconds in frozen.waited_for.items())
        return [
            _figure(f"until quiet ({units or 'at once'})", [frozen.quiet_s], "s"),
            *_paused(templates, clones),
            _figure("a clone that runs: its first minute", [_running_s(templates)], "CPU s"),
        ]


def _paused(templates: Templates, clones: int) -> list[Figure]:
    with ExitStack() as stack:
        shared = [_shared(templates, f"shared-{number}", stack) for number in range(clones)]
        pids = []
        for one in shared:
            pids.append(one.machine.running_boot.child.pid)
            one.pause()
        time.sleep(_MINUTE_S)
        first_s = [_cpu_s(pid) for pid in pids]
        time.sleep(_MINUTE_S)
        second_s = [_cpu_s(pid) - before_s for pid, before_s in zip(pids, first_s, strict=True)]
        late_s = [abs(float(one.machine.check("date +%s.%N")) - time.time()) for one in shared]
        resumed_s = [resumed.took_s * 1000 for resumed in templates.store.run.of_kind(Resumed)]
    return [
        _figure(f"{clones} clones without a test: first minute", [sum(first_s)], "CPU s", 8, first_s),
        _figure(f"{clones} clones without a test: the minute after", [sum(second_s)], "CPU s", 0.5, second_s),
        _figure("a clone continues", resumed_s, "ms"),
        _figure("its clock is wrong by at most", [max(late_s)], "s", 0.5, late_s),
    ]


def _shared(templates: Templates, name: str, stack: ExitStack) -> SharedMachine:
    shared = SharedMachine(name, templates.store.run.folder, partial(_make, templates), open_lab)
    stack.callback(shared.release)
    return shared


def _make(templates: Templates, name: str, lab: Lab, folder: Path) -> AbstractContextManager[Machine]:
    return templates.machine(BOOTED, name, lab=lab, folder=folder)


def _running_s(templates: Templates) -> float:
    """CPU seconds of a clone that is not paused."""
    with ExitStack() as stack:
        pid = _shared(templates, "running", stack).machine.running_boot.child.pid
        time.sleep(_MINUTE_S)
        return _cpu_s(pid)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process since its start (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _figure(
    what: str, samples: list[float], unit: str, most: float | None = None, raw: list[float] | None = None
) -> Figure:
    limit = None if most is None else Limit(most=most, unit=unit, binding=False)
    return Figure(
        row="idle-clones", what=what, value=median(samples), unit=unit, limit=limit, samples={what: raw or samples}
    )

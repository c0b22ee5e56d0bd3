"""What a boot costs with each QEMU, and how often its emulation goes wrong: bare machines, two at a time.

Only on request, as it takes long; the environment selects: ``BENCH_QEMUS`` (as in ``$BOOTPROOF_QEMU``, separated by
blanks; default: each that is installed, with both kinds of threads), ``BENCH_IMAGES`` (default: base nova-kvm) and
``BENCH_BOOTS`` of each (an even number; default: 200, or 2 with ``--quick``). The QEMUs take turns, a pair of boots
each, as the host's speed changes from hour to hour.

A fault is a console pattern of the emulator's bugs, a lockup or an oops of the kernel, or a machine that does not
become ready: the image and the host are the same for all. Machines boot the direct path on QEMU's user network.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.guest.console_patterns import patterns_in
from harness.host import emulator
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import Accelerator
from harness.model.qemu import Qemu, Thread
from harness.qemu import program
from harness.store.store import find_store

from ..machines import specify
from .boot import NotReady, boot_bare_by, ready_after
from .start import ROOT
from .table import Figure

_FAULTS = ("emulator-fault", "kernel-lockup", "kernel-oops", "kernel-panic")


@dataclass
class _Tally:
    """The samples of one QEMU and image: seconds of the boots that became ready, and a line for each fault."""

    cpu_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def measure(*, quick: bool) -> list[Figure]:
    qemus, pairs = _qemus(), max(1, int(os.environ.get("BENCH_BOOTS", 2 if quick else 200)) // 2)
    figures = []
    for name in os.environ.get("BENCH_IMAGES", "base" if quick else "base nova-kvm").split():
        definition = load_definition(ROOT / "images" / name)
        artifacts = build(definition, find_store())
        tallies = [_Tally() for _ in qemus]
        for _ in range(pairs):
            for qemu, tally in zip(qemus, tallies, strict=True):
                _boot_pair(definition, artifacts, qemu, tally)
        for qemu, tally in zip(qemus, tallies, strict=True):
            figures += _figures(name, qemu, tally, boots=2 * pairs)
    return figures


def _qemus() -> list[Qemu]:
    if words := os.environ.get("BENCH_QEMUS", "").split():
        return [qemu for word in words if (qemu := program.named(word))]
    return [replace(qemu, thread=thread) for qemu in emulator.installed() for thread in Thread]


def _boot_pair(definition: ImageDefinition, artifacts: Artifacts, qemu: Qemu, tally: _Tally) -> None:
    def boot_once() -> None:
        with TemporaryDirectory() as folder:
            spec = replace(specify(definition, artifacts, Path(folder)), accelerator=Accelerator.TCG)
            try:
                booted = boot_bare_by(spec, artifacts, Path(folder), qemu, after=ready_after(definition))
            except NotReady as error:
                tally.faults.append(str(error))
                return
        tally.cpu_s.append(booted.cpu_s)
        tally.took_s.append(booted.took_s)
        lines = booted.console.decode("utf-8", "replace").splitlines()
        tally.faults += [line for line in lines if any(seen.id in _FAULTS for seen in patterns_in(line))][:1]

    with ThreadPoolExecutor(2) as pool:
        for boot in [pool.submit(boot_once) for _ in range(2)]:
            boot.result()
    print(f"  {qemu}: {tally.cpu_s[-2:]} CPU s, {tally.took_s[-2:]} s, faults: {tally.faults}", file=sys.stderr)


def _figures(image: str, qemu: Qemu, tally: _Tally, *, boots: int) -> list[Figure]:
    what = f"{image}, QEMU {qemu.version} {qemu.thread}"
    timed = {"CPU of a boot": tally.cpu_s, "a boot beside another": tally.took_s}
    figures = [
        Figure(row="emulator", what=f"{what}: {name}", value=median(samples), unit="s", samples={name: samples})
        for name, samples in timed.items()
        if samples
    ]
    faults = f"{what}: faults in {boots} boots"
    return [*figures, Figure(row="emulator", what=faults, value=len(tally.faults), unit="")]

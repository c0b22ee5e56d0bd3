"""The time from the first sign of a network fault, on the wire, to the finding that names it."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.host import accelerator
from harness.lab import TraceEvent, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import boot
from harness.model.definition import load_definition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.network_faults import read
from harness.model.verdict import Finding
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run, make_key
from harness.store.store import find_store

from .start import ROOT
from .table import Figure, Limit

_KINDS = (
    "dhcp-silent", "http-404-kernel", "http-503-initrd", "http-cut-kernel", "http-stalls-kernel", "http-flipped-initrd",
    "http-404-rootfs",
)  # fmt: skip
_QUICK = _KINDS[:2]


def measure(*, quick: bool) -> list[Figure]:
    took_s = {name: [_once(name)] for name in (_QUICK if quick else _KINDS)}
    every = [sample for samples in took_s.values() for sample in samples]
    return [
        Figure(
            row="network-faults",
            what=f"{what} of {len(every)} kinds, from the first sign on the wire to the finding",
            value=value,
            unit="s",
            limit=limit,
            samples=took_s,
        )
        for what, value, limit in (
            ("the median", median(every), None),
            ("the slowest", max(every), Limit(most=5.0, unit="s")),
        )
    ]


def _once(name: str) -> float:
    store, definition = find_store(), load_definition(ROOT / "images" / "base")
    artifacts = build(definition, store)
    with TemporaryDirectory() as plain:
        folder = Path(plain)
        run = Run(folder, "main")
        make_key(run, store)
        spec = MachineSpec(
            name="machine",
            uuid=uuid.uuid4(),
            boot_path=BootPath.IPXE_BIOS,
            accelerator=accelerator.take("auto", artifacts, store).accelerator,
            memory_mib=definition.memory_mib,
            disks=(make_disk(folder / "data.raw"),),
        )
        with open_lab(folder / "lab", network_faults=[read(name)]) as lab:
            context = BootContext(lab=lab, run=run, slots=store.folder("slots"))
            try:
                with boot(spec, artifacts, definition, context=context):
                    raise RuntimeError(f"base came up in spite of {name}")
            except BootFailed:
                found_s = next(event.time_s for event in run.events() if isinstance(event.event, Finding))
                return found_s - (time.time() - time.monotonic()) - _first_sign_s(lab.trace.events(0))


def _first_sign_s(steps: list[TraceEvent]) -> float:
    """When a server first reported a problem or, if it reported none, its last step."""
    return next((step.time_s for step in steps if step.problem), steps[-1].time_s)

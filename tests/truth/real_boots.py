"""Whole boots: by one network card over the network, or with /data behind one controller, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.fleet import ImageDrivers
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import boot
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, DiskBus, MachineSpec, NicModel, NicSpec
from harness.model.timeouts import Timeouts
from harness.runs.folder import Run, make_key
from harness.store.store import find_store

from .boots import specify
from .devices import DEVICES, place
from .machine import argv_of, devices_argv, started
from .pairs import Pair, predicted
from .survey import INITRD

MODELS: dict[str, NicModel | DiskBus] = {  # cards for which QEMU has a ROM that boots
    "virtio-net-pci": NicModel.VIRTIO,
    "e1000e": NicModel.E1000E,
    "vmxnet3": NicModel.VMXNET3,
    "megasas": DiskBus.MEGASAS,
    "nvme": DiskBus.NVME,
    "ich9-ahci": DiskBus.SATA,
}
_BOOT_S = 150.0
"""For one of two cores to itself: a boot that goes wrong need not use up the time of one on a busy host."""


def pairs(
    definition: ImageDefinition, artifacts: Artifacts, drivers: ImageDrivers, names: Iterable[str]
) -> Iterator[Pair]:
    """A pair for each device of `MODELS` with one of the ``names``."""
    wanted = [one for one in DEVICES if one.name in names and one.name in MODELS]
    placed = place(wanted)
    with TemporaryDirectory() as name:
        spec = replace(specify(definition, artifacts, Path(name)), disks=())
        with started(argv_of(spec, artifacts, Path(name), devices_argv(placed)), Path(name)) as (_, paused):
            numbers = {one.address: paused.numbers(one.address) for one in placed}
    guesses = [
        next(pair for pair in predicted(drivers, one, numbers[one.address]) if pair.place == INITRD) for one in placed
    ]
    for guess in guesses:
        with TemporaryDirectory() as name:
            folder = Path(name)
            spec = _with(MODELS[guess.device], specify(definition, artifacts, folder))
            said = _boot(spec, artifacts, definition, folder)
            yield replace(guess, place="boot", is_driven=said == "ready", seen=(said,))


def _with(model: NicModel | DiskBus, spec: MachineSpec) -> MachineSpec:
    if isinstance(model, NicModel):
        return replace(spec, name="truth", boot_path=BootPath.IPXE_BIOS, nics=(NicSpec(model=model),))
    return replace(spec, name="truth", disks=(replace(spec.disks[0], bus=model),))


def _boot(spec: MachineSpec, artifacts: Artifacts, definition: ImageDefinition, folder: Path) -> str:
    """ "ready", or the finding of a boot that failed."""
    run = Run(folder, "main")
    make_key(run, find_store())
    (folder / "lab").mkdir()
    with open_lab(folder / "lab") as lab:
        context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"), timeouts=Timeouts(boot_s=_BOOT_S))
        try:
            with boot(spec, artifacts, definition, context=context):
                return "ready"
        except BootFailed as failure:
            return f"{failure.finding.id}: {failure.finding.what}"

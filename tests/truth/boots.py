"""One boot of an image on a machine with many devices: predictions first, then the truth."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from harness.fleet import ImageDrivers
from harness.host import accelerator
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu.disk_images import make_disk
from harness.store.store import find_store

from .devices import Emulated, place
from .machine import argv_of, devices_argv, started, wait_for_truth
from .pairs import Pair, compared, differences, predicted
from .survey import ROOT, parse
from .usb_card import CARD, USB_CARD, usb_card


def specify(definition: ImageDefinition, artifacts: Artifacts, folder: Path) -> MachineSpec:
    """A machine of the image, with a blank disk for /data. A second CPU would be emulated in the same thread."""
    return MachineSpec(
        name="bare",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        accelerator=accelerator.take("auto", artifacts, find_store()).accelerator,
        cpus=1,
        memory_mib=definition.memory_mib,
        disks=(make_disk(folder / "data.raw"),),
    )


def boot_and_compare(
    definition: ImageDefinition,
    artifacts: Artifacts,
    drivers: ImageDrivers,
    devices: Iterable[Emulated],
    folder: Path,
) -> tuple[list[Pair], list[str]]:
    """The pairs of all ``devices``, which are in one machine; and what makes them no pairs of the same device."""
    rows = tuple(devices)
    placed = place(rows)
    argv = argv_of(replace(specify(definition, artifacts, folder), disks=()), artifacts, folder, devices_argv(placed))
    with ExitStack() as stack:
        chardevs = {USB_CARD: stack.enter_context(usb_card())} if CARD in rows else {}
        child, paused = stack.enter_context(started(argv, folder, chardevs))
        numbers = {one.address: paused.numbers(one.address) for one in placed}
        guesses = [(one, pair) for one in placed for pair in predicted(drivers, one, numbers[one.address])]
        paused.go()
        truth = parse(wait_for_truth(child, folder))
    pairs = [compared(pair, one, truth) for one, pair in guesses]
    return [replace(pair, image=drivers.image) for pair in pairs], differences(placed, numbers, truth[ROOT])

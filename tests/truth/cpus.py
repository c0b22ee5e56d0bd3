"""CPU models: will an image boot on one, by its level of x86-64, and does its initrd come up on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.fleet import Effect, FleetHost, ImageDrivers, predict
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import MachineSpec

from .boots import specify
from .machine import argv_of, started, wait_for_console
from .pairs import DRIVES, DRIVES_NOT, Pair
from .survey import INITRD

_UP = r"systemd\[1\]: (?:systemd \d+|Inserted module|Detected|Running in initrd)|Welcome to"
_DOWN = r"This kernel requires[^\r\n]*|Unable to boot[^\r\n]*|Kernel panic[^\r\n]*|CPU ISA level[^\r\n]*"
_BOOT_S = 90.0
"""Three times what the slowest of the models takes to process 1 under TCG."""


def pairs(
    definition: ImageDefinition, artifacts: Artifacts, drivers: ImageDrivers, models: Iterable[str]
) -> Iterator[Pair]:
    """A pair for each of the ``models`` that this QEMU has."""
    with TemporaryDirectory() as name:
        spec = replace(specify(definition, artifacts, Path(name)), disks=())
        with started(argv_of(spec, artifacts, Path(name)), Path(name)) as (_, paused):
            levels = paused.cpu_levels(models)
    guesses = [_predicted(drivers, model, level) for model, level in levels.items()]
    for guess in guesses:
        with TemporaryDirectory() as name:
            yield _compared(guess, spec, artifacts, Path(name))


def _predicted(drivers: ImageDrivers, model: str, level: int) -> Pair:
    about = predict(drivers, FleetHost(name=model, firmware="bios", cpu_level=level))
    lacks = [one for one in about if one.effect is Effect.WILL_NOT_BOOT and one.device.startswith("cpu")]
    return Pair(
        image=drivers.image, place=INITRD, kind="cpu", device=model, id=f"level {level}",
        predicted=DRIVES_NOT if lacks else DRIVES, said=tuple(f"{one.id}: {one.what}" for one in lacks),
    )  # fmt: skip


def _compared(guess: Pair, spec: MachineSpec, artifacts: Artifacts, folder: Path) -> Pair:
    argv = argv_of(spec, artifacts, folder, has_root=False)
    argv[argv.index("-cpu") + 1] = guess.device
    with started(argv, folder) as (child, paused):
        paused.go()
        found = wait_for_console(child, folder, f"{_UP}|{_DOWN}", _BOOT_S)
        if found is None and (instruction := paused.endless_instruction()):
            return replace(guess, seen=(f"the emulator never completes the instruction {instruction}",))
    said = found[0].strip() if found else "nothing within the time"
    return replace(guess, is_driven=re.match(_UP, said) is not None, seen=(said,))

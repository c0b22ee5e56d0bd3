"""A machine that is ready, for tests that look at it or plant faults in it while it runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.build.pipeline import build
from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.host import accelerator
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine, boot
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, MachineSpec, NicSpec
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run, make_key
from harness.store.store import find_store


@contextmanager
def ready_machine(
    definition: ImageDefinition, folder: Path, *, nics: tuple[NicSpec, ...] = (NicSpec(),)
) -> Iterator[Machine]:
    """A machine of the image with a blank disk, booted by the direct path; its files are in ``folder``."""
    store = find_store()
    artifacts = build(definition, store)
    run = Run(folder, "main")
    make_key(run, store)
    spec = MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        accelerator=accelerator.take("auto", artifacts, store).accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
        disks=(make_disk(folder / "data.raw"),),
        nics=nics,
    )
    (folder / "lab").mkdir()
    with open_lab(folder / "lab") as lab:
        context = BootContext(lab=lab, run=run, slots=store.folder("slots"))
        with boot(spec, artifacts, definition, context=context) as machine:
            yield machine


class Counting(Channel):
    """A channel that counts round trips."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.count = channel, 0

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.count += 1
        return self.channel.run(command, deadline)

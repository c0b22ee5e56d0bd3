"""A plain machine of an image, for tests and measurements that boot one themselves."""

from __future__ import annotations

import uuid
from pathlib import Path

from harness.host import accelerator
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run, make_key
from harness.store.store import find_store


def specify(definition: ImageDefinition, artifacts: Artifacts, folder: Path) -> MachineSpec:
    """With a blank disk in ``folder``, booted by the direct path."""
    store = find_store()
    return MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        accelerator=accelerator.take("auto", artifacts, store).accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
        disks=(make_disk(folder / "data.raw"),),
    )


def run_in(folder: Path) -> Run:
    """A run that keeps its files in ``folder``."""
    run = Run(folder, "main")
    make_key(run, find_store())
    return run

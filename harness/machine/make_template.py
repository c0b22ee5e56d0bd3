"""Freeze a ready machine: its memory, devices, disks and logs become the files of a template."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from harness.core.host_id import boot_id
from harness.guest.readiness import wait_until_quiet
from harness.guest.serial_shell import SerialChannel
from harness.guest.testinfra_host import gather_facts
from harness.machine.machine import Machine
from harness.model.events import Frozen
from harness.model.layout import CAPTURE
from harness.model.machine_spec import BootPath, DiskFormat, DiskSpec
from harness.qemu import disk_images, grub
from harness.store.template_record import Template

_WARM = "date -s @$(date +%s); find /data -maxdepth 0; stat /; readlink /bin; systemctl list-units"
"""Programs that each clone runs at once: read from the image and unpacked before the machine is frozen."""


def make_template(machine: Machine, state: str, work: Path, place: Path) -> Template:
    """Freeze ``machine``, which is in ``state`` and whose memory is a file in the folder ``work``, and end it.

    All files are in ``work`` then; the template describes them as they will lie in ``place``. Raises `CannotFreeze`
    where QEMU cannot save the machine.
    """
    run, name = machine.context.run, machine.name
    wait_until_quiet(machine.channel)
    machine.run(_WARM)
    facts = gather_facts(name, machine.channel)
    is_serial = isinstance(machine.channel, SerialChannel)
    started_s = time.monotonic()
    machine.freeze(work / "state")
    is_grub = machine.spec.boot_path is BootPath.GRUB
    if is_grub:
        grub.keep(machine.folder, work)
    run.add(Frozen(state=state, took_s=round(time.monotonic() - started_s, 3)))
    disks = tuple(_standalone(disk, place) for disk in machine.spec.disks)
    boots = tuple(boot for boot in run.boots() if boot.machine == name and boot.number >= machine.first)
    for boot in boots:
        logs = Path(boot.console).parent
        shutil.copytree(logs, work / logs.name, ignore=shutil.ignore_patterns(CAPTURE))
    return Template(
        folder=place,
        image=machine.definition.name,
        version=machine.artifacts.manifest.version,
        boot_id=boot_id(),
        state=state,
        spec=replace(machine.spec, name="", disks=disks),
        artifacts=machine.artifacts.folder,
        run=run.folder,
        is_serial=is_serial,
        boots=boots,
        facts=facts,
        files={},
        offers=tuple(offer.folder for offer in machine.offers) if is_grub else (),
    )


def _standalone(disk: DiskSpec, place: Path) -> DiskSpec:
    """No template depends on another: an overlay is flattened into a raw image."""
    raw = disk.path.with_suffix(".raw")
    if disk.format is not DiskFormat.RAW:
        disk_images.flatten(disk.path, raw)
        disk.path.unlink()
    return replace(disk, path=place / raw.name, format=DiskFormat.RAW)

"""Freeze a ready machine into the files of a template, and clone it: run copy-on-write copies of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.core import process
from harness.core.deadline import Deadline, host_scale
from harness.core.errors import Blame, HostError
from harness.core.host_id import boot_id
from harness.guest.quiet import Quiet, wait_until_quiet
from harness.guest.serial_shell import SerialChannel
from harness.guest.testinfra_host import gather_facts
from harness.machine.boot_plan import BootContext, FrozenMachine
from harness.machine.machine import Machine, thaw
from harness.model.artifacts import load_artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Cloned, Frozen
from harness.model.layout import CAPTURE
from harness.model.machine_spec import BootPath, DiskFormat, DiskSpec
from harness.model.verdict import Finding
from harness.qemu import disk_images, grub
from harness.runs.folder import Run
from harness.store.template_record import Template

_MEMORY_SHARE = 0.25
"""The share of a guest's memory that a clone takes of the host's, until earlier runs have measured it."""

_WARM = "date -s @$(date +%s) && find / -maxdepth 0 && stat / && readlink -f /bin && systemctl list-units"
"""Programs that each clone runs at once: read from the image and unpacked before the machine is frozen."""


def make_template(machine: Machine, state: str, work: Path, place: Path) -> Template:
    """Freeze ``machine``, which is in ``state`` and whose memory is a file in the folder ``work``, and end it.

    All files are in ``work`` then; the template describes them as they will lie in ``place``. Raises `CannotFreeze`
    where QEMU cannot save the machine.
    """
    run, name = machine.context.run, machine.name
    quiet = _become_quiet(machine, state)
    machine.check(_WARM)
    facts = gather_facts(name, machine.channel)
    is_serial = isinstance(machine.channel, SerialChannel)
    started_s = time.monotonic()
    machine.freeze(work / "state")
    is_grub = machine.spec.boot_path is BootPath.GRUB
    if is_grub:
        grub.keep(machine.folder, work)
    took_s = round(time.monotonic() - started_s, 3)
    run.add(Frozen(state=state, took_s=took_s, quiet_s=quiet.took_s, waited_for=quiet.waited_for, busy=quiet.busy))
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
        notes=machine.notes,
    )


def _become_quiet(machine: Machine, state: str) -> Quiet:
    context, waiting = machine.context, machine.definition.may_wait
    quiet = wait_until_quiet(machine.channel, waiting, Deadline(context.timeouts.quiet_s), scale=host_scale())
    if note := note_if_busy(quiet, state):
        context.run.add_note(note)
    return quiet


def note_if_busy(quiet: Quiet, state: str) -> str:
    """A sentence if the wait for a quiet guest was given up; empty if it became quiet."""
    if not quiet.busy:
        return ""
    units = ", ".join(quiet.busy)
    return f"state {state} is frozen while {units} is busy, after {quiet.took_s:.0f} s: each clone continues that work"


def _standalone(disk: DiskSpec, place: Path) -> DiskSpec:
    """No template depends on another: an overlay is flattened into a raw image."""
    raw = disk.path.with_suffix(".raw")
    if disk.format is not DiskFormat.RAW:
        disk_images.flatten(disk.path, raw)
        disk.path.unlink()
    return replace(disk, path=place / raw.name, format=DiskFormat.RAW)


@contextmanager
def clone(
    template: Template,
    name: str,
    definition: ImageDefinition,
    *,
    context: BootContext,
    folder: Path,
    memory: Path | None = None,
    host_memory_mib: int = 0,
) -> Iterator[Machine]:
    """A running copy of ``template`` while the block lasts, its disks in ``folder``.

    With ``memory``, a copy of the template's that it may write to, it can be frozen again. ``host_memory_mib`` is what
    it takes of the host's memory, 0 if unknown. Raises `CannotFreeze` where QEMU cannot load the state, and
    `HostError` if the template was altered while the block failed.
    """
    started_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    disks = tuple(_overlay(disk, folder / f"{disk.path.stem}.qcow2") for disk in template.spec.disks)
    spec = replace(template.spec, name=name, disks=disks)
    frozen = FrozenMachine(
        memory=template.folder / "memory",
        state=template.folder / "state",
        is_serial=template.is_serial,
        host_memory_mib=host_memory_mib or int(spec.memory_mib * _MEMORY_SHARE),
        boot_disk=template.folder if template.offers else None,
    )
    artifacts, context = load_artifacts(template.artifacts), replace(context, doubt=template.alteration)
    with thaw(frozen, spec, artifacts, definition, context=context, memory=memory) as machine:
        machine.facts, machine.notes = template.facts, dict(template.notes)
        machine.offers = tuple(map(load_artifacts, template.offers)) or machine.offers
        took_s = time.monotonic() - started_s
        try:
            yield machine
        except Exception as error:
            if alteration := template.alteration():
                raise HostError(f"{alteration} while a clone of it ran") from error
            raise
        finally:
            mib = process.private_mib(machine.running_boot.child.pid) if machine.is_clone else None
            context.run.add(Cloned(machine=name, state=template.state, took_s=round(took_s, 3), mib=mib))
            _note_alteration(template, name, context.run)


def _overlay(disk: DiskSpec, path: Path) -> DiskSpec:
    disk_images.make_overlay(path, disk.path, base_format=disk.format)
    return replace(disk, path=path, format=DiskFormat.QCOW2)


def _note_alteration(template: Template, name: str, run: Run) -> None:
    if alteration := template.alteration():
        run.add_finding(
            Finding(
                id="template-altered",
                what=f"{alteration} while a clone of it ran",
                where=name,
                blame=Blame.HOST,
                cause="another program changed the store; the clone's results may be wrong",
            )
        )

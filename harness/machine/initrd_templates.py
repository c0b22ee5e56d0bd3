"""Boots that begin in the initrd: a machine is frozen there before it has a disk, and each boot continues from a copy.

Firmware, kernel, the first half of the initrd and the download of the root file system are the same for all disks. What
looks at a disk comes later, so each boot still does all of it.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import replace

from harness.core import digest
from harness.core.host_id import boot_id
from harness.guest.serial_shell import takes_serial_shell
from harness.lab import Lab
from harness.machine import states
from harness.machine.boot_plan import FrozenMachine, stopping
from harness.machine.machine import boot_into_initrd
from harness.machine.templates import Templates, template_key
from harness.model.events import Frozen
from harness.model.machine_spec import BootPath, DiskBus, MachineSpec
from harness.qemu.snapshot import CannotFreeze
from harness.store.template_record import Template

IN_INITRD = "initrd"
_UNFIT_PATHS = (BootPath.GRUB, BootPath.KEXEC)


def obstacle(spec: MachineSpec, systemd: int | None, *, has_network_faults: bool) -> str:
    """Why a boot of ``spec`` cannot begin in the initrd; empty if it can. ``systemd`` is the release in the image."""
    if has_network_faults:
        return "network faults act on the whole boot"
    if not takes_serial_shell(systemd):
        return "nothing stops an initrd whose systemd is older than 256, or of unknown age"
    if spec.boot_path in _UNFIT_PATHS:
        return f"no boot by {spec.boot_path} does"
    if spec.has_tpm:
        return "it has a TPM, whose state is in another process"
    for disk in spec.disks:
        if disk.bus is not DiskBus.SCSI:
            return f"a disk on {disk.bus} cannot be attached to a running machine"
        if disk.late_s:
            return "its disk appears a time after power-on"
        if disk.fails_writes_from:
            return "the disk's faulty range is a limit of QEMU's process"
    return ""


def start_in_initrd(
    templates: Templates, spec: MachineSpec, lab: Lab, until: ExitStack
) -> tuple[MachineSpec, FrozenMachine | None]:
    """What a boot of ``spec`` in ``lab`` continues from, and ``spec`` with the UUID of that machine.

    The template is made if there is none and not evicted before ``until`` closes. None if the machine must boot from
    power-on; a note in the run says why.
    """
    run, artifacts = templates.store.run, templates.spec.first_artifacts(states.path_to(states.BOOTED)[0])
    reason = obstacle(spec, artifacts.manifest.systemd, has_network_faults=bool(lab.network_faults))
    if not reason:
        try:
            template = _hold(templates, spec, until)
        except CannotFreeze as error:
            reason = str(error)
        else:
            frozen = FrozenMachine(
                memory=template.folder / "memory",
                state=template.folder / "state",
                is_serial=True,
                host_memory_mib=spec.memory_mib,
                is_in_initrd=True,
            )
            return replace(spec, uuid=template.spec.uuid), frozen
    run.add_note(f"{spec.name} boots from power-on: {reason}")
    return spec, None


def _hold(templates: Templates, spec: MachineSpec, until: ExitStack) -> Template:
    common = replace(spec, name="", uuid=uuid.UUID(int=0), disks=())
    key = digest.of_value(
        [
            IN_INITRD,
            template_key(
                replace(templates.spec, machine=stopping(common)), states.path_to(states.BOOTED), templates.store
            ),
        ]
    )
    return templates.store.hold(key, IN_INITRD, lambda: _make(templates, common, key), until)


def _make(templates: Templates, common: MachineSpec, key: str) -> None:
    store, definition = templates.store, templates.spec.definition
    store.check_room(common.memory_mib)
    name = "-".join(("template", IN_INITRD, *filter(None, [templates.spec.repeat])))
    spec = replace(common, name=name, uuid=uuid.uuid4())
    artifacts = templates.spec.first_artifacts(states.path_to(states.BOOTED)[0])
    with store.store.workfolder() as work, ExitStack() as stack:
        folder = work / "template"
        folder.mkdir()
        lab = stack.enter_context(templates.open_lab(store.run.folder / name / "lab"))
        context = templates.context_of(lab)
        machine = stack.enter_context(
            boot_into_initrd(spec, artifacts, definition, context=context, memory=folder / "memory")
        )
        started_s = time.monotonic()
        machine.freeze(folder / "state")
        store.run.add(Frozen(state=IN_INITRD, took_s=round(time.monotonic() - started_s, 3)))
        store.publish(
            folder,
            Template(
                folder=store.folder(key),
                image=definition.name,
                version=artifacts.manifest.version,
                boot_id=boot_id(),
                state=IN_INITRD,
                spec=replace(machine.spec, name=""),
                artifacts=artifacts.folder,
                run=store.run.folder,
                is_serial=True,
                boots=(),
                facts={},
                files={},
            ),
        )

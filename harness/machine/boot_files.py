"""What it takes to reproduce a boot, written to its folder; and its findings, noted there and in the run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.core import serialization
from harness.core.errors import HostError
from harness.lab import Lab
from harness.machine.boot_plan import BootPlan, BootRecord
from harness.model.layout import BOOT_RECORD, CAPTURE, FAILURE, FINDING, UEFI_VARIABLES
from harness.model.machine_spec import DiskSpec
from harness.model.verdict import Finding
from harness.qemu import disk_images
from harness.runs.folder import Run

_PUBLIC = re.compile(r"systemd\.(unit-dropin|extra-unit)\..+")
"""Credentials that configure units. Others, such as a password, may be secret and are not recorded."""


def save(plan: BootPlan, lab: Lab) -> None:
    """Write all that it takes to reproduce this boot: copies of the disks as they are, and a `BootRecord`.

    Removes the copies of the machine's previous boot. `HostError` if there is no room.
    """
    try:
        plan.folder.mkdir(parents=True)
        forget_disks(plan.folder.parent)
        if plan.variables and plan.variables.exists():
            shutil.copyfile(plan.variables, plan.folder / UEFI_VARIABLES)
        _link_capture(plan.folder, lab)
        copies = tuple(_copy(number, disk, plan.folder) for number, disk in enumerate(plan.spec.disks))
        serialization.write(plan.folder / BOOT_RECORD, _record(plan, lab, copies))
    except OSError as error:
        raise HostError(
            f"{plan.folder}: the machine's disks cannot be copied: {error.strerror}; free some space there"
        ) from error


def save_upgrade(plan: BootPlan, running: BootPlan, lab: Lab) -> None:
    """The same for a boot by kexec, which needs the disks with which the boot that is ``running`` was powered on."""
    try:
        plan.folder.mkdir(parents=True)
        _link_capture(plan.folder, lab)
        known = serialization.read(BootRecord, running.folder / BOOT_RECORD)
        for name in filter(None, known.disks):
            (plan.folder / name).hardlink_to(running.folder / name)
        upgrade = replace(
            known,
            number=plan.number,
            boot_path=plan.boot_path,
            artifacts=plan.artifacts.digest,
            is_kexec=True,
            before=known.before or known.artifacts,
        )
        serialization.write(plan.folder / BOOT_RECORD, upgrade)
    except OSError as error:
        raise HostError(
            f"{plan.folder}: the machine cannot be recorded: {error.strerror}; free some space there"
        ) from error


def forget_disks(machine: Path) -> None:
    """Remove from the folder of a ``machine`` the copies of its disks, except of boots with a finding or a failure."""
    for copy in machine.glob("boot-*/disk-*"):
        if not any((copy.parent / name).exists() for name in (FINDING, FAILURE)):
            copy.unlink(missing_ok=True)


def note_finding(plan: BootPlan, run: Run, finding: Finding) -> None:
    """In the run, and in the boot's folder the first one, from which a bundle is made."""
    run.add_finding(finding)
    file = plan.folder / FINDING
    if not file.exists():
        with suppress(OSError):  # a full disk; the run has it
            serialization.write(file, finding)


def durations(begins_s: Mapping[str, float], ready_s: float | None, first: str = "firmware") -> dict[str, float]:
    """Seconds that each phase took, from the seconds at which the phases began, the ``first`` at 0: pure."""
    rows = [(first, 0.0), *begins_s.items()]
    ends = [begin for _, begin in rows[1:]] + [ready_s if ready_s is not None else rows[-1][1]]
    return {name: round(end - begin, 2) for (name, begin), end in zip(rows, ends, strict=True)}


def _link_capture(folder: Path, lab: Lab) -> None:
    for capture in lab.captures[:1]:
        (folder / CAPTURE).symlink_to(os.path.relpath(capture, folder))


def _record(plan: BootPlan, lab: Lab, copies: tuple[str, ...]) -> BootRecord:
    public = {name: value for name, value in plan.spec.credentials.items() if _PUBLIC.fullmatch(name)}
    disks = tuple(  # of a blank disk there is no copy, so its size is recorded
        disk if copy else replace(disk, size_gib=max(1, disk.path.stat().st_size >> 30))
        for disk, copy in zip(plan.spec.disks, copies, strict=True)
    )
    return BootRecord(
        spec=replace(plan.spec, credentials=public, disks=disks),
        number=plan.number,
        boot_path=plan.boot_path,
        artifacts=plan.artifacts.digest,
        offers=tuple(offer.digest for offer in plan.offers),
        entry=plan.entry,
        network=lab.network,
        network_faults=tuple(fault.name for fault in lab.network_faults),
        disks=copies,
        is_clone=plan.is_clone,
        is_kexec=plan.is_kexec,
    )


def _copy(number: int, disk: DiskSpec, folder: Path) -> str:
    """The name of a copy of ``disk`` in ``folder``, which is as sparse as the disk; empty for a blank disk."""
    if not disk.path.stat().st_blocks:
        return ""
    copy = folder / f"disk-{number}.{disk.format}"
    disk_images.copy_sparse(disk.path, copy)
    return copy.name

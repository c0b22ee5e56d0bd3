"""What is to be powered on, and where: values that a machine, its boots and its clones are made from."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core import serialization
from harness.core.errors import HostError
from harness.guest.serial_shell import takes_serial_shell
from harness.lab import Lab
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.layout import BOOT_RECORD, CAPTURE, FINDING, UEFI_VARIABLES
from harness.model.machine_spec import BootPath, BreakPoint, DiskSpec, MachineSpec, Network
from harness.qemu import command_line, disk_images, grub, ipxe
from harness.qemu.kernel_arguments import kernel_arguments, loads_from_disk
from harness.runs.folder import Run

_PUBLIC = re.compile(r"systemd\.(unit-dropin|extra-unit)\..+")
"""Credentials that say how a machine is to behave. Others, such as a password, are nobody else's affair."""


def where(machine: str, number: int, boot_path: BootPath) -> str:
    """How findings name a boot."""
    return f"{machine}, boot {number} ({boot_path})"


def do_not_hold(_: object) -> None:
    """Of a machine that failed: nobody wants to look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootContext:
    """Where machines run: a lab, the run they belong to, and the host's boot slots.

    ``by_hand`` renders the command a person types to boot these artifacts again; ``keep`` is called with a machine
    whose boot failed, before it is ended, and may wait. With ``keeps_memory`` the memory of guests that fail is kept.
    """

    lab: Lab
    run: Run
    slots: Path
    by_hand: Callable[[Artifacts, MachineSpec], str]
    keep: Callable[[Any], None] = do_not_hold
    keeps_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenMachine:
    """A machine that stands still on disk: its memory, its device state, and how its guest is reached.

    ``is_serial`` says that the serial shell runs in it; ``host_memory_mib`` is what a copy takes of the host's memory.
    The memory is never written to. GRUB's boot disk was kept in the folder ``boot_disk``.
    """

    memory: Path
    state: Path
    is_serial: bool
    host_memory_mib: int
    boot_disk: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecord:
    """A boot on paper, so that it can be made again elsewhere: without credentials that may be secret.

    ``disks`` are copies of the machine's, as they were before, by their names in the boot's folder; empty for one that
    was blank. ``offers`` and ``artifacts`` are digests. With ``is_kexec`` the machine was switched on with those disks
    and ran the artifacts ``before``.
    """

    spec: MachineSpec
    number: int
    boot_path: BootPath
    artifacts: str
    offers: tuple[str, ...]
    entry: int | None
    network: Network
    network_faults: tuple[str, ...]
    disks: tuple[str, ...]
    is_clone: bool
    is_kexec: bool
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """What is to be powered on: the ``number``-th boot of ``spec``, its logs in ``folder``.

    Its memory is ``memory``, a file that it makes and writes to, where it shall be frozen later. With ``frozen`` it
    does not boot, but goes on where that one stood still. ``doubt`` says why what it shows may not be the image's
    doing, or nothing. GRUB's menu has ``offers``, of which it picks the ``entry``-th; None leaves that to whoever is at
    the console. With ``is_kexec`` QEMU runs already, and another kernel in it is to start these artifacts.
    """

    number: int
    folder: Path
    spec: MachineSpec
    artifacts: Artifacts
    definition: ImageDefinition
    context: BootContext
    memory: Path | None = None
    frozen: FrozenMachine | None = None
    doubt: Callable[[], str] = str
    offers: tuple[Artifacts, ...] = ()
    entry: int | None = None
    is_kexec: bool = False
    stop: BreakPoint | None = None

    @property
    def where(self) -> str:
        return where(self.spec.name, self.number, self.boot_path)

    @property
    def boot_path(self) -> BootPath:
        """How this boot comes up: a machine that is to be upgraded by kexec needs another way to be switched on."""
        is_switched_on = self.spec.boot_path is BootPath.KEXEC and not self.is_kexec
        return BootPath.DIRECT if is_switched_on else self.spec.boot_path

    @property
    def backing(self) -> command_line.Memory | None:
        """What backs the machine's memory, if that is a file."""
        if self.memory:
            return command_line.Memory(file=self.memory, is_own=True)
        return command_line.Memory(file=self.frozen.memory, is_own=False) if self.frozen else None

    @property
    def variables(self) -> Path | None:
        """UEFI's, which stay from boot to boot."""
        return self.folder.parent / UEFI_VARIABLES if self.spec.is_uefi else None

    @property
    def arguments(self) -> tuple[str, ...]:
        """All kernel arguments."""
        return self._arguments_of(self.artifacts)

    def _arguments_of(self, artifacts: Artifacts) -> tuple[str, ...]:
        manifest, path = artifacts.manifest, self.spec.boot_path
        place = grub.folder_of(artifacts.digest) if path is BootPath.GRUB else ipxe.base_url(artifacts.digest)
        given, needs_network = manifest.kernel_arguments, not takes_serial_shell(manifest.systemd)
        return kernel_arguments(given, manifest.rootfs, path, place, needs_network=needs_network)

    @property
    def menu(self) -> tuple[grub.MenuEntry, ...]:
        """GRUB's; empty on the other boot paths."""
        if self.spec.boot_path is not BootPath.GRUB:
            return ()
        offers = self.offers or (self.artifacts,)
        return tuple(grub.MenuEntry(artifacts=offer, arguments=self._arguments_of(offer)) for offer in offers)

    @property
    def _rootfs_is_a_disk(self) -> bool:
        manifest = self.artifacts.manifest
        return loads_from_disk(manifest.kernel_arguments, manifest.rootfs, self.spec.boot_path)

    @property
    def fetched(self) -> tuple[str, ...]:
        """The files that this boot gets over HTTP."""
        if self.boot_path is BootPath.GRUB:
            return ()
        if self.boot_path is not BootPath.DIRECT:
            return tuple(self.artifacts.manifest.files)
        return () if self._rootfs_is_a_disk else (self.artifacts.manifest.rootfs,)

    @property
    def direct(self) -> command_line.DirectBoot | None:
        """What QEMU itself loads on the ``direct`` path."""
        if self.boot_path is not BootPath.DIRECT:
            return None
        files = self.artifacts
        rootfs = files.rootfs if self._rootfs_is_a_disk else None
        return command_line.DirectBoot(
            kernel=files.kernel, initrd=files.initrd, rootfs=rootfs, arguments=self.arguments
        )

    def note_phase(self, phase: str) -> None:
        self.context.run.add_phase(self.spec.name, self.number, phase)

    def keep(self) -> None:
        """Write into its folder all that it takes to make this boot again: the disks as they are, and its record.

        The copies for the boot before are not needed any more. `HostError` where there is no room.
        """
        try:
            self.folder.mkdir(parents=True)
            forget_disks(self.folder.parent)
            if self.variables and self.variables.exists():
                shutil.copyfile(self.variables, self.folder / UEFI_VARIABLES)
            self._link_capture()
            kept = tuple(_kept(number, disk, self.folder) for number, disk in enumerate(self.spec.disks))
            self._record(kept)
        except OSError as error:
            raise HostError(f"{self.folder}: no copy of the machine's disks: {error.strerror}; make room") from error

    def keep_upgrade(self, running: BootPlan) -> None:
        """The same for a boot by kexec: it takes the machine as it was switched on for what is ``running``."""
        try:
            self.folder.mkdir(parents=True)
            self._link_capture()
            known = serialization.read(BootRecord, running.folder / BOOT_RECORD)
            for name in filter(None, known.disks):
                (self.folder / name).hardlink_to(running.folder / name)
            upgrade = replace(
                known,
                number=self.number,
                boot_path=self.boot_path,
                artifacts=self.artifacts.digest,
                is_kexec=True,
                before=known.before or known.artifacts,
            )
            serialization.write(self.folder / BOOT_RECORD, upgrade)
        except OSError as error:
            raise HostError(f"{self.folder}: no record of the machine: {error.strerror}; make room") from error

    def _link_capture(self) -> None:
        for capture in self.context.lab.captures[:1]:
            (self.folder / CAPTURE).symlink_to(os.path.relpath(capture, self.folder))

    def _record(self, kept: tuple[str, ...]) -> None:
        public = {name: value for name, value in self.spec.credentials.items() if _PUBLIC.fullmatch(name)}
        lab = self.context.lab
        serialization.write(
            self.folder / BOOT_RECORD,
            BootRecord(
                spec=replace(self.spec, credentials=public, disks=tuple(map(_sized, self.spec.disks, kept))),
                number=self.number,
                boot_path=self.boot_path,
                artifacts=self.artifacts.digest,
                offers=tuple(offer.digest for offer in self.offers),
                entry=self.entry,
                network=lab.network,
                network_faults=tuple(fault.name for fault in lab.network_faults),
                disks=kept,
                is_clone=self.frozen is not None,
                is_kexec=self.is_kexec,
            ),
        )


def forget_disks(machine: Path) -> None:
    """Remove from the folder of a ``machine`` the copies of its disks that `Plan.keep` made; those of a boot with a
    finding stay."""
    for copy in machine.glob("boot-*/disk-*"):
        if not (copy.parent / FINDING).exists():
            copy.unlink(missing_ok=True)


def _sized(disk: DiskSpec, copy: str) -> DiskSpec:
    """``disk``, of which its size is all that there is to know if there is no ``copy``."""
    return disk if copy else replace(disk, size_gib=max(1, disk.path.stat().st_size >> 30))


def _kept(number: int, disk: DiskSpec, folder: Path) -> str:
    """A copy of ``disk`` in ``folder``, which takes no more room than what was written to it; empty if nothing was."""
    if not disk.path.stat().st_blocks:
        return ""
    copy = folder / f"disk-{number}.{disk.format}"
    disk_images.copy_sparse(disk.path, copy)
    return copy.name

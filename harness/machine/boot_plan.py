"""What is to be powered on, and where: values that a machine, its boots and its clones are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.guest.initrd_stop import STOP_CREDENTIALS
from harness.guest.serial_shell import SHELL_CREDENTIALS, takes_serial_shell
from harness.lab import Lab
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.layout import UEFI_VARIABLES
from harness.model.machine_spec import BootPath, BreakPoint, MachineSpec, Network
from harness.model.timeouts import Timeouts
from harness.model.verdict import boot_name
from harness.qemu import command_line, grub, ipxe
from harness.qemu.kernel_arguments import kernel_arguments, loads_from_disk
from harness.runs.folder import Run


def do_not_hold(_: object) -> None:
    """End a machine that failed at once: nobody will inspect it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootContext:
    """Where machines run: a lab, the run they belong to, and the folder of the host's boot slots.

    ``keep`` is called with a machine whose boot failed, before it is ended, and may wait. With ``keeps_memory`` the
    memory of guests that fail is kept. ``doubt`` says why a failure of a machine may not be the image's, such
    as an altered template, and returns an empty string if nothing is in doubt.
    """

    lab: Lab
    run: Run
    slots: Path
    keep: Callable[[Any], None] = do_not_hold
    keeps_memory: bool = False
    doubt: Callable[[], str] = str
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenMachine:
    """A frozen machine on disk: its memory, its device state, and how its guest is reached.

    With ``is_serial`` the serial shell runs in it; ``host_memory_mib`` is what a clone takes of the host's memory.
    Nothing writes to the file ``memory``. GRUB's boot disk is in the folder ``boot_disk``. With ``is_in_initrd`` it is
    not ready, but stopped in its initrd, and has no disks yet.
    """

    memory: Path
    state: Path
    is_serial: bool
    host_memory_mib: int
    boot_disk: Path | None = None
    is_in_initrd: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecord:
    """A boot on paper, from which it is reproduced elsewhere: without credentials that may be secret.

    ``disks`` are the names, in the boot's folder, of copies of the machine's disks from before the boot; empty for a
    blank disk. ``offers`` and ``artifacts`` are digests. With ``is_kexec`` the machine was powered on with those disks
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

    A machine that is to be frozen later has its memory in the file ``memory``, which QEMU creates. With ``frozen`` it
    does not boot, but continues from that state. GRUB's menu has ``offers``; the harness picks the ``entry``-th, or
    leaves that to the person at the console if that is None. With ``is_kexec`` QEMU runs already, and another kernel in
    it is to start these artifacts. The machine stops for a person at ``stop``; with ``stops_in_initrd`` it stops in its
    initrd, to be frozen there.
    """

    number: int
    folder: Path
    spec: MachineSpec
    artifacts: Artifacts
    definition: ImageDefinition
    memory: Path | None = None
    frozen: FrozenMachine | None = None
    offers: tuple[Artifacts, ...] = ()
    entry: int | None = None
    is_kexec: bool = False
    stop: BreakPoint | None = None
    stops_in_initrd: bool = False

    @property
    def begins_in_initrd(self) -> bool:
        """Whether this boot continues from a machine that was frozen in its initrd."""
        return self.frozen is not None and self.frozen.is_in_initrd

    @property
    def is_clone(self) -> bool:
        """Whether nothing boots: the machine continues from one that was ready."""
        return self.frozen is not None and not self.frozen.is_in_initrd

    @property
    def spec_at_start(self) -> MachineSpec:
        """The machine as QEMU starts it: one that stops in its initrd gets its disks there."""
        if not self.stops_in_initrd and not self.begins_in_initrd:
            return self.spec
        return stopping(self.spec)

    @property
    def where(self) -> str:
        """How findings name this boot."""
        return boot_name(self.spec.name, self.number, self.boot_path)

    @property
    def boot_path(self) -> BootPath:
        """How this boot starts: a machine that is to be upgraded by kexec is powered on by another path first."""
        if self.is_kexec:
            return BootPath.KEXEC
        return BootPath.DIRECT if self.spec.boot_path is BootPath.KEXEC else self.spec.boot_path

    @property
    def backing(self) -> command_line.Memory | None:
        """The file that backs the machine's memory, if one does."""
        if self.memory:
            return command_line.Memory(file=self.memory, is_own=True)
        return command_line.Memory(file=self.frozen.memory, is_own=False) if self.frozen else None

    @property
    def variables(self) -> Path | None:
        """The file of UEFI variables, which stay from boot to boot; None for BIOS."""
        return self.folder.parent / UEFI_VARIABLES if self.spec.is_uefi else None

    @property
    def arguments(self) -> tuple[str, ...]:
        """All kernel arguments."""
        return self._arguments_of(self.artifacts)

    def _arguments_of(self, artifacts: Artifacts) -> tuple[str, ...]:
        manifest, path = artifacts.manifest, BootPath.KEXEC if self.is_kexec else self.spec.boot_path
        place = grub.folder_of(artifacts.digest) if path is BootPath.GRUB else ipxe.base_url(artifacts.digest)
        given, needs_network = manifest.kernel_arguments, not takes_serial_shell(manifest.systemd)
        return kernel_arguments(given, manifest.rootfs, path, place, needs_network=needs_network)

    @property
    def menu(self) -> tuple[grub.MenuEntry, ...]:
        """GRUB's menu; empty on the other boot paths."""
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
        """The names of the artifacts that this boot downloads over HTTP."""
        if self.boot_path is BootPath.GRUB or self.begins_in_initrd:
            return ()
        if self.boot_path is not BootPath.DIRECT:
            return tuple(self.artifacts.manifest.files)
        return () if self._rootfs_is_a_disk else (self.artifacts.manifest.rootfs,)

    @property
    def direct(self) -> command_line.DirectBoot | None:
        """The files that QEMU itself loads; None but on the ``direct`` path."""
        if self.boot_path is not BootPath.DIRECT:
            return None
        files = self.artifacts
        rootfs = files.rootfs if self._rootfs_is_a_disk else None
        return command_line.DirectBoot(
            kernel=files.kernel, initrd=files.initrd, rootfs=rootfs, arguments=self.arguments
        )


def reachable(spec: MachineSpec, run: Run) -> MachineSpec:
    """``spec`` with the credentials of the serial shell and the run's SSH key; those of ``spec`` take precedence."""
    key = run.key.with_suffix(".pub").read_text("utf-8")
    return replace(spec, credentials={**SHELL_CREDENTIALS, "ssh.authorized_keys.root": key, **spec.credentials})


def stopping(spec: MachineSpec) -> MachineSpec:
    """The machine ``spec`` as it stops in its initrd: without disks."""
    return replace(spec, disks=(), credentials={**spec.credentials, **STOP_CREDENTIALS})

"""``bootproof boot`` and ``replay --shell``: a machine whose console is this terminal."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from harness.build.imported import take_in
from harness.build.pipeline import build
from harness.core.deadline import Deadline
from harness.core.errors import HostError, UsageError
from harness.core.namespaces import remove
from harness.core.terminal import join, raw, serve_console, to_stderr
from harness.host import accelerator
from harness.lab import Lab, choose_network, open_lab
from harness.machine.attach_server import GDB, MONITOR, Access, answer, ask, open_access
from harness.machine.boot import RunningBoot
from harness.machine.boot_plan import BootContext, BootPlan, reachable
from harness.machine.observation import end_reason
from harness.machine.power_on import power_on
from harness.model import network_faults
from harness.model.artifacts import MANIFEST, Artifacts, load_artifacts
from harness.model.definition import ImageDefinition, find_definition, find_images
from harness.model.hardware import apply, find_profile, path_for, problem
from harness.model.machine_spec import BootPath, BreakPoint, DiskFormat, DiskSpec, MachineSpec, Network
from harness.model.network_faults import NetworkFault, adapted
from harness.qemu import disk_images, program
from harness.qemu.devices import check_nics
from harness.runs.folder import Run, make_key
from harness.runs.progress import BuildProgress
from harness.store.store import Store, find_store

_LEAST_MIB = 256
_END_S = 10.0
"""How long QEMU may take to end after its console was closed."""


class AttachMode(StrEnum):
    """What this terminal is connected to: the console with root logged in, the console as the image has it, QEMU's
    monitor, or the console while gdb controls the kernel."""

    SHELL = "shell"
    CONSOLE = "console"
    MONITOR = "monitor"
    GDB = "gdb"


_AUTOLOGIN = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - $TERM
"""
_RESUME = {AttachMode.MONITOR: "type cont", AttachMode.GDB: "type continue in gdb"}
_CREDENTIALS = {"systemd.unit-dropin.serial-getty@ttyS0.service~bootproof": _AUTOLOGIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOptions:
    """What `bootproof boot` is asked to boot: ``image`` is an image's name or a folder of artifacts; None and empty
    stand for the definition's value. ``accel`` and ``network`` are "auto" or one kind; ``qemu`` is as in
    `program.named`."""

    image: str
    artifacts: Path | None = None
    kernel_arguments: str | None = None
    images_dir: Path | None = None
    boot_path: str = "direct"
    hardware: str | None = None
    disk: Path | None = None
    write_disk: bool = False
    network_faults: tuple[str, ...] = ()
    memory_mib: int | None = None
    accel: str = "auto"
    qemu: str | None = None
    network: str = "auto"

    def check(self) -> None:
        """`UsageError` for options that exclude each other or that no machine can have: pure, but for --disk's file."""
        if self.memory_mib is not None and self.memory_mib < _LEAST_MIB:
            raise UsageError(f"--memory {self.memory_mib} is too little to boot; use at least {_LEAST_MIB}")
        if self.boot_path == BootPath.KEXEC:
            raise UsageError(
                "--boot-path kexec upgrades a running machine and cannot power one on; use --boot-path direct"
            )
        if self.write_disk and not self.disk:
            raise UsageError("--write-disk needs --disk FILE")
        if self.disk and not self.write_disk and not self.disk.exists():
            raise UsageError(f"--disk {self.disk}: no such file; --write-disk creates it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A machine on paper, in a lab that is open, with a folder for its files."""

    spec: MachineSpec
    artifacts: Artifacts
    definition: ImageDefinition
    lab: Lab
    folder: Path


def boot_by_hand(options: BootOptions) -> None:
    """Boot until the guest powers off or the person quits; a reboot in the guest boots it again."""
    with machine_by_hand(options) as one:
        to_stderr("Ctrl-] ends the machine")
        attend(one.spec, one.artifacts, one.definition, one.lab, one.folder)


@contextmanager
def machine_by_hand(options: BootOptions) -> Iterator[ByHand]:
    """The machine that ``options`` ask for; its lab is open while the block lasts."""
    options.check()
    hardware = find_profile(options.hardware) if options.hardware else None
    path = BootPath(options.boot_path)
    if hardware and (obstacle := problem(hardware, path)):
        raise UsageError(f"--hardware {obstacle}; use --boot-path {path_for(hardware, path)}")
    if qemu := program.named(options.qemu):
        program.use(qemu)
    check_nics(hardware.nics if hardware else ())
    faults = _faults(options.network_faults, path)
    store = find_store()
    with ExitStack() as stack:
        definition, artifacts = _image_of(options, store, stack)
        choice = accelerator.take(options.accel, artifacts, store, qemu=qemu)
        network = choose_network(options.network)
        by = f"{choice.accelerator} ({choice.reason}) of {program.in_use()}"
        to_stderr(f"{artifacts.digest[:12]} by {by}")
        if network.network is Network.USER:
            to_stderr(f"on the user network ({network.reason})")
        folder = stack.enter_context(store.workfolder(remove=remove))
        opened = stack.enter_context(open_lab(folder, network.network, network_faults=faults))
        spec = MachineSpec(
            name=definition.name,
            uuid=uuid.uuid4(),
            boot_path=path,
            accelerator=choice.accelerator,
            cpus=definition.cpus,
            memory_mib=definition.memory_mib,
            disks=_disks(options, definition, folder),
        )
        spec = adapted(apply(hardware, spec), faults)
        if options.memory_mib is not None:
            spec = replace(spec, memory_mib=options.memory_mib)
        yield ByHand(spec=spec, artifacts=artifacts, definition=definition, lab=opened, folder=folder)


def attend(
    spec: MachineSpec,
    artifacts: Artifacts,
    definition: ImageDefinition,
    lab: Lab,
    folder: Path,
    stop: BreakPoint | None = None,
    mode: AttachMode = AttachMode.SHELL,
) -> None:
    """Boot with this terminal attached as ``mode`` says, until the guest powers off or the person quits."""
    disk_images.furnish(spec.disks)
    if mode is AttachMode.SHELL:
        spec = replace(spec, credentials={**_CREDENTIALS, **spec.credentials})
    run = Run(folder, "main")
    make_key(run, find_store())
    context = BootContext(lab=lab, run=run, slots=folder)
    first = BootPlan(number=1, folder=folder / "boot-1", spec=reachable(spec, run), artifacts=artifacts,
                 definition=definition, stop=stop)  # fmt: skip
    number = 1
    while _boot_once(replace(first, number=number, folder=folder / f"boot-{number}"), context, mode):
        number += 1
        to_stderr(f"the machine was reset: boot {number}")


def _faults(names: Sequence[str], path: BootPath) -> list[NetworkFault]:
    known = [network_faults.read(name) for name in names]
    for one in known:
        network_faults.check_shows(one, [path])
        if network_faults.needs_other_build(one):
            raise UsageError(f"network fault {one.name} needs a second build; boot that build with --artifacts instead")
    return known


def _image_of(options: BootOptions, store: Store, until: ExitStack) -> tuple[ImageDefinition, Artifacts]:
    folder = Path(options.image)
    is_folder = (folder / MANIFEST).exists()
    images = options.images_dir or find_images(Path.cwd())
    if is_folder:
        artifacts = store.hold(lambda: load_artifacts(folder.absolute()), until)
        return find_definition(artifacts.manifest.image, images), artifacts
    if folder.is_dir() and "/" in options.image:
        raise UsageError(f"{folder} has no {MANIFEST}; run bootproof boot IMAGE --artifacts {folder}")
    definition = find_definition(options.image, images)
    if options.artifacts:
        arguments = options.kernel_arguments.split() if options.kernel_arguments is not None else None
        given = options.artifacts.absolute()
        return definition, store.hold(lambda: take_in(given, definition, store, kernel_arguments=arguments), until)
    return definition, store.hold(
        lambda: build(definition, store, progress=BuildProgress(to_stderr, definition.name)), until
    )


def _disks(options: BootOptions, definition: ImageDefinition, folder: Path) -> tuple[DiskSpec, ...]:
    """The disk of --disk; else a blank one, or none if the image has no persistent paths."""
    if options.disk is None:
        return disk_images.blank_disks(definition, folder / "data.raw")
    return (_disk(options.disk, folder, is_written=options.write_disk),)


def _disk(path: Path, folder: Path, *, is_written: bool) -> DiskSpec:
    """With ``is_written`` the file at ``path`` itself; else an overlay over it in ``folder``."""
    try:
        if not is_written:
            over = folder / "data.qcow2"
            disk_images.make_overlay(over, path, base_format=disk_images.format_of(path))
            return DiskSpec(path=over, serial=disk_images.DATA_SERIAL, format=DiskFormat.QCOW2)
        if not path.exists():
            disk_images.make_raw(path, size_bytes=disk_images.DATA_GIB << 30)
        with path.open("r+b"):
            pass
    except OSError as error:
        raise UsageError(f"--disk {path} cannot be used as a disk image: {error.strerror}") from error
    return DiskSpec(path=path.absolute(), serial=disk_images.DATA_SERIAL, format=disk_images.format_of(path))


def _boot_once(plan: BootPlan, context: BootContext, mode: AttachMode) -> bool:
    """One boot, at this terminal; True if the guest asked for another, False if the person quit or stopped it."""
    with power_on(plan, context) as running, _accessible(running, mode) as access:
        if access and mode is AttachMode.MONITOR:
            with ask(access.about.id, MONITOR) as door:
                join(door, lambda: access.is_stopped or running.child.status is not None)
        else:
            _join_console(running, access)
        return running.child.status is not None and end_reason(running.watch.events) == "guest-reset"


def _join_console(running: RunningBoot, access: Access | None) -> None:
    ours, theirs = socket.socketpair()
    with raw(), ours:
        server = threading.Thread(target=_serve, args=(running, theirs), daemon=True)
        server.start()
        join(ours, lambda: access is not None and access.is_stopped)
        ours.shutdown(socket.SHUT_RDWR)
        server.join()
    if running.console.is_closed:  # QEMU is about to end
        running.child.wait(Deadline(_END_S))


def _serve(running: RunningBoot, door: socket.socket) -> None:
    with door:
        serve_console(running.console, door)


@contextmanager
def _accessible(running: RunningBoot, mode: AttachMode) -> Iterator[Access | None]:
    """Serve other terminals too. Where that is impossible: `HostError` if ``mode`` needs it, else None."""
    with ExitStack() as stack:
        try:
            access = stack.enter_context(open_access(running, "somebody is at its console"))
        except HostError as error:
            if mode in (AttachMode.MONITOR, AttachMode.GDB):
                raise
            to_stderr(f"bootproof attach will not find this machine: {error}")
            yield None
            return
        name = access.about.id
        if mode is AttachMode.GDB:
            to_stderr(f"gdb -ex 'target remote {answer(name, GDB)}'")
        if running.plan.stop is BreakPoint.FIRMWARE:
            resume = _RESUME.get(mode, f"run bootproof attach {name} --gdb, or --monitor and type cont")
            to_stderr(f"the machine waits before its first instruction; to resume, {resume}")
        yield access

"""``bootproof boot``: a machine whose console is this terminal."""

from __future__ import annotations

import os
import select
import sys
import threading
import uuid
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from harness.build.imported import take_in
from harness.build.pipeline import build
from harness.core.deadline import Deadline
from harness.core.errors import HostError, UsageError
from harness.core.namespaces import remove
from harness.core.terminal import QUIT, join, raw, to_stderr
from harness.guest.console import Console
from harness.host import accelerator
from harness.lab import Lab, choose, open_lab
from harness.machine import board
from harness.machine.attach_server import GDB, MONITOR, Access, answer, ask, open_access
from harness.machine.boot import RunningBoot
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.by_hand import by_hand
from harness.machine.credentials import reachable
from harness.machine.launch import power_on
from harness.model import network_faults
from harness.model.artifacts import MANIFEST, Artifacts, load_artifacts
from harness.model.definition import ImageDefinition, find_definition, find_images
from harness.model.hardware import apply, find_profile, path_for, problem
from harness.model.machine_spec import BootPath, BreakPoint, DiskFormat, DiskSpec, MachineSpec, Network
from harness.model.network_faults import NetworkFault, adapted
from harness.qemu import disk_images
from harness.runs.folder import Run, make_key
from harness.runs.progress import BuildProgress
from harness.store.store import Store, find_store

_LEAST_MIB = 256


class AttachMode(StrEnum):
    """What a terminal is to a machine: its console, with root logged in or as the image has it, QEMU's monitor, or its
    console while a debugger has its kernel."""

    SHELL = "shell"
    CONSOLE = "console"
    MONITOR = "monitor"
    GDB = "gdb"


_AUTOLOGIN = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - $TERM
"""
_GOES_ON = {AttachMode.MONITOR: "cont lets it go on", AttachMode.GDB: "continue in gdb lets it go on"}
_CREDENTIALS = {"systemd.unit-dropin.serial-getty@ttyS0.service~bootproof": _AUTOLOGIN}


def boot_by_hand(options: Namespace) -> int:
    """Boot until the guest powers off or the person quits; a reboot boots again."""
    if options.memory is not None and options.memory < _LEAST_MIB:
        raise UsageError(f"--memory {options.memory} is too little to boot anything; at least {_LEAST_MIB}")
    if options.boot_path == BootPath.KEXEC:
        raise UsageError("--boot-path kexec is an upgrade of a running machine, no way to switch one on; take direct")
    hardware = find_profile(options.hardware) if options.hardware else None
    path = BootPath(options.boot_path)
    if hardware and (said := problem(hardware, path)):
        raise UsageError(f"--hardware {said}; --boot-path {path_for(hardware, path)} would do")
    board.check(hardware.nics if hardware else ())
    if options.write_disk and not options.disk:
        raise UsageError("--write-disk goes with --disk FILE")
    if options.disk and not options.write_disk and not options.disk.exists():
        raise UsageError(f"--disk {options.disk}: there is no such file; with --write-disk it is made")
    faults = _faults(options.network_fault, path)
    store = find_store()
    with ExitStack() as stack:
        definition, artifacts = _what(options, store, stack)
        choice = accelerator.choose(options.accel, artifacts.kernel, store.folder("accelerators"))
        network = choose(options.network)
        to_stderr(f"{artifacts.digest[:12]} by {choice.accelerator} ({choice.reason}); Ctrl-] ends it")
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
            disks=(_disk(options, folder),),
        )
        spec = adapted(apply(hardware, spec), faults)
        if options.memory is not None:
            spec = replace(spec, memory_mib=options.memory)
        attend(spec, artifacts, definition, opened, folder)
    return 0


def attend(
    spec: MachineSpec,
    artifacts: Artifacts,
    definition: ImageDefinition,
    lab: Lab,
    folder: Path,
    stop: BreakPoint | None = None,
    way: AttachMode = AttachMode.SHELL,
) -> None:
    """Boot with this terminal as the ``way`` in, until the guest powers off or the person quits."""
    disk_images.furnish(spec.disks)
    if way is AttachMode.SHELL:
        spec = replace(spec, credentials={**_CREDENTIALS, **spec.credentials})
    run = Run(folder, "main")
    make_key(run, find_store())
    context = BootContext(lab=lab, run=run, slots=folder, by_hand=by_hand)
    first = BootPlan(number=1, folder=folder / "boot-1", spec=reachable(spec, run), artifacts=artifacts,
                 definition=definition, context=context, stop=stop)  # fmt: skip
    number = 1
    while _boot_once(replace(first, number=number, folder=folder / f"boot-{number}"), way):
        number += 1
        to_stderr(f"it was reset: boot {number}")


def _faults(names: Sequence[str], path: BootPath) -> list[NetworkFault]:
    known = [network_faults.read(name) for name in names]
    for one in known:
        network_faults.check_shows(one, [path])
        if network_faults.needs_other_build(one):
            raise UsageError(f"network fault {one.name}: there is one build here; boot another --artifacts instead")
    return known


def _what(options: Namespace, store: Store, until: ExitStack) -> tuple[ImageDefinition, Artifacts]:
    folder = Path(options.image)
    is_folder = (folder / MANIFEST).exists()
    images = options.images_dir or find_images(Path.cwd())
    if is_folder:
        artifacts = store.hold(lambda: load_artifacts(folder.absolute()), until)
        return find_definition(artifacts.manifest.image, images), artifacts
    if folder.is_dir() and "/" in options.image:
        raise UsageError(f"{folder} holds no {MANIFEST}; bootproof boot IMAGE --artifacts {folder} makes one")
    definition = find_definition(options.image, images)
    if options.artifacts:
        arguments = options.kernel_arguments.split() if options.kernel_arguments is not None else None
        given = options.artifacts.absolute()
        return definition, store.hold(lambda: take_in(given, definition, store, kernel_arguments=arguments), until)
    return definition, store.hold(
        lambda: build(definition, store, progress=BuildProgress(to_stderr, definition.name)), until
    )


def _disk(options: Namespace, folder: Path) -> DiskSpec:
    """A blank one, the file itself, or a layer over it in ``folder``, which takes what is written."""
    if not options.disk:
        return disk_images.make_disk(folder / "data.raw")
    path = options.disk
    try:
        if not options.write_disk:
            over = folder / "data.qcow2"
            disk_images.make_overlay(over, path, base_format=disk_images.format_of(path))
            return DiskSpec(path=over, serial=disk_images.DATA_SERIAL, format=DiskFormat.QCOW2)
        if not path.exists():
            disk_images.make_raw(path, size_bytes=disk_images.DATA_GIB << 30)
        with path.open("r+b"):
            pass
    except OSError as error:
        raise UsageError(f"--disk {path} cannot be used: {error.strerror}; it is an image of a disk") from error
    return DiskSpec(path=path.absolute(), serial=disk_images.DATA_SERIAL, format=disk_images.format_of(path))


def _boot_once(plan: BootPlan, way: AttachMode) -> bool:
    """One boot, at this terminal; True if the guest asked for another."""
    with power_on(plan) as power, _accessible(power, way) as access:
        has_quit = (
            _join_monitor(power, access) if access and way is AttachMode.MONITOR else _join_console(power, access)
        )
        return not has_quit and power.wants_reboot


def _join_monitor(power: RunningBoot, access: Access) -> bool:
    """False if QEMU ended, True if the person quit, here or by `bootproof stop`."""
    with ask(access.about.id, MONITOR) as door:
        join(door, lambda: access.is_stopped or power.child.status is not None)
    return power.child.status is None


def _join_console(power: RunningBoot, access: Access | None) -> bool:
    """False if QEMU ended, True if the person quit, here or by `bootproof stop`."""
    with raw():
        over = threading.Event()
        printer = threading.Thread(target=_print, args=(power.console, over), daemon=True)
        printer.start()
        has_quit = _type(power, access)
        over.set()
        printer.join()
    return has_quit


@contextmanager
def _accessible(power: RunningBoot, way: AttachMode) -> Iterator[Access | None]:
    """From other terminals as well, where that is possible, or needed: a debugger comes from there."""
    with ExitStack() as stack:
        try:
            access = stack.enter_context(open_access(power, "somebody is at its console"))
        except HostError as error:
            if way in (AttachMode.MONITOR, AttachMode.GDB):
                raise
            to_stderr(f"no other terminal gets into it: {error}")
            yield None
            return
        name = access.about.id
        if way is AttachMode.GDB:
            to_stderr(f"gdb -ex 'target remote {answer(name, GDB)}'")
        if power.plan.stop is BreakPoint.FIRMWARE:
            goes_on = _GOES_ON.get(way, f"bootproof attach {name} --gdb, or --monitor and cont")
            to_stderr(f"it waits before its first instruction: {goes_on}")
        yield access


def _type(power: RunningBoot, access: Access | None) -> bool:
    """Hand on what is typed until QEMU ends (False) or the person quits (True), here or by `bootproof stop`."""
    typing = [sys.stdin.fileno()]
    while power.child.status is None:
        if access and access.is_stopped:
            return True
        readable, _, _ = select.select(typing, [], [], 0.2)
        if not readable:
            continue
        typed = os.read(typing[0], 1024)
        if QUIT in typed:
            return True
        if not typed:
            typing = []  # no more input; it goes on until the guest powers off
        power.console.send(typed.decode("utf-8", "replace"))
    return False


def _print(console: Console, over: threading.Event) -> None:
    position = 0
    while not (over.is_set() or console.is_closed):
        chunk = console.read(position, Deadline(0.2, scaled=False))
        position += len(chunk)
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

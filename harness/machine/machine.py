"""Machines: one QEMU in a lab over its boots. A reboot starts QEMU again (DESIGN decision 5)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from harness.core.deadline import Deadline
from harness.core.errors import HarnessError, HostError, ImageError, UsageError
from harness.guest.channel import Channel
from harness.guest.console import Console
from harness.guest.testinfra_host import Facts, Host, open_guest
from harness.host import admission
from harness.machine import board, boot_files, pausing
from harness.machine.boot import RunningBoot
from harness.machine.boot_plan import BootContext, BootPlan, FrozenMachine, reachable
from harness.machine.errors import BootFailed, EmulatorFault
from harness.machine.power_on import power_on
from harness.machine.verbs import GuestVerbs
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Killed
from harness.model.layout import NETWORK_LOG
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.network_faults import adapted
from harness.qemu import grub, program
from harness.qemu.disk_images import furnish
from harness.qemu.qmp import QmpError
from harness.qemu.snapshot import CannotFreeze

Notes = dict[str, dict[str, str]]


class Machine(GuestVerbs):
    """One machine over its boots: its disks and identity stay, everything else is new each time.

    Only `boot`, `boot_into_initrd` and `thaw` make one. Findings of its boots are in the run's folder at once. With
    ``memory``, the guest's memory is in that file, and the machine can be frozen. With ``start``, a machine frozen in
    its initrd, its first boot continues from there if it can.

    It has more than twenty methods because tests use it: half of them are verbs and properties of a few lines over the
    running boot; commands and waits are in `GuestVerbs`.
    """

    def __init__(
        self,
        spec: MachineSpec,
        artifacts: Artifacts,
        definition: ImageDefinition,
        context: BootContext,
        memory: Path | None = None,
        start: FrozenMachine | None = None,
    ) -> None:
        self.spec, self.artifacts, self.definition, self.context = spec, artifacts, definition, context
        self.memory, self._start_from = memory, start
        self.facts: Facts = {}
        self.notes: Notes = {}
        """What the function of its state has noted for the tests that ask for the state."""
        self.offers: tuple[Artifacts, ...] = (artifacts,)
        """The entries of GRUB's menu, the latest first."""
        self._entry = 0
        self._boots = sum(1 for _ in self.folder.glob("boot-*"))  # of an earlier machine with that name
        self.first = self._boots + 1
        """The number of its first boot."""
        self._stack = ExitStack()
        self._running: list[RunningBoot] = []
        self._guests: dict[int, Host] = {}

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        """The folder of its logs, with a subfolder for each boot."""
        return self.context.run.folder / self.name

    @property
    def is_on(self) -> bool:
        return bool(self._running)

    def doubt(self, error: BaseException | None = None) -> str:
        """Why its results, or the ``error`` that ended a wait, may not be the image's doing; empty without a reason."""
        return self.running_boot.watch.doubt(error) if self.is_on else self.context.doubt()

    @property
    def is_clone(self) -> bool:
        """Whether it is on and was not booted, but cloned from a template."""
        return self.is_on and self.running_boot.plan.is_clone

    @property
    def running_boot(self) -> RunningBoot:
        """The boot that runs now: its console, QMP and downloads."""
        if not self._running:
            raise HarnessError(f"{self.name} is off: call power_on() first")
        return self._running[-1]

    @property
    def console(self) -> Console:
        return self.running_boot.console

    @property
    def channel(self) -> Channel:
        return self.running_boot.channel

    @property
    def guest(self) -> Host:
        """A testinfra Host over the channel; a new one after each boot, because it caches facts."""
        facts = self.facts if self.is_clone else {}
        return self._guests.setdefault(self._boots, open_guest(self.name, self.channel, facts))

    @property
    def ssh(self) -> Channel:
        """SSH as root with the run's key, over the machine's network; after a reboot, ask again."""
        return self.running_boot.ssh

    def pause(self) -> None:
        """Stop the guest until `resume`: it uses no CPU, and its timers stand still. `QmpError` if QEMU cannot."""
        pausing.pause(self.running_boot)

    def resume(self, *, sets_clock: bool = True) -> None:
        """Continue the guest after `pause`, with the right time; `BootproofError` if it does not answer."""
        running = self.running_boot
        pausing.resume(running)
        if sets_clock:
            ahead_s = board.guest_ahead_s(running.plan, running.watch.events)
            pausing.set_clock(running.channel, ahead_s, Deadline(self.context.timeouts.thaw_s))

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the display to ``path``; `HostError` if QEMU cannot."""
        arguments = {"filename": str(path.absolute()), "format": "png"}
        try:
            self.running_boot.qmp.execute("screendump", arguments, deadline=Deadline(10))
        except QmpError as error:
            raise HostError(
                f"{self.name}: QEMU wrote no screenshot to {path} ({error}); check that its folder exists and has room"
            ) from error

    def power_on(
        self,
        artifacts: Artifacts | None = None,
        uuid: UUID | None = None,
        *,
        boot_path: BootPath | None = None,
        entry: int = 0,
    ) -> None:
        """Boot and wait until ready; ``artifacts``, ``uuid`` and ``boot_path`` change from this boot on.

        On the boot path ``grub`` this boot starts the ``entry``-th of the menu, 1 being the version before. A boot that
        the emulator broke is repeated once; both are in the verdict. One that cannot continue from a machine that was
        frozen in its initrd is made from power-on; a note says so.
        """
        self._check_off()
        start = None if artifacts or uuid or boot_path else self._start_from
        self._start_from = None
        self.spec = replace(self.spec, uuid=uuid or self.spec.uuid, boot_path=boot_path or self.spec.boot_path)
        self._deploy(artifacts, entry)
        try:
            self._boot_once(start)
        except CannotFreeze as error:
            if start is None:
                raise
            self.context.run.add_note(f"{self.name} boots from power-on: {error}")
            self.context.run.add(Killed(machine=self.name, number=self._boots))
            self.off()
            self._boot_once()
        except EmulatorFault as fault:
            self.context.run.add_note(f"{fault}: it is booted once more")
            self.off()
            self._boot_once()

    def power_on_and_kill(
        self, when: Callable[[Console], bool], then_s: float = 0.0, artifacts: Artifacts | None = None
    ) -> None:
        """Boot, and cut the power ``then_s`` seconds after ``when`` is true of the console; this boot is not checked.

        `ImageError` if ``when`` never becomes true.
        """
        self._check_off()
        self._deploy(artifacts)
        share = self._memory_share()
        with self.boot_slot():
            share.begin()
            running, deadline = self._start(self._plan()), Deadline(self.context.timeouts.boot_s)
            while not when(running.console):
                running.note_user_space()
                if running.child.wait(Deadline(0.1, scaled=False)) is not None or deadline.is_over:
                    raise ImageError(
                        f"{self.name}: the boot ended or hung before the moment of its power cut; its console ends:\n"
                        f"{running.console.tail()}"
                    )
            running.child.wait(Deadline(then_s, scaled=False))
            self.kill()

    def _check_off(self) -> None:
        if self.is_on:
            raise HarnessError(f"{self.name} is on already")

    def _deploy(self, artifacts: Artifacts | None, entry: int = 0) -> None:
        """Decide which artifacts the next boot starts."""
        if self.spec.boot_path is not BootPath.GRUB:
            if entry:
                raise UsageError(f"{self.name}: boot path {self.spec.boot_path} has no menu, so no entry {entry}")
            self.artifacts = artifacts or self.artifacts
            return
        if artifacts:
            self.offers = grub.offers(artifacts, self.artifacts, self.offers)
        if not entry < len(self.offers):
            raise UsageError(
                f"{self.name}: GRUB's menu has {len(self.offers)} entries, no entry {entry}; upgrade the machine first"
            )
        self.artifacts, self._entry = self.offers[entry], entry

    def _boot_once(self, start: FrozenMachine | None = None) -> None:
        plan = self._plan(start)
        self.context.run.add_phase(self.name, plan.number, "queued")
        share = self._memory_share()
        with self._holding_failed(), self.boot_slot():
            share.begin()
            self._boot(plan)

    def _boot(self, plan: BootPlan) -> None:
        """Boot and wait until ready; the caller holds memory and a boot slot for it."""
        if self.memory:
            self.memory.unlink(missing_ok=True)
        running = self._start(plan)
        if self.memory:
            running.check_freezable()
        if plan.begins_in_initrd:
            running.go_on_in_initrd()
        running.wait_until_ready()

    def _boot_into_initrd(self) -> None:
        """Boot until the guest stops in its initrd, to be frozen there; `CannotFreeze` if it does not stop."""
        plan = replace(self._plan(), stops_in_initrd=True)
        share = self._memory_share()
        with self.boot_slot():
            share.begin()
            running = self._start(plan)
            running.check_freezable()
            running.wait_until_in_initrd()

    @contextmanager
    def _holding_failed(self) -> Iterator[None]:
        """If a boot fails in the block, hold the machine for inspection as ``context.keep`` decides."""
        try:
            yield
        except BootFailed:
            if self.is_on:
                self.context.keep(self)
            raise

    def freeze(self, state: Path) -> None:
        """Stop the machine for good: its memory is in ``memory``, its device state in ``state``, and it is off."""
        self.running_boot.freeze(state)
        self.off()
        boot_files.forget_disks(self.folder)

    def boot_slot(self) -> AbstractContextManager[None]:
        """Holds as many of the host's boot slots as a boot of this machine uses cores."""
        return admission.boot_slot(self.context.slots, admission.cores_of_a_boot(self.spec, program.in_use()))

    def _memory_share(self, needed_mib: int | None = None) -> admission.Share:
        """What the machine takes of the host's memory until it is off: by default, as much as a boot."""
        needed_mib = admission.of_a_boot(self.spec.memory_mib) if needed_mib is None else needed_mib
        return self._stack.enter_context(admission.memory_share(self.context.slots, needed_mib))

    def _start(self, plan: BootPlan) -> RunningBoot:
        boot_files.save(plan, self.context.lab)
        self._running.append(self._stack.enter_context(power_on(plan, self.context)))
        return self._running[-1]

    def _plan(self, frozen: FrozenMachine | None = None, *, is_kexec: bool = False) -> BootPlan:
        self._boots += 1
        return BootPlan(
            number=self._boots,
            folder=self.folder / f"boot-{self._boots}",
            spec=self.spec,
            artifacts=self.artifacts,
            definition=self.definition,
            memory=self.memory,
            frozen=frozen,
            offers=self.offers,
            entry=self._entry,
            is_kexec=is_kexec,
        )

    def power_off(self) -> None:
        """Shut down cleanly; returns when the machine is off."""
        self._shut_down("poweroff")

    def reboot(
        self, into: Artifacts | None = None, uuid: UUID | None = None, boot_path: BootPath | None = None
    ) -> None:
        """Reboot cleanly, into other artifacts if given: an upgrade of a stateless machine.

        With another ``uuid`` or ``boot_path`` its disks are in another board from then on.

        On the boot path ``grub`` they become the first entry of its menu and the previous ones the second; on ``kexec``
        the running system starts them itself.
        """
        if self.spec.boot_path is BootPath.KEXEC and uuid is None:
            self.kexec(into)
            return
        self._shut_down("reboot")
        self.power_on(into, uuid, boot_path=boot_path)

    def reboot_previous(self) -> None:
        """Reboot cleanly and pick the second entry of GRUB's menu, the version before, for this boot only."""
        self._shut_down("reboot")
        self.power_on(entry=1)

    def kexec(self, into: Artifacts | None = None) -> None:
        """Reboot without firmware: the running system starts ``into``, whichever boot path started that system."""
        self.artifacts = into or self.artifacts
        if self.is_clone:
            self._memory_share().begin()
        with self._holding_failed(), self.boot_slot():
            plan = self._plan(is_kexec=True)
            boot_files.save_upgrade(plan, self.running_boot.plan, self.context.lab)
            running = self.running_boot.kexec(plan)
            self._running.append(running)
            log, trace = plan.folder / NETWORK_LOG, self.context.lab.trace
            self._stack.enter_context(trace.logged(self.spec.number, log, running.console.started_s))
            self._stack.callback(running.watch.report_late_findings)
            running.wait_until_ready()

    def kill(self) -> None:
        """Cut the power: QEMU gets SIGKILL, and what the guest had not written to disk is lost."""
        child = self.running_boot.child
        child.signal(signal.SIGKILL)
        child.wait(Deadline(10))
        self.context.run.add(Killed(machine=self.name, number=self.running_boot.plan.number))
        self.off()

    def off(self) -> None:
        """End the machine at once, in any state; nothing if it is off."""
        self._running.clear()
        self._stack.close()

    def _shut_down(self, verb: str) -> None:
        running = self.running_boot
        running.run_later(f"systemctl --no-block {verb}")
        try:
            running.wait_until_off(f"clean {verb}")
        finally:
            self.off()


@contextmanager
def boot(
    spec: MachineSpec,
    artifacts: Artifacts,
    definition: ImageDefinition,
    *,
    context: BootContext,
    power: bool = True,
    memory: Path | None = None,
    start: FrozenMachine | None = None,
) -> Iterator[Machine]:
    """A machine that is on and ready (off, with ``power=False``) while the block lasts.

    With ``memory``, a file that it creates, it can be frozen. With ``start``, a machine frozen in its initrd, its first
    boot continues from there.
    """
    furnish(spec.disks)
    spec = adapted(reachable(spec, context.run), context.lab.network_faults)
    machine = Machine(spec, artifacts, definition, context, memory, start)
    with _ending(machine):
        if power:
            machine.power_on()
        yield machine


@contextmanager
def boot_into_initrd(
    spec: MachineSpec, artifacts: Artifacts, definition: ImageDefinition, *, context: BootContext, memory: Path
) -> Iterator[Machine]:
    """A machine that is stopped in its initrd, where it can be frozen, while the block lasts; its memory is in the new
    file ``memory``. `CannotFreeze` if it does not get there."""
    machine = Machine(reachable(spec, context.run), artifacts, definition, context, memory)
    with _ending(machine):
        try:
            machine._boot_into_initrd()
            yield machine
        finally:
            context.run.add(Killed(machine=machine.name, number=machine._boots))


@contextmanager
def thaw(
    frozen: FrozenMachine,
    spec: MachineSpec,
    artifacts: Artifacts,
    definition: ImageDefinition,
    *,
    context: BootContext,
    memory: Path | None = None,
) -> Iterator[Machine]:
    """A machine that resumes ``frozen`` while the block lasts; ``spec`` differs from the frozen one in name and disks.

    With ``memory``, a copy of the frozen one's that it may write to, it can be frozen again. `CannotFreeze` if QEMU
    cannot resume it.
    """
    machine = Machine(spec, artifacts, definition, context, memory)
    with _ending(machine):
        machine._memory_share(frozen.host_memory_mib).begin()
        machine._start(machine._plan(frozen)).thaw()
        yield machine


@contextmanager
def _ending(machine: Machine) -> Iterator[None]:
    """When the block ends, end the machine; if it did not fail, remove the copies of its disks that a bundle needs."""
    try:
        yield
    finally:
        machine.off()
        grub.remove(machine.folder)
    boot_files.forget_disks(machine.folder)


def power_on_together(machines: Sequence[Machine]) -> None:
    """Boot all machines at the same moment, like a rack whose power returns, and wait until all are ready.

    They are admitted as one: memory for all of them, and one boot slot. After all boots have ended, the error of the
    first machine that failed is raised.
    """
    slots = machines[0].context.slots
    needed_mib = sum(admission.of_a_boot(machine.spec.memory_mib) for machine in machines)
    with admission.memory_share(slots, needed_mib) as share, machines[0].boot_slot():
        share.begin()
        with ThreadPoolExecutor(len(machines), thread_name_prefix="boot") as pool:
            boots = [pool.submit(machine._boot, machine._plan()) for machine in machines]
    for machine, boot in zip(machines, boots, strict=True):
        with machine._holding_failed():
            boot.result()

"""Machines: one QEMU in a lab over its boots. A reboot is a relaunch (DESIGN decision 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from harness.core.deadline import Deadline
from harness.core.errors import HarnessError, ImageError, UsageError
from harness.guest.channel import Channel, Completed
from harness.guest.console import Console
from harness.guest.serial_shell import SHELL_CREDENTIALS
from harness.guest.testinfra_host import Facts, Host, open_guest
from harness.host import admission
from harness.machine import boot_files
from harness.machine.boot import RunningBoot
from harness.machine.boot_plan import BootContext, BootPlan, FrozenMachine
from harness.machine.errors import BootFailed, EmulatorFault
from harness.machine.power_on import power_on
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Killed
from harness.model.layout import NETWORK_LOG
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.network_faults import adapted
from harness.qemu import grub
from harness.qemu.disk_images import furnish
from harness.runs.folder import Run

__all__ = ["BootContext", "BootFailed", "Machine", "boot", "power_on_together", "thaw"]

SIGKILL = 9


class Machine:
    """One machine over its boots: its disks and identity stay, everything else is new each time.

    Only `boot` and `thaw` make one. Findings of its boots are in the run's folder at once. Its memory is in the file
    ``memory``, if that is given.
    """

    def __init__(
        self,
        spec: MachineSpec,
        artifacts: Artifacts,
        definition: ImageDefinition,
        context: BootContext,
        memory: Path | None = None,
    ) -> None:
        self.spec, self.artifacts, self.definition, self.context = spec, artifacts, definition, context
        self.memory = memory
        self.facts: Facts = {}
        self.offers: tuple[Artifacts, ...] = (artifacts,)
        """What GRUB's menu has, the latest first."""
        self._entry = 0
        self._boots = sum(1 for _ in self.folder.glob("boot-*"))  # another of that name was here before
        self.first = self._boots + 1
        """The number of its first boot."""
        self._stack = ExitStack()
        self._powers: list[RunningBoot] = []
        self._guests: dict[int, Host] = {}

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        """Where its logs are, a folder a boot."""
        return self.context.run.folder / self.name

    @property
    def is_on(self) -> bool:
        return bool(self._powers)

    def doubt(self) -> str:
        """Why what it shows may not be the image's doing, or nothing."""
        return self.power.watch.doubt() if self.is_on else self.context.doubt()

    @property
    def is_clone(self) -> bool:
        """Whether it runs, and did not boot but went on where another machine stood still."""
        return self.is_on and self.power.plan.frozen is not None

    @property
    def power(self) -> RunningBoot:
        """The boot that runs now: its console, QMP and downloads."""
        if not self._powers:
            raise HarnessError(f"{self.name} is off: power_on() it first")
        return self._powers[-1]

    @property
    def console(self) -> Console:
        return self.power.console

    @property
    def channel(self) -> Channel:
        return self.power.channel

    @property
    def guest(self) -> Host:
        """A testinfra Host over the channel; a new one after each boot, since it caches facts."""
        facts = self.facts if self.is_clone else {}
        return self._guests.setdefault(self._boots, open_guest(self.name, self.channel, facts))

    @property
    def ssh(self) -> Channel:
        """SSH as root with the run's key, over its network; after a reboot, ask again."""
        return self.power.ssh

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        """Run a shell command in the guest as root; any status is an answer."""
        return self.channel.run(command, deadline)

    def check(self, command: str, deadline: Deadline | None = None) -> str:
        """What ``command`` printed, without the last newline; `ImageError` for any status but 0."""
        done = self.run(command, deadline)
        if done.status:
            reason = done.stderr.decode("utf-8", "replace").strip()
            raise ImageError(f"{self.name}: {command!r} ended with status {done.status}: {reason or done.text}")
        return done.text

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While the block lasts its guest may keep a CPU busy for long: that takes turns with boots."""
        with admission.boot_slot(self.context.slots):
            yield

    def power_on(self, artifacts: Artifacts | None = None, uuid: UUID | None = None, *, entry: int = 0) -> None:
        """Boot and wait until ready; ``artifacts`` and ``uuid`` change from this boot on.

        GRUB's machines start that ``entry`` of the menu, 1 being the version before; it is for this boot only.
        A boot that the emulator broke is made once more; both are in the verdict.
        """
        if self.is_on:
            raise HarnessError(f"{self.name} is on already")
        self._deploy(artifacts, entry)
        self.spec = replace(self.spec, uuid=uuid or self.spec.uuid)
        try:
            self._boot_once()
        except EmulatorFault as fault:
            self.context.run.add_note(f"{fault}: it is booted once more")
            self.off()
            self._boot_once()

    def power_on_and_kill(
        self, when: Callable[[Console], bool], then_s: float = 0.0, artifacts: Artifacts | None = None
    ) -> None:
        """Boot, and pull the plug ``then_s`` seconds after ``when`` became true of the console; it is not looked at.

        `ImageError` if it never does.
        """
        if self.is_on:
            raise HarnessError(f"{self.name} is on already")
        self._deploy(artifacts)
        share = self._memory_share(admission.of_a_boot(self.spec.memory_mib))
        with admission.boot_slot(self.context.slots):
            share.begin()
            power, deadline = self._power_on(self._plan(None)), Deadline(self.context.timeouts.boot_s)
            while not when(power.console):
                if power.child.wait(Deadline(0.1, scaled=False)) is not None or deadline.is_over:
                    raise ImageError(
                        f"{self.name}: it did not get to where its power was to be cut:\n{self.console.tail()}"
                    )
            power.child.wait(Deadline(then_s, scaled=False))
            self.kill()

    def _deploy(self, artifacts: Artifacts | None, entry: int = 0) -> None:
        """Decide what the next boot starts."""
        if self.spec.boot_path is not BootPath.GRUB:
            if entry:
                raise UsageError(f"{self.name}: boot path {self.spec.boot_path} has no menu with an entry {entry}")
            self.artifacts = artifacts or self.artifacts
            return
        if artifacts:
            self.offers = grub.offers(artifacts, self.artifacts, self.offers)
        if not entry < len(self.offers):
            raise UsageError(f"{self.name}: GRUB's menu has no entry {entry}, but {len(self.offers)}; upgrade it first")
        self.artifacts, self._entry = self.offers[entry], entry

    def _boot_once(self) -> None:
        plan = self._plan(None)
        boot_files.note_phase(plan, self.context.run, "queued")
        share = self._memory_share(admission.of_a_boot(self.spec.memory_mib))
        with self._keeping(), admission.boot_slot(self.context.slots):
            share.begin()
            self._boot(plan)

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Whoever wants to look at a machine whose boot fails in the block may, after it."""
        try:
            yield
        except BootFailed:
            if self.is_on:
                self.context.keep(self)
            raise

    def _boot(self, plan: BootPlan) -> None:
        """Of a machine that the host has room for."""
        if self.memory:
            self.memory.unlink(missing_ok=True)
        power = self._power_on(plan)
        if self.memory:
            power.check_freezable()
        power.wait_until_ready()

    def thaw(self, frozen: FrozenMachine) -> None:
        """Go on where ``frozen`` stood still, whose spec but for name and disks this machine has.

        Raises `CannotFreeze` where QEMU does not take its state.
        """
        self._memory_share(frozen.host_memory_mib).begin()
        self._power_on(self._plan(frozen)).thaw()

    def freeze(self, state: Path) -> None:
        """It stands still from now on, its memory in ``memory``, its device state in ``state``, and is off."""
        self.power.freeze(state)
        self.off()
        boot_files.forget_disks(self.folder)

    def _memory_share(self, needed_mib: int) -> admission.Share:
        return self._stack.enter_context(admission.memory_share(self.context.slots, needed_mib))

    def _power_on(self, plan: BootPlan) -> RunningBoot:
        boot_files.save(plan, self.context.lab)
        power = self._stack.enter_context(power_on(plan, self.context))
        self._powers.append(power)
        return power

    def _plan(self, frozen: FrozenMachine | None, *, is_kexec: bool = False) -> BootPlan:
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
        """Shut down cleanly; returns when the power is off."""
        self._leave("poweroff")

    def reboot(self, into: Artifacts | None = None, uuid: UUID | None = None) -> None:
        """Reboot cleanly, into other ``artifacts`` if given: that is what an upgrade of a stateless machine is.

        On the boot path ``grub`` they become the first entry of its menu, and what ran before the second; on ``kexec``
        the running system starts them itself.
        """
        if self.spec.boot_path is BootPath.KEXEC and uuid is None:
            self._kexec(into)
            return
        self._leave("reboot")
        self.power_on(into, uuid)

    def reboot_previous(self) -> None:
        """Reboot cleanly and pick the second entry of GRUB's menu, the version before; for this once."""
        self._leave("reboot")
        self.power_on(entry=1)

    def _kexec(self, into: Artifacts | None) -> None:
        self._deploy(into)
        if self.is_clone:
            self._memory_share(admission.of_a_boot(self.spec.memory_mib)).begin()
        with self._keeping(), admission.boot_slot(self.context.slots):
            plan = self._plan(None, is_kexec=True)
            boot_files.save_upgrade(plan, self.power.plan, self.context.lab)
            power = self.power.kexec(plan)
            self._powers.append(power)
            log, trace = plan.folder / NETWORK_LOG, self.context.lab.trace
            self._stack.enter_context(trace.logged(self.spec.number, log, power.console.started_s))
            self._stack.callback(power.watch.report_late_findings)
            power.wait_until_ready()

    def kill(self) -> None:
        """The plug is pulled: QEMU gets SIGKILL, the guest's caches are lost."""
        child = self.power.child
        child.signal(SIGKILL)
        child.wait(Deadline(10))
        self.context.run.add(Killed(machine=self.name, number=self.power.plan.number))
        self.off()

    def off(self) -> None:
        """Whatever it is doing, it is off now."""
        self._powers.clear()
        self._stack.close()

    def _leave(self, verb: str) -> None:
        power = self.power
        power.run_later(f"systemctl --no-block {verb}")
        try:
            power.wait_until_off(f"clean {verb}")
        finally:
            self.off()


def power_on_together(machines: Sequence[Machine]) -> None:
    """Boot all of them at the same moment, as a rack whose power comes back, and wait until all are ready.

    They are admitted as one: with memory for all, and one boot slot. What the first that failed raises is raised when
    all have ended their boots.
    """
    slots = machines[0].context.slots
    needed_mib = sum(admission.of_a_boot(machine.spec.memory_mib) for machine in machines)
    with admission.memory_share(slots, needed_mib) as share, admission.boot_slot(slots):
        share.begin()
        with ThreadPoolExecutor(len(machines), thread_name_prefix="boot") as pool:
            boots = [pool.submit(machine._boot, machine._plan(None)) for machine in machines]
    for machine, boot in zip(machines, boots, strict=True):
        with machine._keeping():
            boot.result()


@contextmanager
def boot(
    spec: MachineSpec,
    artifacts: Artifacts,
    definition: ImageDefinition,
    *,
    context: BootContext,
    power: bool = True,
    memory: Path | None = None,
) -> Iterator[Machine]:
    """A machine that is on and ready (off, with ``power=False``) while the block lasts.

    With ``memory``, a file to be made, it can be frozen.
    """
    furnish(spec.disks)
    spec = adapted(reachable(spec, context.run), context.lab.network_faults)
    machine = Machine(spec, artifacts, definition, context, memory)
    try:
        if power:
            machine.power_on()
        yield machine
    finally:
        machine.off()
        grub.remove(machine.folder)
    boot_files.forget_disks(machine.folder)  # of what failed in it, the disks are for a bundle


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
    """A machine that goes on where ``frozen`` stood still, while the block lasts; see `Machine.thaw`.

    With ``memory``, a copy of the frozen one's that it may write to, it can be frozen again.
    """
    machine = Machine(spec, artifacts, definition, context, memory)
    try:
        machine.thaw(frozen)
        yield machine
    finally:
        machine.off()
        grub.remove(machine.folder)
    boot_files.forget_disks(machine.folder)


def reachable(spec: MachineSpec, run: Run) -> MachineSpec:
    """``spec`` with the credentials by which the guest is reached: the serial shell, and the run's SSH key."""
    key = run.key.with_suffix(".pub").read_text("utf-8")
    return replace(spec, credentials={**SHELL_CREDENTIALS, "ssh.authorized_keys.root": key, **spec.credentials})

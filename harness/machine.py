"""Machines: one QEMU in a lab over its boots. A reboot is a relaunch (DESIGN decision 5)."""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import UUID

from harness import admission, checks, process, qemu
from harness.artifacts import FILES, INITRD, KERNEL, ROOTFS, Artifacts
from harness.channel import (
    SHELL_CREDENTIALS,
    Channel,
    ChannelTimeout,
    Completed,
    SerialChannel,
    SshChannel,
    ssh_command,
)
from harness.console import Console, follow
from harness.deadline import Changes, Deadline
from harness.definition import ImageDefinition
from harness.errors import BootproofError, HostError, ImageError, Subject
from harness.guest import Host, open_guest
from harness.lab import Lab, LabProcess, Request
from harness.qmp import Qmp, open_qmp
from harness.run import Run
from harness.spec import GATEWAY, BootPath, MachineSpec
from harness.verdict import Boot, Finding

BOOT_S = 420.0
"""How long a boot may take on the reference machine under TCG before it is called hung."""
SILENCE_S = 90.0
"""A console that printed within this time belongs to a guest that makes progress, which is not called hung."""
SHUTDOWN_S = 150.0
"""Longer than systemd's DefaultTimeoutStopSec of 90 s, so that the guest can name the unit that would not stop."""


class BootFailed(ImageError):
    """A boot ended, or cannot end well: ``finding`` says why, with its evidence."""

    def __init__(self, machine: str, finding: Finding, folder: str, by_hand: str) -> None:
        super().__init__(machine, finding, folder, by_hand)
        self.machine, self.finding, self.folder, self.by_hand = machine, finding, folder, by_hand
        self.subject = finding.subject

    def __str__(self) -> str:
        evidence = "\n".join(f"    {line}" for line in self.finding.evidence)
        return (
            f"{self.machine}: {self.finding.what} [{self.finding.id}]\n{evidence}\n"
            f"  suspected cause: {self.finding.cause}\n"
            f"  all logs:        {self.folder}\n"
            f"  boot it by hand: {self.by_hand}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where machines run: a lab, the run they belong to, and the host's boot slots.

    ``by_hand`` renders the command a person types to boot these artifacts again.
    """

    lab: Lab
    run: Run
    slots: Path
    by_hand: Callable[[Artifacts, MachineSpec], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Power:
    """One power-on: everything that is gone when the machine is off."""

    number: int
    folder: Path
    artifacts: Artifacts
    spec: MachineSpec
    stack: ExitStack
    qemu: LabProcess
    qmp: Qmp
    console: Console
    channel: SerialChannel
    events: list[tuple[str, dict[str, Any]]]
    changes: Changes
    started_s: float


class Machine:
    """One machine over its boots: its disks and identity stay, everything else is new each time.

    Only `boot` makes one, and it is on and ready then. Findings of its boots are in the run's folder.
    """

    def __init__(
        self, spec: MachineSpec, artifacts: Artifacts, definition: ImageDefinition, site: Site, folder: Path
    ) -> None:
        self.spec, self.artifacts, self.definition, self.site, self.folder = spec, artifacts, definition, site, folder
        self._boots = 0
        self._power: _Power | None = None
        self._guest: Host | None = None
        self._is_booting = False

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_on(self) -> bool:
        return self._power is not None and self._power.qemu.status is None

    @property
    def console(self) -> Console:
        """The console of the boot that runs now."""
        return self._on().console

    @property
    def guest(self) -> Host:
        """A testinfra Host over the serial channel; a new one after each boot."""
        if self._guest is None:
            self._guest = open_guest(self.name, self._on().channel)
        return self._guest

    @property
    def channel(self) -> Channel:
        return self._on().channel

    @cached_property
    def ssh(self) -> Channel:
        """SSH as root with the run's key, over the lab's network."""
        known_hosts = self.folder / "known_hosts"
        argv = ssh_command(self.spec.address, str(self.site.run.key), str(known_hosts))
        return SshChannel(self.name, argv, self._run_in_lab)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        """Run a shell command in the guest as root; any status is an answer."""
        return self._on().channel.run(command, deadline)

    def check(self, command: str, deadline: Deadline | None = None) -> str:
        """What ``command`` printed, without the last newline; `ImageError` for any status but 0."""
        done = self.run(command, deadline)
        if done.status:
            reason = done.stderr.decode("utf-8", "replace").strip()
            raise ImageError(f"{self.name}: {command!r} ended with status {done.status}: {reason or done.text}")
        return done.text

    # -- power --------------------------------------------------------------------------------------------------

    def power_on(self, artifacts: Artifacts | None = None, uuid: UUID | None = None) -> None:
        """Boot and wait until ready; ``artifacts`` and ``uuid`` change from this boot on.

        Raises `BootFailed` at the first bad sign; its finding is in the run's folder by then.
        """
        assert not self.is_on, f"{self.name} is on already"
        self.artifacts = artifacts or self.artifacts
        self.spec = replace(self.spec, uuid=uuid or self.spec.uuid)
        self._boots += 1
        self.site.run.add_phase(self.name, self._boots, "queued")
        with admission.boot_slot(self.site.slots):
            self._launch()
            try:
                self._is_booting = True
                self._until_ready()
            except BootproofError as error:
                raise self._as_boot_failure(error) from error
            finally:
                self._is_booting = False

    def power_off(self) -> None:
        """Shut down cleanly; returns when the power is off."""
        self._on().channel.run("systemctl --no-block poweroff")
        self._until_off("a clean shutdown")

    def reboot(self, into: Artifacts | None = None, uuid: UUID | None = None) -> None:
        """Reboot cleanly, into other ``artifacts`` if given: that is what an upgrade of a stateless machine is."""
        self._on().channel.run("systemctl --no-block reboot")
        self._until_off("a clean reboot")
        self.power_on(into, uuid)

    def kill(self) -> None:
        """The plug is pulled: QEMU gets SIGKILL, the guest's caches are lost."""
        power = self._on()
        power.qemu.signal(9)
        power.qemu.wait(Deadline(10))
        self._off()

    def _until_off(self, awaited: str) -> None:
        power = self._on()
        if power.qemu.wait(Deadline(SHUTDOWN_S)) is None:
            finding = Finding(
                id="shutdown-hangs",
                what=f"waited {SHUTDOWN_S:.0f} s for {awaited}, in vain",
                where=self._where(),
                evidence=tuple(power.console.lines[-8:]),
                cause="a unit that does not stop; the console names it",
            )
            self.kill()
            raise self._failed(finding, power)
        self._off()

    # -- one boot -----------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        folder = self.folder / f"boot-{self._boots}"
        folder.mkdir(parents=True)
        serve(self.site.lab, self.spec, self.artifacts)
        with ExitStack() as stack:
            changes, events = Changes(), list[tuple[str, dict[str, Any]]]()
            (qmp, qmp_in), (console, console_in), (shell, shell_in) = (_wire(stack) for _ in range(3))
            wires = qemu.Wires(
                qmp_fd=qmp_in.fileno(),
                console_fd=console_in.fileno(),
                shell_fd=shell_in.fileno(),
                tap=self.site.lab.tap(self.spec.number),
            )
            argv = qemu.command(self.spec, program=process.require("qemu-system-x86_64", "qemu-system-x86"),
                                wires=wires, direct=direct_boot(self.spec, self.artifacts))  # fmt: skip
            (folder / "argv").write_text(shlex.join(argv) + "\n", "utf-8")
            log = stack.enter_context((folder / "qemu.log").open("wb"))
            child = self.site.lab.spawn(
                argv,
                stdout=log.fileno(),
                stderr=log.fileno(),
                pass_fds=[qmp_in.fileno(), console_in.fileno(), shell_in.fileno()],
                on_exit=lambda _: changes.note(),
            )
            stack.callback(child.end, 0.0)
            started_s = time.monotonic()
            for inner in (qmp_in, console_in, shell_in):
                inner.close()
            follower = stack.enter_context(
                follow(console, folder / "console.log", changes, self._phase, self.definition.waiting)
            )
            self._phase("firmware")
            monitor = stack.enter_context(
                open_qmp(qmp, name=self.name, on_event=_collect(events, changes), log=folder / "qmp.log")
            )
            self._guest = None
            self._power = _Power(
                number=self._boots, folder=folder, artifacts=self.artifacts, spec=self.spec, qemu=child, qmp=monitor,
                console=follower, channel=SerialChannel(self.name, shell, self._alive), events=events,
                changes=changes, started_s=started_s, stack=stack.pop_all(),
            )  # fmt: skip

    def _until_ready(self) -> None:
        power = self._on()
        deadline = _PatientDeadline(power.console)
        power.channel.wait_for_shell(deadline)
        checks.wait_until_ready(self.name, power.channel, self.definition, deadline)
        self._alive()
        self._phase("ready")
        ready_s = time.monotonic() - power.started_s
        self._add_boot(power, ready_s)
        seen = checks.look(power.channel)
        findings = [*checks.judge(seen, power.artifacts.manifest, self.definition, self._where())]
        findings += self._judge_downloads(power)
        for finding in findings:
            self.site.run.add_finding(finding)
        if findings:
            raise self._failed(findings[0], power, is_new=False)

    def _judge_downloads(self, power: _Power) -> Iterator[Finding]:
        """What was served to this machine in this boot equals the manifest, to the byte."""
        if power.spec.boot_path is BootPath.DIRECT:
            return
        served = downloads(self.site.lab, power)
        for name in FILES:
            awaited = power.artifacts.manifest.files[name].size_bytes
            if served.get(name, 0) != awaited:
                yield Finding(
                    id="served-bytes-differ",
                    what=f"{served.get(name, 0)} bytes of {name} were served, {awaited} are in the manifest",
                    where=self._where(),
                    cause="a download was cut short, or something else was booted",
                )

    def _alive(self) -> None:
        """Raise what ended the machine; while booting, at the first bad sign."""
        power = self._on()
        panic = next((data for name, data in power.events if name == "GUEST_PANICKED"), None)
        if self._is_booting and power.console.sightings:
            raise self._failed(checks.finding_of(power.console.sightings[0], self._where()), power)
        if panic is not None:
            power.changes.wait_for(lambda: power.console.sightings, Deadline(2))  # its console says why
            found = [checks.finding_of(sighting, self._where()) for sighting in power.console.sightings]
            raise self._failed(found[0] if found else self._ended("the guest panicked", "kernel-panic"), power)
        if power.qemu.status is not None:
            raise self._failed(self._exit_finding(power), power)

    def _exit_finding(self, power: _Power) -> Finding:
        reason = next((data.get("reason", "") for name, data in power.events if name == "SHUTDOWN"), "")
        if reason.startswith("guest"):
            return self._ended(f"the guest ended by itself ({reason})", "unexpected-reset")
        text = (power.folder / "qemu.log").read_text("utf-8", "replace").strip()
        return replace(
            self._ended(f"QEMU ended with status {power.qemu.status} {reason}".rstrip(), "qemu-ended"),
            subject=Subject.HOST,
            evidence=tuple(text.splitlines()[-5:]),
            cause="see qemu.log; killed (-9) usually means that the host ran out of memory",
        )

    def _ended(self, what: str, finding_id: str) -> Finding:
        lines = tuple(self._on().console.lines[-8:])
        return Finding(id=finding_id, what=what, where=self._where(), evidence=lines, cause="see its last lines")

    def _failed(self, finding: Finding, power: _Power, *, is_new: bool = True) -> BootFailed:
        if is_new:
            self.site.run.add_finding(finding)
        by_hand = self.site.by_hand(power.artifacts, power.spec)
        return BootFailed(self.name, finding, str(power.folder), by_hand)

    def _as_boot_failure(self, error: BootproofError) -> BootproofError:
        """An error while waiting for ready, as a finding of this boot, with the journal kept where it answers."""
        power = self._on()
        self._keep_journal(power)
        if isinstance(error, BootFailed) or error.subject is not Subject.IMAGE:
            self._add_boot(power, None)
            return error
        sighting = next(iter(power.console.sightings), None)
        if sighting is not None:
            finding = checks.finding_of(sighting, self._where())
        else:
            phase = next(reversed(power.console.phases), "firmware")
            finding = Finding(
                id="unit-not-ready" if isinstance(error, checks.NotReady) else "boot-hangs",
                what=str(error),
                where=self._where(),
                evidence=tuple(power.console.lines[-8:]),
                cause=f"the last phase it reached was {phase}",
            )
        self._add_boot(power, None)
        return self._failed(finding, power)

    def _keep_journal(self, power: _Power) -> None:
        with suppress(BootproofError, OSError):
            self._is_booting = False
            journal = power.channel.run("journalctl -b -o short-monotonic --no-pager", Deadline(20))
            (power.folder / "journal.log").write_bytes(journal.stdout)

    def _add_boot(self, power: _Power, ready_s: float | None) -> None:
        arguments = qemu.kernel_arguments(power.artifacts, power.spec.boot_path)
        given = set(power.artifacts.manifest.kernel_arguments)
        boot = Boot(
            machine=self.name,
            number=power.number,
            boot_path=power.spec.boot_path.value,
            artifacts=power.artifacts.digest,
            phases=durations(power.console.phases, ready_s),
            ready_s=None if ready_s is None else round(ready_s, 2),
            console=str(power.console.log),
            added_arguments=tuple(argument for argument in arguments if argument not in given),
            downloads=downloads(self.site.lab, power),
        )
        self.site.run.add_boot(boot)

    # -- small things -------------------------------------------------------------------------------------------

    def _on(self) -> _Power:
        if self._power is None:
            raise HostError(f"{self.name} is off; power_on() it first")
        return self._power

    def _off(self) -> None:
        if self._power is not None:
            power, self._power, self._guest = self._power, None, None
            power.stack.close()

    def _where(self) -> str:
        return f"{self.name}, boot {self._boots} ({self.spec.boot_path})"

    def _phase(self, phase: str) -> None:
        self.site.run.add_phase(self.name, self._boots, phase)

    def _run_in_lab(self, argv: list[str], deadline: Deadline) -> tuple[int, bytes, bytes]:
        with TemporaryFile() as stdout, TemporaryFile() as stderr:
            child = self.site.lab.spawn(argv, stdout=stdout.fileno(), stderr=stderr.fileno())
            status = child.wait(deadline)
            if status is None:
                child.end(0.0)
                raise ChannelTimeout(self.name, argv[-1], deadline.passed_s, "ssh itself may hang: try the channel.")
            stdout.seek(0)
            stderr.seek(0)
            return status, stdout.read(), stderr.read()


class _PatientDeadline(Deadline):
    """A boot's deadline: over when the time is up and the console has been silent, or after thrice the time."""

    def __init__(self, console: Console) -> None:
        super().__init__(BOOT_S)
        self._console = console

    @property
    def left_s(self) -> float:
        left_s = self.length_s - self.passed_s
        if left_s > 0:
            return left_s
        silence_left_s = SILENCE_S - self._console.silent_s
        return max(0.0, min(silence_left_s, 3 * self.length_s - self.passed_s))


@contextmanager
def boot(
    spec: MachineSpec, artifacts: Artifacts, definition: ImageDefinition, *, site: Site, power: bool = True
) -> Iterator[Machine]:
    """A machine that is on and ready (off, with ``power=False``) while the block lasts."""
    credentials = {**SHELL_CREDENTIALS, "ssh.authorized_keys.root": _public_key(site.run), **spec.credentials}
    folder = site.run.folder / spec.name
    machine = Machine(replace(spec, credentials=credentials), artifacts, definition, site, folder)
    try:
        if power:
            machine.power_on()
        yield machine
    finally:
        machine._off()


def serve(lab: Lab, spec: MachineSpec, artifacts: Artifacts) -> None:
    """Let the lab's HTTP server hand ``artifacts`` to this machine."""
    for name in FILES:
        lab.http.serve(f"/{artifacts.digest}/{name}", artifacts.folder / name)
    if spec.boot_path is BootPath.IPXE_BIOS:
        base = f"http://{GATEWAY}/{artifacts.digest}"
        script = qemu.ipxe_script(base, qemu.kernel_arguments(artifacts, spec.boot_path))
        lab.http.serve(f"/boot/{spec.address}.ipxe", script.encode())
        lab.http.serve("/boot.ipxe", lambda asked: lab.http.answer_to(_own_script(asked)))


def _own_script(asked: Request) -> Request:
    return replace(asked, path=f"/boot/{asked.client}.ipxe")


def direct_boot(spec: MachineSpec, artifacts: Artifacts) -> qemu.DirectBoot | None:
    """What QEMU itself loads on the ``direct`` path."""
    if spec.boot_path is not BootPath.DIRECT:
        return None
    arguments = qemu.kernel_arguments(artifacts, spec.boot_path)
    return qemu.DirectBoot(
        kernel=artifacts.kernel, initrd=artifacts.initrd, rootfs=artifacts.rootfs, arguments=arguments
    )


def downloads(lab: Lab, power: _Power) -> dict[str, int]:
    """Bytes of each artifact that this machine really got in this boot."""
    sums: dict[str, int] = {}
    for request in lab.http.log:
        if request.client == power.spec.address and request.started_s >= power.started_s and request.method == "GET":
            name = request.path.rpartition("/")[2]
            if name in (KERNEL, INITRD, ROOTFS):
                sums[name] = sums.get(name, 0) + request.bytes_sent
    return sums


def durations(begins_s: dict[str, float], ready_s: float | None) -> dict[str, float]:
    """Seconds each phase took, from the seconds they began: pure."""
    rows = [("firmware", 0.0), *begins_s.items()]
    ends = [begin for _, begin in rows[1:]] + [ready_s if ready_s is not None else rows[-1][1]]
    return {name: round(end - begin, 2) for (name, begin), end in zip(rows, ends, strict=True)}


def _wire(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.callback(theirs.close)
    return stack.enter_context(ours), theirs


def _collect(events: list[tuple[str, dict[str, Any]]], changes: Changes) -> Callable[[str, dict[str, Any]], None]:
    def collect(name: str, data: dict[str, Any]) -> None:
        events.append((name, data))
        changes.note()

    return collect


def _public_key(run: Run) -> str:
    return run.key.with_suffix(".pub").read_text("utf-8")

"""Reaching a guest that boots: by the serial shell where its image takes one, else over SSH."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from tempfile import TemporaryFile

from harness.core.deadline import Deadline
from harness.core.errors import BootproofError
from harness.guest.channel import Channel, ChannelClosed, ChannelTimeout, GuestCommandFailed, Transcript
from harness.guest.console import Console
from harness.guest.serial_shell import SerialChannel, takes_serial_shell
from harness.guest.ssh import SshChannel, ssh_command
from harness.guest.unit_survey import ANSWER_S, UnitSurvey, parse, survey_units
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.watch import BootWatch
from harness.model.timeouts import Timeouts

WITHOUT_SERIAL = (
    "what happens before the network is up or while it is down: this image takes no shell on a serial port "
    "(systemd 256 and newer do), so commands went over SSH"
)

_READ_HIDDEN = "journalctl -b -q --no-pager --no-hostname -o short-monotonic -n 20000 _TRANSPORT=kernel + _PID=1"
"""The messages that a console shows: the kernel's and systemd's."""


class PatientDeadline(Deadline):
    """A boot's deadline: over when the time is up and the machine shows no progress, or after three times the time.

    Progress is what the console prints, or ``is_busy``: for a console that hides messages, whether the CPUs work.
    """

    def __init__(self, console: Console, timeouts: Timeouts, is_busy: Callable[[], bool] = bool) -> None:
        super().__init__(timeouts.boot_s)
        self._console, self._silence_s, self._is_busy = console, timeouts.silence_s, is_busy

    @property
    def left_s(self) -> float:
        left_s = self.length_s - self.passed_s
        if left_s > 0:
            return left_s
        silence_left_s = self._silence_s - (0.0 if self._is_busy() else self._console.silent_s)
        return max(0.0, min(silence_left_s, 3 * self.length_s - self.passed_s))


def reach_guest(
    watch: BootWatch,
    serial: SerialChannel,
    open_ssh: Callable[[], Channel],
    deadline: Deadline,
    boot_id_before: str = "",
) -> Channel:
    """The serial shell if the image's systemd takes it, SSH if not, and the first that answers if that is not known.

    ``open_ssh`` is called once the guest is in user space, or from the start if the console does not show that; with
    ``boot_id_before`` the system of that boot id is not the guest. Raises what `BootWatch.check` raises, or
    `ChannelTimeout`.
    """
    is_serial = takes_serial_shell(watch.plan.artifacts.manifest.systemd)
    if is_serial:
        serial.wait_for_shell(deadline)
        return serial
    timeouts, last_error = watch.context.timeouts, "no attempt was made"
    attempt_s = timeouts.attempt_every_s
    while not deadline.is_over:
        if is_serial is None and serial.has_shell(Deadline(attempt_s)):
            return serial
        watch.wait_for(lambda: watch.child.status is not None, Deadline(attempt_s, scaled=False))
        watch.check()
        if "userspace" not in watch.console.phases and watch.view.shows_phases:
            continue
        try:
            ssh = open_ssh()
            answer = ssh.run("cat /proc/sys/kernel/random/boot_id", Deadline(timeouts.ssh_attempt_s))
            boot_id = answer.checked()
        except (ChannelClosed, ChannelTimeout, GuestCommandFailed) as error:
            last_error = str(error)
            continue
        if watch.view.shows_phases or boot_id != boot_id_before:
            watch.context.run.add_unchecked(WITHOUT_SERIAL)
            return ssh
    raise ChannelTimeout(watch.plan.spec.name, "a root shell over SSH", deadline.passed_s, f"ssh: {last_error}")


def survey_failed_guest(
    watch: BootWatch, serial: SerialChannel, open_ssh: Callable[[], Channel], asked: Sequence[str]
) -> tuple[UnitSurvey | None, Channel | None]:
    """The units of a guest whose boot failed before it was reached, or of its initrd, and the channel that answers.

    ``asked`` are units to survey besides those that failed. Both are None if nothing answers within `ANSWER_S`.
    """
    deadline = Deadline(ANSWER_S)
    channel: Channel | None = None
    try:
        if takes_serial_shell(watch.plan.artifacts.manifest.systemd):
            if answer := serial.wait_for_survey(deadline):
                return parse(answer), None
            channel = serial
        channel = channel or reach_guest(watch, serial, open_ssh, deadline)
    except BootproofError:
        return None, None
    return survey_guest(channel, asked), channel


def survey_guest(channel: Channel, asked: Sequence[str]) -> UnitSurvey | None:
    """The units of a guest that was reached; None if it does not answer any more."""
    try:
        return survey_units(channel, asked)
    except BootproofError:
        return None


def read_hidden(watch: BootWatch, channel: Channel) -> None:
    """Look for console patterns in the guest's journal, if the console hides messages."""
    if not watch.view.hidden_by:
        return
    done = channel.run(_READ_HIDDEN)
    watch.console.take_journal(line.replace("] kernel: ", "] ") for line in done.text.splitlines())
    if done.status or not done.text:
        errors = done.stderr.decode("utf-8", "replace").strip()
        watch.context.run.add_unchecked(f"messages that the console hides: journalctl printed none: {errors}")


def ssh_channel(watch: BootWatch, ask_monitor: Callable[[str], str], transcript: Transcript) -> Channel:
    """SSH as root with the run's key, over the machine's network."""
    ssh = ssh_argv(watch.plan, watch.context, ask_monitor)
    return SshChannel(watch.plan.spec.name, ssh, partial(_run_in_lab, watch), transcript)


def ssh_argv(plan: BootPlan, context: BootContext, ask_monitor: Callable[[str], str], **options: str) -> list[str]:
    """The ssh command, without the guest's command, that works where the lab's network is; ``options`` are
    ssh_config(5)'s and take precedence."""
    known_hosts = str(plan.folder.parent / "known_hosts")
    all_options = {**context.lab.ssh_options(plan.spec, ask_monitor), **options}
    return ssh_command(plan.spec.address, str(context.run.key), known_hosts, all_options)


def _run_in_lab(watch: BootWatch, argv: list[str], deadline: Deadline) -> tuple[int, bytes, bytes]:
    """Run ssh where the lab's network is, and stop waiting for it as soon as the machine has failed."""
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        child = watch.context.lab.spawn(argv, stdout=stdout.fileno(), stderr=stderr.fileno())
        try:
            while (status := child.wait(Deadline(min(0.5, deadline.left_s), scaled=False))) is None:
                if deadline.is_over:
                    name, reason = watch.plan.spec.name, "sshd or the network may hang."
                    raise ChannelTimeout(name, argv[-1], deadline.passed_s, reason)
                watch.check()
        finally:
            child.end(0.0)
        stdout.seek(0)
        stderr.seek(0)
        return status, stdout.read(), stderr.read()

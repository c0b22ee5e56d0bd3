"""How a guest is reached: by the serial shell, over SSH, or by the first that answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import ChannelClosed, ChannelTimeout, Completed
from harness.guest.console_view import ConsoleView
from harness.machine.reach_guest import WITHOUT_SERIAL, PatientDeadline, reach_guest
from harness.model.timeouts import Timeouts


class FakeSerial:
    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def wait_for_shell(self, deadline: Deadline) -> None:
        if not self.answers:
            raise ChannelTimeout("m", "the root shell", deadline.passed_s, "")

    def has_shell(self, _: Deadline) -> bool:
        return self.answers


class FakeSsh:
    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def run(self, command: str, *_: object) -> Completed:
        self.refusals -= 1
        if self.refusals >= 0:
            raise ChannelClosed("m: connection refused")
        answer = b"a boot id" if self.refusals == -1 else b"the next"
        return Completed(command=command, status=0, stdout=answer, stderr=b"")


class FakeWatch:
    """A machine that runs, in user space, whose image has that release of systemd."""

    def __init__(self, systemd: int | None, phases: tuple[str, ...] = ("userspace",)) -> None:
        manifest = SimpleNamespace(systemd=systemd)
        self.plan = SimpleNamespace(spec=SimpleNamespace(name="m"), artifacts=SimpleNamespace(manifest=manifest))
        self.unchecked: list[str] = []
        run = SimpleNamespace(add_unchecked=self.unchecked.append)
        self.context = SimpleNamespace(timeouts=Timeouts(attempt_every_s=0.0), run=run)
        self.console = SimpleNamespace(phases=phases)
        self.view = ConsoleView()
        self.checks = 0

    def wait_for(self, *_: object) -> None:
        pass

    def check(self) -> None:
        self.checks += 1


def patient(console: Any, passed_s: float, is_busy: Callable[[], bool] = bool) -> PatientDeadline:
    deadline = PatientDeadline(console, Timeouts(boot_s=10.0, silence_s=3.0), is_busy)
    deadline.length_s = 10.0  # on whatever host this runs
    deadline.started_s -= passed_s
    return deadline


def reach(watch: Any, serial: Any, ssh: Any, for_s: float = 5.0) -> Any:
    return reach_guest(watch, serial, lambda: ssh, Deadline(for_s, scaled=False))


def test_an_image_whose_systemd_takes_the_serial_shell_is_reached_by_it_alone() -> None:
    serial = FakeSerial(answers=True)

    assert reach(FakeWatch(256), serial, FakeSsh(0)) is serial
    with pytest.raises(ChannelTimeout):
        reach(FakeWatch(256), FakeSerial(answers=False), FakeSsh(0))


def test_an_older_image_is_reached_over_ssh_as_soon_as_sshd_answers_and_the_run_says_what_that_does_not_show() -> None:
    watch, ssh = FakeWatch(252), FakeSsh(refusals=2)

    assert reach(watch, FakeSerial(answers=True), ssh) is ssh
    assert watch.unchecked == [WITHOUT_SERIAL]
    assert watch.checks == 3


def test_where_systemd_is_not_known_the_first_that_answers_is_taken() -> None:
    serial, ssh = FakeSerial(answers=True), FakeSsh(0)

    assert reach(FakeWatch(None), serial, ssh) is serial
    assert reach(FakeWatch(None), FakeSerial(answers=False), ssh) is ssh


def test_a_guest_whose_console_hides_its_phases_is_tried_from_the_start() -> None:
    watch, ssh = FakeWatch(252, phases=()), FakeSsh(refusals=1)
    watch.view = ConsoleView(kernel_hidden_by="quiet")

    assert reach(watch, FakeSerial(answers=False), ssh) is ssh


def test_after_a_kexec_that_the_console_hides_the_system_before_it_is_not_the_guest() -> None:
    watch, ssh = FakeWatch(252, phases=()), FakeSsh(refusals=0)
    watch.view = ConsoleView(kernel_hidden_by="quiet")
    serial: Any = FakeSerial(answers=False)

    reach_guest(watch, serial, lambda: ssh, Deadline(5.0, scaled=False), "a boot id")  # type: ignore[arg-type]  # fakes

    assert ssh.refusals == -2


def test_without_an_answer_the_last_error_of_ssh_is_quoted() -> None:
    with pytest.raises(ChannelTimeout, match="connection refused"):
        reach(FakeWatch(252), FakeSerial(answers=False), FakeSsh(refusals=1 << 30), for_s=0.1)
    with pytest.raises(ChannelTimeout, match="no attempt was made"):
        reach(FakeWatch(252, phases=("initrd",)), FakeSerial(answers=False), FakeSsh(0), for_s=0.1)


@pytest.mark.parametrize(
    ("silent_s", "passed_s", "is_over"),
    [(500.0, 5.0, False), (500.0, 15.0, True), (1.0, 15.0, False), (1.0, 35.0, True)],
)
def test_a_boot_has_three_times_its_time_while_the_console_prints(
    silent_s: float, passed_s: float, *, is_over: bool
) -> None:
    console: Any = SimpleNamespace(silent_s=silent_s)
    assert patient(console, passed_s).is_over is is_over


def test_a_console_that_hides_messages_may_be_silent_while_the_machine_works() -> None:
    console: Any = SimpleNamespace(silent_s=500.0)

    assert patient(console, 15.0).is_over
    assert not patient(console, 15.0, lambda: True).is_over
    assert patient(console, 35.0, lambda: True).is_over

"""The console is read, logged with times, watched for patterns, and can be waited on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Changes, Deadline
from harness.guest.console import Console, ConsoleTimeout, follow
from harness.guest.pattern_watcher import PatternWatcher


class Machine:
    """The other end of a console's wire."""

    def __init__(self, wire: socket.socket, console: Console, changes: Changes) -> None:
        self.wire, self.console, self._changes = wire, console, changes

    def prints(self, text: str) -> None:
        """Returns when the console has taken all of it."""
        awaited = len(self.console.read(0, Deadline(0, scaled=False))) + len(text.encode())
        self.wire.sendall(text.encode())
        taken = self._changes.wait_for(lambda: len(self.console.read(0, Deadline(0))) >= awaited, Deadline(5))
        assert taken

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Lines are looked at after they were taken."""
        assert self._changes.wait_for(is_so, Deadline(5))


@pytest.fixture
def phases() -> list[str]:
    return []


@pytest.fixture
def machine(tmp_path: Path, phases: list[str]) -> Iterator[Machine]:
    ours, theirs = socket.socketpair()
    changes, log = Changes(), tmp_path / "console.log"
    with ours, theirs, follow(ours, log, changes, phases.append, PatternWatcher(is_emulated=True)) as console:
        yield Machine(theirs, console, changes)


def test_a_pattern_is_matched_once_with_the_lines_before_it(machine: Machine) -> None:
    machine.prints("one\r\ntwo\r\nKernel panic - not syncing: a\r\nKernel panic - not syncing: b\r\n")

    machine.wait_for(lambda: bool(machine.console.matches))
    assert [match.pattern.id for match in machine.console.matches] == ["kernel-panic"]
    assert machine.console.matches[0].evidence == ("one", "two", "Kernel panic - not syncing: a")


def test_colours_titles_and_spinners_are_no_evidence(machine: Machine) -> None:
    machine.prints("\x1b[0;1;31m[FAILED]\x1b[0m Failed to start x.service\r\n")
    machine.prints("\x1b[!p\x1b]104\x07[ ***  ] Job y (5s / no limit)\r\n")

    assert machine.console.lines == ["[FAILED] Failed to start x.service"]
    assert machine.console.matches[0].pattern.id == "unit-failed"


def test_a_bug_of_the_kernel_awaits_its_registers_until_they_come_or_the_console_closes(machine: Machine) -> None:
    assert not machine.console.awaits_registers
    machine.prints("BUG: unable to handle page fault\n")
    machine.wait_for(lambda: machine.console.awaits_registers)

    machine.prints("RSP: 0018:ffffb5e840013a58 EFLAGS: 00000286\n")
    machine.wait_for(lambda: not machine.console.awaits_registers)


def test_a_line_that_arrives_in_two_parts_is_matched(machine: Machine) -> None:
    machine.prints("Kernel pa")
    machine.prints("nic - not syncing\n")

    machine.wait_for(lambda: bool(machine.console.matches))
    assert [match.pattern.id for match in machine.console.matches] == ["kernel-panic"]


def test_phases_are_reported_as_they_begin(machine: Machine, phases: list[str]) -> None:
    machine.prints("iPXE 1.0.0\nLinux version 6.12\nLinux version 6.12\nSwitching root.\n")

    machine.wait_for(lambda: len(phases) == 3)
    assert phases == ["ipxe", "kernel", "userspace"]
    assert list(machine.console.phases) == phases


def test_a_phase_that_the_console_hides_can_be_noted_once(machine: Machine, phases: list[str]) -> None:
    machine.console.begin_phase("userspace")
    machine.console.begin_phase("userspace")

    assert phases == list(machine.console.phases) == ["userspace"]


def test_lines_of_the_journal_are_matched_and_are_not_the_consoles(machine: Machine) -> None:
    machine.console.take_journal(["[  3.1] systemd[1]: Failed to start app.service - App."])

    assert [match.pattern.id for match in machine.console.matches] == ["unit-failed"]
    assert machine.console.lines == []


def test_what_was_printed_before_can_be_expected(machine: Machine) -> None:
    machine.prints("GRUB version 2.12\nlogin: ")

    assert machine.console.expect(r"GRUB version (\S+)", Deadline(5)).group(1) == "2.12"
    machine.console.expect("login: $", Deadline(5))


def test_a_timeout_names_the_pattern_and_the_last_lines(machine: Machine) -> None:
    machine.prints("something else\n")

    with pytest.raises(ConsoleTimeout, match=r"(?s)no 'login:' on the console within 0 s; .*something else"):
        machine.console.expect("login:", Deadline(0.2, scaled=False))


def test_what_is_typed_reaches_the_machine(machine: Machine) -> None:
    machine.console.send("root\n")

    assert machine.wire.recv(100) == b"root\n"


def test_a_console_goes_on_as_that_of_another_boot(machine: Machine, tmp_path: Path) -> None:
    machine.prints("Linux version 6.12\nthe old kernel's\nunfinished")
    again = list[str]()
    new = machine.console.begin(tmp_path / "second.log", again.append)
    Machine(machine.wire, new, machine._changes).prints("Linux version 6.13\nKernel panic - not syncing: x\n")

    machine.wait_for(lambda: bool(new.matches))
    assert machine.console.lines == ["Linux version 6.12", "the old kernel's", "unfinished"]
    assert machine.console.is_closed
    assert machine.console.matches == []
    assert new.lines[0] == "Linux version 6.13"
    assert again == ["kernel"]
    assert "6.13" not in (tmp_path / "console.log").read_text()
    assert "6.13" in (tmp_path / "second.log").read_text()

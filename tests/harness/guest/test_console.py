"""The console is followed, kept with times, matched against signs, and can be expected from."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.deadline import Changes, Deadline
from harness.guest.console import Console, ConsoleTimeout, follow


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
    with _machine(tmp_path, phases.append) as machine:
        yield machine


@contextmanager
def _machine(folder: Path, on_phase: Callable[[str], None] = print, *, is_emulated: bool = False) -> Iterator[Machine]:
    ours, theirs = socket.socketpair()
    changes, log = Changes(), folder / "console.log"
    quiet = ("nova-compute",)
    with ours, theirs, follow(ours, log, changes, on_phase, quiet, is_emulated=is_emulated) as console:
        yield Machine(theirs, console, changes)


def test_a_sign_is_seen_once_with_the_lines_before_it(machine: Machine) -> None:
    machine.prints("one\r\ntwo\r\nKernel panic - not syncing: a\r\nKernel panic - not syncing: b\r\n")

    machine.wait_for(lambda: bool(machine.console.matches))
    assert [match.sign.id for match in machine.console.matches] == ["kernel-panic"]
    assert machine.console.matches[0].evidence == ("one", "two", "Kernel panic - not syncing: a")


def test_colours_titles_and_spinners_are_no_evidence(machine: Machine) -> None:
    machine.prints("\x1b[0;1;31m[FAILED]\x1b[0m Failed to start x.service\r\n")
    machine.prints("\x1b[!p\x1b]104\x07[ ***  ] Job y (5s / no limit)\r\n")

    assert machine.console.lines == ["[FAILED] Failed to start x.service"]
    assert machine.console.matches[0].sign.id == "unit-failed"


def test_a_unit_that_waits_for_a_control_plane_is_no_sign(machine: Machine) -> None:
    machine.prints("[FAILED] Failed to start nova-compute.service - OpenStack Compute.\r\n")

    assert machine.console.matches == []


def test_a_sign_cut_in_two_by_the_wire_is_seen(machine: Machine) -> None:
    machine.prints("Kernel pa")
    machine.prints("nic - not syncing\n")

    machine.wait_for(lambda: bool(machine.console.matches))
    assert [match.sign.id for match in machine.console.matches] == ["kernel-panic"]


OOPS = """\
BUG: unable to handle page fault for address: ffffb5e841000ff8
#PF: supervisor write access in kernel mode
Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI
CPU: 1 UID: 0 PID: 1 Comm: systemd-shutdow Not tainted 6.12.57+deb13-amd64 #1
RIP: 0010:memcpy_toio+0x66/0xa0
RSP: 0018:ffffb5e840013a58 EFLAGS: {flags}
Kernel panic - not syncing: Fatal exception
"""


@pytest.mark.parametrize(
    ("flags", "is_emulated", "seen"),
    [
        ("0600d622", True, ["emulator-fault", "kernel-panic"]),
        ("0600d622", False, ["kernel-oops", "kernel-panic"]),
        ("00010286", True, ["kernel-oops", "kernel-panic"]),
    ],
)
def test_a_bug_with_flags_that_no_processor_has_is_the_emulators(
    flags: str, is_emulated: bool, seen: list[str], tmp_path: Path
) -> None:
    with _machine(tmp_path, is_emulated=is_emulated) as machine:
        machine.prints(OOPS.format(flags=flags))
        machine.wait_for(lambda: len(machine.console.matches) == 2)

    assert [match.sign.id for match in machine.console.matches] == seen
    first = machine.console.matches[0]
    assert first.evidence[0].startswith("BUG: unable to handle page fault")
    assert (flags in first.evidence[-1]) == (seen[0] == "emulator-fault")


def test_flags_that_are_not_of_the_bug_itself_excuse_nothing(tmp_path: Path) -> None:
    with _machine(tmp_path, is_emulated=True) as machine:
        machine.prints(OOPS.format(flags="00010286").replace("Kernel panic", "Call Trace:"))
        machine.prints("RSP: 0018:ffffb5e840013a58 EFLAGS: 9d50c0e0\n")  # a trace takes that for registers
        machine.prints(OOPS.format(flags="0600d622"))  # a second bug
        machine.wait_for(lambda: len(machine.console.matches) == 2)

    assert [match.sign.id for match in machine.console.matches] == ["kernel-oops", "kernel-panic"]


def test_registers_are_awaited_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _machine(tmp_path, is_emulated=True) as machine:
        monkeypatch.setattr("harness.guest.console._REGISTERS_S", 600.0)
        machine.prints("BUG: unable to handle page fault\n")
        machine.wait_for(lambda: machine.console.awaits_registers)
        monkeypatch.setattr("harness.guest.console._REGISTERS_S", 0.0)
        assert not machine.console.awaits_registers, "they did not come in time"

        monkeypatch.setattr("harness.guest.console._REGISTERS_S", 600.0)
        machine.prints("RSP: 0018:ffffb5e840013a58 EFLAGS: 00000286\n")
        machine.wait_for(lambda: not machine.console.awaits_registers)


def test_phases_are_told_as_they_begin(machine: Machine, phases: list[str]) -> None:
    machine.prints("iPXE 1.0.0\nLinux version 6.12\nLinux version 6.12\nSwitching root.\n")

    machine.wait_for(lambda: len(phases) == 3)
    assert phases == ["ipxe", "kernel", "userspace"]
    assert list(machine.console.phases) == phases


def test_what_was_printed_before_can_be_expected(machine: Machine) -> None:
    machine.prints("GRUB version 2.12\nlogin: ")

    assert machine.console.expect(r"GRUB version (\S+)", Deadline(5)).group(1) == "2.12"
    machine.console.expect("login: $", Deadline(5))


def test_what_never_comes_is_named_with_the_last_lines(machine: Machine) -> None:
    machine.prints("something else\n")

    with pytest.raises(ConsoleTimeout, match=r"(?s)for 'login:' on the console, in vain.*something else"):
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


@pytest.mark.parametrize(
    "failure", ["Nothing to boot: No such file or directory\r\nNo more network devices", "No more network devices",
                "Nothing to boot: No such file or directory"]
)  # fmt: skip
def test_a_card_that_nobody_answers_is_a_sign_when_there_is_no_other(tmp_path: Path, failure: str) -> None:
    ours, theirs = socket.socketpair()
    changes = Changes()
    with ours, theirs, follow(ours, tmp_path / "console.log", changes, print, cards=2) as console:
        machine = Machine(theirs, console, changes)
        machine.prints(f"iPXE 1.0.0\r\n{failure}\r\niPXE 1.0.0\r\n")
        machine.wait_for(lambda: console.lines.count("iPXE 1.0.0") == 2)
        assert console.matches == []

        machine.prints(f"{failure}\r\n")
        machine.wait_for(lambda: bool(console.matches))
        assert [match.sign.id for match in console.matches] == ["no-boot-device"]

"""The verbs of a machine, with a guest that answers as the test says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.waiting import WaitFailed
from harness.machine.verbs import GuestVerbs


class Guest(GuestVerbs):
    """Answers every command in the same way, and remembers it."""

    name = "machine"

    def __init__(self, status: int = 0, stdout: bytes = b"") -> None:
        self.asked: list[str] = []
        self._status, self._stdout = status, stdout

    @property
    def channel(self) -> Channel:
        return self.Answers(self)

    class Answers(Channel):
        def __init__(self, guest: Guest) -> None:
            self._guest = guest

        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            self._guest.asked.append(command)
            return Completed(command=command, status=self._guest._status, stdout=self._guest._stdout, stderr=b"")


def test_systemctl_returns_the_completed_command_whatever_its_status() -> None:
    guest = Guest(status=3, stdout=b"inactive\n")

    done = guest.systemctl("is-active ssh.service")

    assert (done.status, done.text, guest.asked) == (3, "inactive", ["systemctl --no-pager is-active ssh.service"])


def test_check_quotes_the_command_and_its_status() -> None:
    with pytest.raises(ImageError, match=r"^machine: 'mount -a' ended with status 32: no such disk$"):
        Guest(status=32, stdout=b"no such disk\n").check("mount -a")


def test_each_wait_asks_the_guest_once_and_names_what_it_awaits() -> None:
    guest, patience = Guest(status=1, stdout=b"seen\nevidence\n"), Deadline(1)
    waits: dict[str, Callable[[], object]] = {
        "the start of a.service": lambda: guest.wait_for_unit("a.service", patience),
        "an open TCP port 22 on 127.0.0.1": lambda: guest.wait_for_open_port(22, deadline=patience),
        "the file /x": lambda: guest.wait_for_file("/x", patience),
        "success of 'true'": lambda: guest.wait_until_succeeds("true", patience),
        "failure of 'true'": lambda: guest.wait_until_fails("true", patience),
    }
    for awaited, do in waits.items():
        with pytest.raises(WaitFailed) as failure:
            do()
        assert (failure.value.machine, failure.value.awaited) == ("machine", awaited)
        assert (failure.value.seen, failure.value.evidence) == ("seen", ("evidence",))
    assert len(guest.asked) == len(waits)


def test_wait_until_succeeds_returns_the_output() -> None:
    assert Guest(stdout=b"active\n").wait_until_succeeds("systemctl is-active x") == "active"

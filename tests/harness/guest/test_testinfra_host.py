"""Which commands testinfra runs in a guest, and how often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.deadline import Deadline, host_scale
from harness.core.errors import Blame, UsageError
from harness.guest.channel import Completed
from harness.guest.testinfra_host import gather_facts, open_guest

ANSWERS = {
    "uname -s": "Linux\n",
    "uname -m": "x86_64\n",
    "cat /etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "systemctl is-active ssh": "active\n",
}


class Guest:
    """Answers like Debian, and records the commands."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.deadlines: list[Deadline | None] = []

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.asked.append(command)
        self.deadlines.append(deadline)
        return Completed(command=command, status=0, stdout=ANSWERS.get(command, "").encode(), stderr=b"")


def test_known_facts_are_not_asked_for_again() -> None:
    facts = gather_facts("template", Guest())
    clone = Guest()

    host = open_guest("clone", clone, facts)

    assert host.system_info.distribution == "debian"
    assert host.service("ssh").is_running
    assert clone.asked == ["systemctl is-active ssh"]


def test_what_a_killed_command_printed_is_no_fact() -> None:
    class Killed(Guest):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:
            done = super().run(command, deadline)
            return replace(done, status=137) if command == "command -v command" else done

    facts = gather_facts("template", Killed())

    assert "uname -s" in facts
    assert "command -v command" in gather_facts("template", Guest())
    assert "command -v command" not in facts


def test_a_command_of_a_test_itself_always_runs() -> None:
    """It may have changed what it asks for."""
    clone = Guest()
    host = open_guest("clone", clone, {"cat /etc/os-release": (0, "ID=old\n")})

    assert host.check_output("cat /etc/os-release") == 'ID=debian\nVERSION_ID="13"'
    assert clone.asked == ["cat /etc/os-release"]


def test_sudo_needs_no_sudo_in_the_image() -> None:
    guest = Guest()
    host = open_guest("guest", guest)

    with host.sudo():
        host.run("id -u")
        with host.sudo("nova"):
            host.run("cat %s", "/a b")
    host.run("id -u")

    assert guest.asked == ["id -u", "runuser -s /bin/sh nova -c 'cat '\"'\"'/a b'\"'\"''", "id -u"]


def test_timeout_limits_a_command() -> None:
    guest = Guest()
    host = open_guest("guest", guest)

    host.run("sleep 1", timeout=5)
    host.check_output("sleep 1")

    limited, usual = guest.deadlines
    assert limited is not None
    assert limited.length_s == 5 * host_scale()
    assert usual is None


def test_ansible_is_refused_in_one_sentence_that_blames_the_test() -> None:
    host = open_guest("guest", Guest())

    with pytest.raises(UsageError, match=r"this test uses host\.ansible.* use other modules") as refused:
        host.ansible("setup")

    assert refused.value.blame is not Blame.IMAGE


def test_a_result_is_shown_with_its_status_command_and_last_line() -> None:
    class Refusing(Guest):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            return Completed(command=command, status=2, stdout=b"", stderr=b"warning\nls: \xff: no such file\n")

    host = open_guest("machine", Refusing())

    assert repr(host) == "<host machine>"
    assert repr(host.run("ls x")).startswith("<exit status 2 of 'ls x': ls: ")
    assert repr(host.run("ls x")).endswith(": no such file>")
    assert len(repr(host.run("ls " + "x " * 999))) < 300

"""Which commands testinfra runs in a guest, and how often."""

from __future__ import annotations

from harness.core.deadline import Deadline
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

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.asked.append(command)
        return Completed(command=command, status=0, stdout=ANSWERS.get(command, "").encode(), stderr=b"")


def test_known_facts_are_not_asked_for_again() -> None:
    facts = gather_facts("template", Guest())
    clone = Guest()

    host = open_guest("clone", clone, facts)

    assert host.system_info.distribution == "debian"
    assert host.service("ssh").is_running
    assert clone.asked == ["systemctl is-active ssh"]


def test_a_command_of_a_test_itself_always_runs() -> None:
    """It may have changed what it asks for."""
    clone = Guest()
    host = open_guest("clone", clone, {"cat /etc/os-release": (0, "ID=old\n")})

    assert host.check_output("cat /etc/os-release") == 'ID=debian\nVERSION_ID="13"'
    assert clone.asked == ["cat /etc/os-release"]


def test_a_result_is_shown_with_its_status_command_and_last_line() -> None:
    class Refusing(Guest):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            return Completed(command=command, status=2, stdout=b"", stderr=b"warning\nls: \xff: no such file\n")

    host = open_guest("machine", Refusing())

    assert repr(host) == "<host machine>"
    assert repr(host.run("ls x")).startswith("<exit status 2 of 'ls x': ls: ")
    assert repr(host.run("ls x")).endswith(": no such file>")
    assert len(repr(host.run("ls " + "x " * 999))) < 300

"""Which commands testinfra runs in a guest, and how often."""

from __future__ import annotations

from dataclasses import replace

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

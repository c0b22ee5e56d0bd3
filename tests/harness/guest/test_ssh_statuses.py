"""Commands over SSH: the status that ssh returns may be its own. A local shell stands for the guest's."""

from __future__ import annotations

import subprocess

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import ChannelClosed, ChannelTimeout
from harness.guest.ssh import SshChannel


def here(argv: list[str], _: Deadline) -> tuple[int, bytes, bytes]:
    """What ssh and the guest's shell do with the last argument."""
    done = subprocess.run(["sh", "-c", argv[-1]], check=False, capture_output=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", [0, 3, 137, 255])
def test_the_status_of_a_command_is_its_own(status: int) -> None:
    done = SshChannel("machine", [], here).run(f"echo out; echo err >&2; exit {status}")

    assert (done.status, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


@pytest.mark.parametrize("command", ["", "# a comment", "cat <<END\nout\nEND", "echo 'a b' \"c\" $((1 + 1))"])
def test_any_command_can_be_run(command: str) -> None:
    expected = subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout

    assert SshChannel("machine", [], here).run(command).stdout == expected


def test_a_command_that_is_no_shell_has_an_error() -> None:
    done = SshChannel("machine", [], here).run("if")

    assert done.status
    assert b"yntax error" in done.stderr


def test_a_failure_of_ssh_is_not_the_commands() -> None:
    channel = SshChannel("machine", [], lambda *_: (255, b"", b"ssh: connect to host: refused\n"))

    with pytest.raises(ChannelClosed, match="machine: ssh could not run 'true': ssh: connect to host: refused"):
        channel.run("true")


def test_a_command_that_takes_too_long_is_named_without_what_surrounds_it() -> None:
    def hangs(argv: list[str], _: Deadline) -> tuple[int, bytes, bytes]:
        raise ChannelTimeout("machine", argv[-1], 5.0, "Look.")

    with pytest.raises(ChannelTimeout, match="waiting for 'sleep 60'"):
        SshChannel("machine", [], hangs).run("sleep 60")

"""The serial shell's frames, with a real bash behind a real terminal instead of a guest."""

from __future__ import annotations

import logging
import os
import pty
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.core import process
from harness.core.deadline import Deadline
from harness.guest.channel import ChannelClosed, ChannelTimeout, Transcript
from harness.guest.serial_shell import SHELL_CREDENTIALS, SerialChannel
from harness.guest.unit_survey import parse


def nothing_wrong() -> None:
    """The machine lives."""


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[SerialChannel]:
    """The guest's end runs the script that goes into guests; only its work folder is another."""
    script = tmp_path / "shell"
    script.write_text(SHELL_CREDENTIALS["bootproof.shell"].replace("/run/bootproof-shell", str(tmp_path / "work")))
    ours, theirs = socket.socketpair()
    terminal, guest = pty.openpty()
    with ours, theirs, process.spawn(["bash", str(script)], stdin=guest, stdout=guest, stderr=guest) as shell:
        os.close(guest)
        pumps = [
            threading.Thread(target=pump, args=(theirs.fileno(), terminal), daemon=True),
            threading.Thread(target=pump, args=(terminal, theirs.fileno()), daemon=True),
        ]
        for thread in pumps:
            thread.start()
        channel = SerialChannel("test", ours, nothing_wrong, Transcript(tmp_path / "channel.log"))
        channel.wait_for_shell(Deadline(10))
        yield channel
        shell.kill()
        theirs.shutdown(socket.SHUT_RDWR)
        for thread in pumps:
            thread.join(5)
    os.close(terminal)


def pump(source: int, target: int) -> None:
    with suppress(OSError):
        while chunk := os.read(source, 65536):
            os.write(target, chunk)


def test_status_stdout_and_stderr_are_kept_apart(channel: SerialChannel) -> None:
    done = channel.run("echo out; echo err >&2; exit 7")

    assert (done.status, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_commands_and_the_beginning_of_their_answers_are_kept(channel: SerialChannel, tmp_path: Path) -> None:
    channel.run("echo out; echo err >&2; exit 7")
    channel.run("head -c 1000000 /dev/zero | tr '\\0' x")

    printed = (tmp_path / "channel.log").read_text("utf-8")
    assert "$ echo out; echo err >&2; exit 7\nout\nerr\n" in printed
    assert "status 7\n" in printed
    assert "xxx\n... 1000000 bytes\n" in printed
    assert len(printed) < 5000


def test_every_byte_comes_through(channel: SerialChannel) -> None:
    octal = "".join(f"\\{number:03o}" for number in range(256))

    assert channel.run(f"printf '{octal}'").stdout == bytes(range(256))


def test_a_long_command_of_many_lines_comes_through(channel: SerialChannel) -> None:
    lines = [f"echo 'line {number} ü'" for number in range(500)]

    assert channel.run("\n".join(lines)).text.splitlines() == [f"line {number} ü" for number in range(500)]


def test_a_megabyte_comes_back(channel: SerialChannel) -> None:
    assert len(channel.run("head -c 1000000 /dev/zero").stdout) == 1_000_000


def test_a_command_cannot_read_the_line(channel: SerialChannel) -> None:
    assert channel.run("cat").stdout == b""


def test_a_late_answer_is_not_taken_for_the_next(channel: SerialChannel) -> None:
    with pytest.raises(ChannelTimeout, match="sleep"):
        channel.run("sleep 1; echo late", Deadline(0.2, scaled=False))

    assert channel.run("echo next").text == "next"


def test_what_ended_the_machine_is_the_error(channel: SerialChannel) -> None:
    def panicked() -> None:
        raise ChannelClosed("the kernel panicked")

    channel._alive = panicked

    with pytest.raises(ChannelClosed, match="panicked"):
        channel.run("true")


def test_each_command_is_logged_with_its_status(channel: SerialChannel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "harness"):
        channel.run("true\nfalse")

    assert re.fullmatch(r"test: true: status 1 after \d+\.\d\d s", caplog.messages[-1])


def test_an_initrd_that_fails_offers_its_survey_and_a_guest_its_shell() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = SerialChannel("m", ours, nothing_wrong)
        assert not channel.has_greeted()
        theirs.sendall(b"\n\x1ekernel\r\n6.12\r\n\r\n\x1e= 0\r\n\r\nbootproof-survey-end\r\n")

        assert "6.12" in channel.wait_for_survey(Deadline(5))
        theirs.sendall(b"\nbootproof-shell\n")
        assert channel.has_greeted()
        assert channel.wait_for_survey(Deadline(5)) == ""
        with pytest.raises(ChannelTimeout, match="initrd's survey"):
            channel.wait_for_survey(Deadline(0.1))


def test_the_credential_of_the_survey_prints_it_with_its_end(tmp_path: Path) -> None:
    for name in ("systemctl", "journalctl", "udevadm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    script = SHELL_CREDENTIALS["bootproof.survey"]

    printed = process.output(["bash", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    assert printed.endswith("\nbootproof-survey-end\n")
    assert parse(printed).kernel == os.uname().release

"""Programs: their output, their end, and the error when they fail."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from harness.core import process
from harness.core.errors import HostError
from harness.core.process import CommandFailed


def test_a_failed_command_can_be_pasted_and_has_its_status_and_output() -> None:
    with pytest.raises(CommandFailed) as failure:
        process.output(["sh", "-c", "echo wrong >&2; exit 3", "a b"])

    first, command, *tail = str(failure.value).splitlines()
    assert first == "sh ended with status 3"
    assert command == "$ sh -c 'echo wrong >&2; exit 3' 'a b'"
    assert tail == ["wrong"]


def test_output_goes_to_the_log_which_the_error_names(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=f"its output is in {tmp_path}/log"):
        process.run(["sh", "-c", "echo wrong; exit 1"], log=tmp_path / "log")

    assert (tmp_path / "log").read_text() == "wrong\n"


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(HostError, match="no-such-program is not installed"):
        process.output(["no-such-program"])
    with pytest.raises(HostError, match="apt-get install its-package"):
        process.require("no-such-program", "its-package")


def test_a_program_ends_with_its_block() -> None:
    with process.spawn(["sleep", "60"]) as child:
        assert child.poll() is None

    assert child.returncode == -15


def test_a_program_that_ignores_sigterm_is_killed() -> None:
    with process.spawn(["sh", "-c", "trap '' TERM; echo; sleep 60"], stdout=PIPE, grace_s=0.2) as child:
        assert child.stdout is not None
        child.stdout.readline()  # the trap is set

        child.stdout.close()

    assert child.returncode == -9


def test_half_read_output_ends_the_program_and_is_no_error() -> None:
    with process.reading(["yes"]) as output:
        assert output.read(4) == b"y\ny\n"


def test_output_that_was_read_to_its_end_is_complete_only_if_the_program_succeeds() -> None:
    with pytest.raises(CommandFailed, match="status 2"), process.reading(["sh", "-c", "echo half; exit 2"]) as output:
        assert output.read() == b"half\n"


def test_the_start_and_end_of_a_process_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "harness"):
        process.output(["true", "a b"])

    assert [re.sub(r"\d+", "N", line) for line in caplog.messages] == [
        "process N started: true 'a b'",
        "process N ended with status N",
    ]


def test_all_threads_of_a_process_get_a_lower_priority() -> None:
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); print(1); time.sleep(60)"
    )
    with process.spawn([sys.executable, "-uc", program], stdout=PIPE) as child, child:
        assert child.stdout is not None
        child.stdout.readline()
        process.lower_priority(child.pid, 7)

        threads = [int(thread.name) for thread in Path(f"/proc/{child.pid}/task").iterdir()]
        assert len(threads) == 2
        assert [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads] == [7, 7]
        child.kill()
    process.lower_priority(child.pid)


def test_a_session_of_its_own_gets_a_lower_priority_and_the_callers_does_not() -> None:
    autogroup = Path("/proc/self/autogroup")
    if not autogroup.exists():
        pytest.skip("this kernel makes no groups of sessions")
    ours = autogroup.read_text("ascii")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other, subprocess.Popen(["sleep", "60"]) as same:
        for child in (other, same):
            process.lower_priority(child.pid, 7)

        assert Path(f"/proc/{other.pid}/autogroup").read_text("ascii").endswith(" nice 7\n")
        assert autogroup.read_text("ascii") == ours
        other.kill()
        same.kill()

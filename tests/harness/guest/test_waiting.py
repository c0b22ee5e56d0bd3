"""Waits in a guest: the scripts run in a shell of this host, with a systemctl and journalctl of the test's own."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guest import waiting
from harness.guest.channel import Channel, ChannelTimeout, Completed
from harness.guest.waiting import Wait, WaitFailed

SYSTEMCTL = """#!/bin/sh
# Prints one line of STATES for each call, the last one for ever.
calls=$(cat calls 2>/dev/null || echo 0)
echo $((calls + 1)) >calls
line=$(sed -n "$((calls + 1))p" states)
[ -n "$line" ] || line=$(tail -n 1 states)
printf 'LoadState=loaded\\nActiveState=%s\\nSubState=x\\nResult=%s\\n' $line
"""
JOURNALCTL = '#!/bin/sh\necho "nova: no such driver ($*)"\n'


class LocalShell(Channel):
    """This host's bash, with the commands in ``folder`` before all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = 0

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.scripts += 1
        assert deadline
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "LC_ALL": "C", "TMPDIR": str(self.folder)}
        done = subprocess.run(
            ["bash", "-c", command], check=False, capture_output=True, cwd=self.folder, env=environment,
            timeout=deadline.left_s,
        )  # fmt: skip
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def shell(tmp_path: Path) -> LocalShell:
    for name, text in {"systemctl": SYSTEMCTL, "journalctl": JOURNALCTL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return LocalShell(tmp_path)


def wait(shell: Channel, what: Wait, seconds: float = 5.0) -> str:
    return waiting.wait("machine", shell, what, Deadline(seconds, scaled=False), every_s=0.05)


def fails(shell: Channel, what: Wait, seconds: float = 0.3) -> WaitFailed:
    with pytest.raises(WaitFailed) as failure:
        wait(shell, what, seconds)
    assert pickle.loads(pickle.dumps(failure.value)).args == failure.value.args
    return failure.value


def later(do: Callable[[], object], seconds: float = 0.3) -> None:
    threading.Timer(seconds, do).start()


def test_a_unit_is_awaited_until_it_is_active_in_one_round_trip(shell: LocalShell) -> None:
    (shell.folder / "states").write_text("inactive success\nactivating success\nactive success\n")

    wait(shell, waiting.unit_is_active("nova-compute.service"))

    assert (shell.folder / "calls").read_text() == "3\n"
    assert shell.scripts == 1


def test_a_failed_unit_ends_the_wait_at_once_with_its_journal(shell: LocalShell) -> None:
    (shell.folder / "states").write_text("activating success\nfailed exit-code\n")
    started_s = time.monotonic()

    error = fails(shell, waiting.unit_is_active("nova-compute.service"), seconds=60)

    assert time.monotonic() - started_s < 30
    assert "ActiveState=failed" in error.seen
    assert "Result=exit-code" in error.seen
    assert error.evidence[0].startswith("nova: no such driver (-b -u nova-compute.service")
    assert "systemctl status nova-compute.service" in str(error)


def test_a_unit_that_never_starts_is_an_error_with_its_last_state(shell: LocalShell) -> None:
    (shell.folder / "states").write_text("activating success\n")

    error = fails(shell, waiting.unit_is_active("nova-compute.service"))

    text = str(error)
    assert text.startswith("machine: the start of nova-compute.service had not happened after ")
    assert (
        "Seen last: LoadState=loaded ActiveState=activating SubState=x Result=success\n    nova: no such driver" in text
    )


def test_a_systemctl_that_fails_is_seen(shell: LocalShell) -> None:
    (shell.folder / "systemctl").write_text("#!/bin/sh\necho no bus >&2; exit 1\n")

    error = fails(shell, waiting.unit_is_active("nova-compute.service"))

    assert error.seen == "no bus"
    assert len(error.evidence) == 1


def test_a_port_is_awaited_until_it_is_open(shell: LocalShell) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        later(server.listen)
        wait(shell, waiting.port_is_open(server.getsockname()[1], "127.0.0.1"))


def test_a_closed_port_is_an_error_that_says_it_was_refused(shell: LocalShell) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        error = fails(shell, waiting.port_is_open(port, "127.0.0.1"))

    assert error.awaited == f"an open TCP port {port} on 127.0.0.1"
    assert "refused" in error.seen
    assert error.evidence[0] == "listening in the guest:"
    assert f"which unit owns port {port}" in error.remedy


def test_no_command_in_an_address_is_run(shell: LocalShell) -> None:
    fails(shell, waiting.port_is_open(1, f"$(touch {shell.folder}/planted)"))

    assert not (shell.folder / "planted").exists()


def test_a_file_is_awaited_until_it_exists(shell: LocalShell) -> None:
    later((shell.folder / "it's here").touch)

    wait(shell, waiting.file_exists("it's here"))


def test_a_missing_file_is_an_error_with_the_listing_of_its_folder(shell: LocalShell) -> None:
    error = fails(shell, waiting.file_exists(f"{shell.folder}/nova.sock"))

    assert "No such file" in error.seen
    assert any(line.endswith(" systemctl") for line in error.evidence)


def test_a_dangling_link_is_not_a_file(shell: LocalShell) -> None:
    (shell.folder / "link").symlink_to("nowhere")

    assert fails(shell, waiting.file_exists("link")).seen.startswith("a dangling link: ")


def test_a_command_is_repeated_until_it_succeeds_and_its_output_returned(shell: LocalShell) -> None:
    later((shell.folder / "ready").touch)

    assert wait(shell, waiting.command_succeeds("echo noise >&2; test -e ready && echo 'a  b'")) == "a  b"


def test_a_command_that_never_succeeds_is_an_error_with_its_last_status_and_output(shell: LocalShell) -> None:
    error = fails(shell, waiting.command_succeeds("echo out; echo no route to host >&2; exit 7"))

    assert error.awaited == "success of 'echo out; echo no route to host >&2; exit 7'"
    assert error.seen == "status 7"
    assert error.evidence == ("out", "no route to host")


def test_a_command_that_hangs_is_ended_with_the_wait(shell: LocalShell) -> None:
    error = fails(shell, waiting.command_succeeds("sleep 60"))

    assert error.seen == "it was still running"
    assert error.waited_s < 30


def test_a_command_that_hangs_has_not_failed(shell: LocalShell) -> None:
    assert fails(shell, waiting.command_fails("sleep 60")).seen == "it was still running"


def test_a_command_that_cannot_be_run_has_not_failed(shell: LocalShell) -> None:
    error = fails(shell, waiting.command_fails("sytemctl is-active x"), seconds=60)

    assert error.seen == "status 127"
    assert "sytemctl: command not found" in error.evidence[0]


def test_a_command_that_ends_with_the_status_of_timeout_has_failed(shell: LocalShell) -> None:
    wait(shell, waiting.command_fails("exit 124"), seconds=60)


def test_a_guest_without_room_for_temporary_files_is_an_error_and_not_a_failed_command(shell: LocalShell) -> None:
    (shell.folder / "mktemp").write_text("#!/bin/sh\necho mktemp: no space >&2; exit 1\n")
    (shell.folder / "mktemp").chmod(0o755)

    assert fails(shell, waiting.command_fails("true")).seen == "mktemp: no space"
    assert fails(shell, waiting.command_succeeds("true")).seen == "mktemp: no space"
    wait(shell, waiting.file_exists("/"))


def test_a_command_is_repeated_until_it_fails(shell: LocalShell) -> None:
    later((shell.folder / "states").unlink)
    (shell.folder / "states").touch()

    wait(shell, waiting.command_fails("test -e states"))


def test_a_command_that_never_fails_is_an_error(shell: LocalShell) -> None:
    error = fails(shell, waiting.command_fails("echo still up"))

    assert error.awaited == "failure of 'echo still up'"
    assert error.seen == "status 0"
    assert "still up" in error.evidence


def test_no_temporary_file_is_left(shell: LocalShell) -> None:
    before = set(shell.folder.iterdir())

    wait(shell, waiting.command_succeeds("true"))
    fails(shell, waiting.command_succeeds("false"))

    assert set(shell.folder.iterdir()) == before


def test_a_wait_whose_script_is_killed_says_so() -> None:
    class Killed(Channel):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            return Completed(command=command, status=137, stdout=b"", stderr=b"Killed\n")

    error = fails(Killed(), waiting.unit_is_active("a.service"))

    assert (error.seen, error.evidence) == ("the script of the wait ended with status 137 (SIGKILL)", ("Killed",))


def test_a_guest_that_does_not_answer_is_an_error_that_says_so() -> None:
    class Silent(Channel):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:
            assert deadline
            assert deadline.left_s > 20  # longer than the wait, so that a guest that loops can answer
            raise ChannelTimeout("machine", command, 35, "look at the console")

    error = fails(Silent(), waiting.file_exists("/data/x"))

    assert error.seen == "the guest did not answer"
    assert "look at the console" in str(error)

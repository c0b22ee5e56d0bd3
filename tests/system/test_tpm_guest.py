"""The tiny guest with a TPM, in a QEMU on this host."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.guests.tiny_guest import Answer, TinyGuest, make_disk
from harness.qemu import snapshot

from ..tiny_guests import BOARDS, Board, running, tpm_options

GUEST = TinyGuest(nonce="7f3c-T")
BOARD = BOARDS["q35-virtio"]

each_model = pytest.mark.parametrize("model", ["tpm-tis", "tpm-crb"])


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    make_disk(tmp_path / "tiny.raw", GUEST)
    return tmp_path / "tiny.raw"


def start(disk: Path, state: Path, *, model: str = "tpm-tis", board: Board = BOARD) -> Answer:
    """What a guest says at its start; then the power fails."""
    with tpm_options(model, state) as options, running(board, disk, *options) as guest:
        return guest.wait_until_started()


def set_owner_password(state: Path) -> None:
    """TPM2_HierarchyChangeAuth with the password "x" (TPM 2.0 Library, part 3, 24.8)."""
    state.mkdir()
    path = state.parent / "tpm-data.sock"
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"]
    session = bytes.fromhex("00000009 40000009 0000 00 0000")
    body = struct.pack(">II", 0x129, 0x40000001) + session + b"\x00\x01x"
    with process.spawn([*argv, "--server", f"type=unixio,path={path}"], stderr=2), socket.socket(socket.AF_UNIX) as tpm:
        assert poll(path.exists, Deadline(10), every_s=0.05)
        tpm.connect(str(path))
        tpm.settimeout(10)
        tpm.sendall(struct.pack(">HI", 0x8002, 6 + len(body)) + body)
        assert tpm.recv(4096)[6:10] == bytes(4)


@each_model
@pytest.mark.parametrize("board", [BOARD, BOARDS["pc-ide-e1000"]], ids=["q35", "pc"])
def test_a_tpm_counts_the_starts(model: str, board: Board, disk: Path, tmp_path: Path) -> None:
    starts = [start(disk, tmp_path / "tpm", model=model, board=board) for _ in range(3)]

    assert [one.fields["tpm"] for one in starts] == ["7f3c-T"] * 3
    assert [one.number("tpm-boots") for one in starts] == [1, 2, 3]


def test_lost_state_is_seen(disk: Path, tmp_path: Path) -> None:
    start(disk, tmp_path / "tpm")
    shutil.rmtree(tmp_path / "tpm")

    after = start(disk, tmp_path / "tpm")

    assert (after.number("boots"), after.number("tpm-boots")) == (2, 1)


def test_the_state_of_another_guest_is_not_taken_for_its_own(disk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.raw"
    make_disk(other, TinyGuest(nonce="other"))
    start(other, tmp_path / "tpm")
    start(other, tmp_path / "tpm")

    started = start(disk, tmp_path / "tpm")

    assert (started.fields["tpm"], started.number("tpm-boots")) == ("7f3c-T", 1)


@each_model
def test_it_answers_after_its_state_was_saved_and_restored(model: str, disk: Path, tmp_path: Path) -> None:
    with tpm_options(model, tmp_path / "tpm") as options, running(BOARD, disk, *options) as guest:
        guest.wait_until_started()
        snapshot.save(guest.qmp, tmp_path / "state", Deadline(20))

    with (
        tpm_options(model, tmp_path / "tpm") as options,
        running(BOARD, disk, *options, "-incoming", "defer") as guest,
    ):
        snapshot.load(guest.qmp, tmp_path / "state", Deadline(20))
        after = guest.ask("status")

    assert (after.fields["tpm"], after.number("tpm-boots"), after.number("boots")) == ("7f3c-T", 1, 1)


def test_a_tpm_whose_owner_has_a_password_is_named(disk: Path, tmp_path: Path) -> None:
    set_owner_password(tmp_path / "tpm")

    started = start(disk, tmp_path / "tpm")

    assert (started.word, started.fields["tpm"]) == ("started", "error:0x000009a2")  # TPM_RC_BAD_AUTH of a session


def test_a_tpm_that_its_firmware_turned_off_is_tried_again_after_a_reset(disk: Path, tmp_path: Path) -> None:
    """Its self-test takes longer than SeaBIOS waits for it, 2 s, while swtpm runs only now and then."""
    with (
        tpm_options("tpm-tis", tmp_path / "tpm") as options,
        running(BOARD, disk, "-S", *options, "-action", "reboot=reset", patience_s=60) as guest,
    ):
        swtpm = int((tmp_path / "tpm.pid").read_text())
        guest.qmp.execute("cont", deadline=Deadline(5))
        for _ in range(8):
            os.kill(swtpm, signal.SIGSTOP)
            time.sleep(1)
            os.kill(swtpm, signal.SIGCONT)
            time.sleep(0.004)
        started = guest.wait_until_started()

    assert (started.fields["tpm"], started.number("tpm-boots"), started.number("boots")) == ("7f3c-T", 1, 1)


def test_no_tpm_is_named(disk: Path) -> None:
    with running(BOARD, disk) as guest:
        assert guest.wait_until_started().fields["tpm"] == "none"

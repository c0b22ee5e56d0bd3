"""The tiny guest under UEFI firmware, in a QEMU on this host: a start takes some seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.guests.tiny_guest import TinyGuest, make_disk, read_record
from harness.model.device_kinds import Firmware
from harness.model.machine_spec import DiskFormat
from harness.qemu import snapshot

from ..tiny_guests import (
    ADDRESS,
    MAC,
    UEFI_BOARDS,
    UEFI_PATIENCE_S,
    Board,
    RunningGuest,
    arp_reply,
    arp_request,
    echo_reply,
    echo_request,
    running,
    tpm_options,
    uefi_options,
)

GUEST = TinyGuest(nonce="7f3c-U", addresses={MAC: ADDRESS})
BOARD = UEFI_BOARDS["q35-virtio"]

each_board = pytest.mark.parametrize("board", UEFI_BOARDS.values(), ids=UEFI_BOARDS)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    make_disk(tmp_path / "tiny.raw", GUEST, firmware=Firmware.UEFI)
    return tmp_path / "tiny.raw"


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    return tmp_path / "variables.fd"


@contextmanager
def booting(board: Board, disk: Path, variables: Path, *options: str) -> Iterator[RunningGuest]:
    with running(board, disk, *uefi_options(variables), *options, patience_s=UEFI_PATIENCE_S) as guest:
        yield guest


@each_board
def test_it_counts_answers_ping_and_keeps_what_it_wrote_when_the_power_fails(
    board: Board, disk: Path, variables: Path
) -> None:
    with booting(board, disk, variables) as guest:
        started = guest.wait_until_started()
        assert poll(lambda: guest.ask("status").number("counter") > 1, Deadline(10), every_s=0.2)
        written = guest.ask("write first")
        assert arp_reply(guest.cable.answer(arp_request(ADDRESS))) == (MAC, ADDRESS)
        assert echo_reply(guest.cable.answer(echo_request(ADDRESS, 1, b"alive?"))) == (ADDRESS, 1, b"alive?")

    assert (started.word, started.fields["nonce"], started.fields["variable"]) == ("started", "7f3c-U", "7f3c-U")
    assert (started.number("boots"), started.fields["word"]) == (1, "-")
    assert (written.word, written.fields["word"], written.number("writes")) == ("written", "first", 1)
    assert read_record(disk) is None

    with booting(board, disk, variables) as guest:
        again = guest.wait_until_started()

    assert (again.number("boots"), again.fields["word"], again.number("writes")) == (2, "first", 1)


@pytest.mark.parametrize("board", [BOARD, UEFI_BOARDS["pc-virtio"]], ids=["q35", "pc"])
def test_the_power_button_turns_it_off(board: Board, disk: Path, variables: Path) -> None:
    with booting(board, disk, variables) as guest:
        guest.wait_until_started()
        guest.qmp.execute("system_powerdown", deadline=Deadline(5))
        assert guest.next_line().word == "off"
        assert guest.child.wait(10) == 0


def test_lost_variables_are_seen(disk: Path, variables: Path) -> None:
    with booting(BOARD, disk, variables) as guest:
        guest.wait_until_started()
        guest.ask("write first")
        assert guest.ask("off").word == "off"
        assert guest.child.wait(10) == 0
    variables.unlink()

    with booting(BOARD, disk, variables) as guest:
        after = guest.wait_until_started()

    assert (after.number("boots"), after.fields["word"]) == (1, "-")


def test_it_goes_on_where_it_was_after_its_state_was_saved_and_restored(
    disk: Path, variables: Path, tmp_path: Path
) -> None:
    with booting(BOARD, disk, variables) as guest:
        guest.wait_until_started()
        guest.ask("write kept")
        before = guest.ask("status")
        snapshot.save(guest.qmp, tmp_path / "state", Deadline(20))

    with booting(BOARD, disk, variables, "-incoming", "defer") as guest:
        snapshot.load(guest.qmp, tmp_path / "state", Deadline(20))
        after = guest.ask("status")
        written = guest.ask("write later")
        assert arp_reply(guest.cable.answer(arp_request(ADDRESS))) == (MAC, ADDRESS)

    assert (after.word, after.fields["nonce"], after.fields["word"], after.number("boots")) == (
        "status",
        "7f3c-U",
        "kept",
        1,
    )
    assert after.number("counter") >= before.number("counter")
    assert written.fields["word"] == "later"


def test_a_qcow2_is_a_boot_disk_too(tmp_path: Path, variables: Path) -> None:
    disk = tmp_path / "tiny.qcow2"
    make_disk(disk, GUEST, DiskFormat.QCOW2, firmware=Firmware.UEFI)

    with booting(BOARD, disk, variables) as guest:
        assert guest.wait_until_started().word == "started"


def test_a_tpm_keeps_its_record_under_uefi(disk: Path, variables: Path, tmp_path: Path) -> None:
    boots = []
    for _ in range(2):
        with (
            tpm_options("tpm-crb", tmp_path / "tpm") as options,
            booting(BOARD, disk, variables, *options) as guest,
        ):
            boots.append(guest.wait_until_started().number("tpm-boots"))

    assert boots == [1, 2]

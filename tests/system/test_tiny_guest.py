"""The tiny guest on the boards that libvirt makes, in a QEMU on this host: no boot takes a second."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.guests.tiny_guest import Record, TinyGuest, make_disk, read_record
from harness.model.machine_spec import DiskFormat
from harness.qemu import snapshot

from ..tiny_guests import (
    ADDRESS,
    BOARDS,
    MAC,
    Board,
    RunningGuest,
    arp_reply,
    arp_request,
    echo_reply,
    echo_request,
    payload_for,
    running,
)

GUEST = TinyGuest(nonce="7f3c-A", addresses={MAC: ADDRESS})

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    make_disk(tmp_path / "tiny.raw", GUEST)
    return tmp_path / "tiny.raw"


def wait_for_count(guest: RunningGuest, count: int) -> int:
    """The guest's counter, once it is more than ``count``."""

    def counted() -> int | None:
        now = guest.ask("status").number("counter")
        return now if now > count else None

    found = poll(counted, Deadline(10), every_s=0.2)
    assert found is not None, f"the counter stays at {count}"
    return found


@each_board
def test_it_counts_and_keeps_what_it_wrote_when_the_power_fails(board: Board, disk: Path) -> None:
    with running(board, disk) as guest:
        started = guest.next_line()
        wait_for_count(guest, started.number("counter"))
        written = guest.ask("write first")

    assert (started.word, started.fields["nonce"], started.fields["disk"]) == ("started", "7f3c-A", "7f3c-A")
    assert (written.word, written.fields["word"]) == ("written", "first")
    assert read_record(disk) == Record(nonce="7f3c-A", word="first", boots=1, writes=1)

    with running(board, disk) as guest:
        again = guest.next_line()

    assert (again.number("boots"), again.fields["word"]) == (2, "first")


@each_board
def test_it_answers_arp_and_ping_at_its_address_and_at_no_other(board: Board, disk: Path) -> None:
    with running(board, disk) as guest:
        guest.next_line()
        found = arp_reply(guest.cable.answer(arp_request("10.9.8.9"), arp_request(ADDRESS)))
        assert found == (MAC, ADDRESS)
        payloads = [bytes(range(256))[:length] * 6 for length in (0, 1, 56, 245)]
        payloads += [payload_for(checksum, number) for number, checksum in enumerate((0xF7FF, 0xF8FF, 0xFEFF), 4)]
        for number, payload in enumerate(payloads):
            request = echo_request(ADDRESS, number, payload)
            assert echo_reply(guest.cable.answer(request)) == (ADDRESS, number, payload)
        others = (
            echo_request("10.9.8.9", 98, b"another address"),
            echo_request(ADDRESS, 99, b"a fragment", fragment=0x2000),
            echo_request(ADDRESS, 100, b"mine"),
        )
        assert echo_reply(guest.cable.answer(*others)) == (ADDRESS, 100, b"mine")
        status = guest.ask("status")

    assert (status.fields["address"], status.fields["link"]) == (ADDRESS, "up")
    assert status.number("answered") == len(payloads) + 2


@each_board
def test_its_card_wakes_it(board: Board, disk: Path) -> None:
    """A guest that is woken by its clock alone answers one ping with each count."""
    with running(board, disk) as guest:
        guest.next_line()
        guest.cable.answer(arp_request(ADDRESS))
        before = guest.ask("status").number("counter")
        for number in range(30):
            guest.cable.answer(echo_request(ADDRESS, number, b"wake up"))
        counted = guest.ask("status").number("counter") - before

    assert counted < 30


@each_board
def test_it_goes_on_where_it_was_after_its_state_was_saved_and_restored(
    board: Board, disk: Path, tmp_path: Path
) -> None:
    with running(board, disk) as guest:
        guest.next_line()
        guest.ask("write kept")
        before = wait_for_count(guest, 2)
        arp_reply(guest.cable.answer(arp_request(ADDRESS)))
        snapshot.save(guest.qmp, tmp_path / "state", Deadline(20))

    with running(board, disk, "-incoming", "defer") as guest:
        snapshot.load(guest.qmp, tmp_path / "state", Deadline(20))
        after = guest.ask("status")
        wait_for_count(guest, after.number("counter"))
        reply = echo_reply(guest.cable.answer(echo_request(ADDRESS, 1, b"still there?")))
        written = guest.ask("write later")

    assert (after.word, after.fields["nonce"], after.fields["word"]) == ("status", "7f3c-A", "kept")
    assert (after.number("boots"), after.number("answered")) == (1, 1)
    assert after.number("counter") >= before
    assert reply == (ADDRESS, 1, b"still there?")
    assert written.fields["word"] == "later"


@each_board
def test_the_power_button_turns_it_off(board: Board, disk: Path) -> None:
    with running(board, disk) as guest:
        guest.next_line()
        guest.qmp.execute("system_powerdown", deadline=Deadline(5))
        assert guest.next_line().word == "off"
        assert guest.child.wait(10) == 0


@pytest.mark.parametrize("board", [BOARDS["q35-virtio"], BOARDS["pc-ide-e1000"]], ids=["virtio", "ide"])
def test_a_qcow2_has_what_it_wrote_when_qemu_is_killed(board: Board, tmp_path: Path) -> None:
    disk = tmp_path / "tiny.qcow2"
    make_disk(disk, GUEST, DiskFormat.QCOW2)

    with running(board, disk) as guest:
        guest.next_line()
        guest.ask("write word")

    assert read_record(disk) == Record(nonce="7f3c-A", word="word", boots=1, writes=1)


@pytest.mark.parametrize("counts_per_s", [1, 2, 64])
def test_it_counts_as_often_as_it_is_told(tmp_path: Path, counts_per_s: int) -> None:
    disk, seconds = tmp_path / "tiny.raw", 4
    make_disk(disk, replace(GUEST, counts_per_s=counts_per_s))

    with running(BOARDS["q35-virtio"], disk) as guest:
        guest.next_line()
        first, before_s = wait_for_count(guest, 0), time.monotonic()
        last = wait_for_count(guest, first + seconds * counts_per_s - 1)
        took_s = time.monotonic() - before_s

    assert last - first <= (took_s + 1) * counts_per_s + 1


def test_virtio_blk_writes_through(disk: Path) -> None:
    with running(BOARDS["q35-virtio"], disk) as guest:
        guest.next_line()
        (block,) = guest.qmp.execute("query-block", deadline=Deadline(5))

    assert block["inserted"]["cache"]["writeback"] is False


def test_another_guests_record_is_not_taken_for_its_own(disk: Path, tmp_path: Path) -> None:
    board = BOARDS["q35-virtio"]
    with running(board, disk) as guest:
        guest.next_line()
        guest.ask("write foreign")
    other = tmp_path / "other.raw"
    make_disk(other, TinyGuest(nonce="other"))
    record = disk.read_bytes()[128 * 512 : 129 * 512]
    with other.open("r+b") as file:
        file.seek(128 * 512)
        file.write(record)

    with running(board, other) as guest:
        started = guest.next_line()

    assert (started.fields["disk"], started.fields["word"], started.number("boots")) == ("other", "-", 1)
    assert started.fields["address"] == "0.0.0.0"


def test_wrong_commands_are_answered_by_a_reason(disk: Path) -> None:
    words = {"halt": "unknown-command", "write": "bad-word", f"write {'x' * 32}": "bad-word", "stat": "unknown-command"}
    with running(BOARDS["pc-virtio"], disk) as guest:
        guest.next_line()
        answers = {word: guest.ask(word) for word in words}
        longest = guest.ask(f"write {'x' * 31}")

    assert {word: answer.fields["reason"] for word, answer in answers.items()} == words
    assert {answer.word for answer in answers.values()} == {"error"}
    assert longest.fields["word"] == "x" * 31


def test_a_card_that_it_cannot_drive_is_named(disk: Path) -> None:
    without_registers = replace(BOARDS["pc-virtio"], nic="virtio-net-pci,disable-modern=on")

    with running(without_registers, disk) as guest:
        fields = guest.next_line().fields

    assert (fields["nic"], fields["link"], "address" in fields) == ("virtio-net", "unusable", False)


def test_it_answers_ping_while_nobody_reads_its_serial_port(disk: Path) -> None:
    with running(BOARDS["q35-virtio"], disk) as guest:
        for _ in range(200):
            guest.tell("status")
        reply = echo_reply(guest.cable.answer(echo_request(ADDRESS, 1, b"alive?")))

    assert reply == (ADDRESS, 1, b"alive?")


def test_it_stops_with_a_reason_if_the_disk_has_no_parameters(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(512)
        file.write(bytes(512))

    with running(BOARDS["q35-virtio"], disk) as guest:
        assert guest.next_line().fields == {"reason": "no-parameters"}

"""The tiny guest echoes what comes by TCP, for one connection, and knows that connection after it was restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guests.tiny_guest import TinyGuest, make_disk
from harness.qemu import snapshot

from ..tiny_guests import ADDRESS, BOARDS, MAC, Board, RunningGuest, arp_request, running
from ..tiny_tcp import ACK, FIN, PSH, RST, SYN, Segment, read_segment

OPTIONS = bytes.fromhex("020405b40402080a0000000100000000" + "01030307")
"""As Linux offers them: segment size, selective acknowledgments, time stamps, window scale."""
FIRST = 0xFFFFFFFE
"""A sequence number that soon begins again at 0."""

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.raw"
    make_disk(path, TinyGuest(nonce="7f3c-A", addresses={MAC: ADDRESS}))
    return path


def ask(guest: RunningGuest, segment: Segment) -> Segment:
    return read_segment(guest.cable.answer(segment.frame))


def connect(guest: RunningGuest, port: int = 40000) -> tuple[int, int]:
    """The next sequence numbers: ours, theirs."""
    guest.cable.answer(arp_request(ADDRESS))
    opened = ask(guest, Segment(flags=SYN, sequence=FIRST, options=OPTIONS, port=port))
    assert (opened.flags, opened.acknowledged, opened.port) == (SYN | ACK, (FIRST + 1) % 2**32, port)
    assert ask(guest, Segment(flags=SYN, sequence=FIRST, options=OPTIONS, port=port)) == opened
    return opened.acknowledged, (opened.sequence + 1) % 2**32


def say(guest: RunningGuest, ours: int, theirs: int, data: bytes) -> tuple[int, int]:
    """Send ``data``, which must come back; the next sequence numbers."""
    segment = Segment(flags=PSH | ACK, sequence=ours, acknowledged=theirs, data=data)
    echo = ask(guest, segment)
    assert (echo.flags, echo.sequence, echo.data) == (PSH | ACK, theirs, data)
    assert echo.acknowledged == (ours + len(data)) % 2**32
    assert ask(guest, segment) == echo, "a segment that is repeated, as its answer was lost"
    return echo.acknowledged, (theirs + len(data)) % 2**32


@each_board
def test_it_echoes_a_connection_and_closes_it(board: Board, disk: Path) -> None:
    with running(board, disk) as guest:
        guest.wait_until_started()
        ours, theirs = connect(guest)
        for data in (b"x", b"hello\n", bytes(range(256)) * 2):
            ours, theirs = say(guest, ours, theirs, data)
        closed = ask(guest, Segment(flags=FIN | ACK, sequence=ours, acknowledged=theirs))
        late = ask(guest, Segment(flags=PSH | ACK, sequence=ours + 1, acknowledged=theirs + 1, data=b"late"))

    assert (closed.flags, closed.sequence, closed.acknowledged) == (FIN | ACK, theirs, (ours + 1) % 2**32)
    assert (late.flags, late.sequence) == (RST, theirs + 1)


def test_it_resets_a_connection_that_it_does_not_know_and_ignores_what_is_lost_or_elsewhere(disk: Path) -> None:
    with running(BOARDS["q35-virtio"], disk) as guest:
        guest.wait_until_started()
        ours, theirs = connect(guest)
        unknown = ask(guest, Segment(flags=PSH | ACK, sequence=9, acknowledged=77, data=b"who", port=40001))
        ahead = Segment(flags=PSH | ACK, sequence=ours + 100, acknowledged=theirs, data=b"ahead")
        acknowledgment = Segment(flags=ACK, sequence=ours, acknowledged=theirs)
        known = Segment(flags=PSH | ACK, sequence=ours, acknowledged=theirs, data=b"next")
        answer = read_segment(guest.cable.answer(ahead.frame, acknowledgment.frame, known.frame))

    assert (unknown.flags, unknown.sequence, unknown.port) == (RST, 77, 40001)
    assert answer.data == b"next"


def test_it_knows_its_connection_after_it_was_restored_and_not_after_it_was_started_anew(
    disk: Path, tmp_path: Path
) -> None:
    board = BOARDS["q35-virtio"]
    with running(board, disk) as guest:
        guest.wait_until_started()
        ours, theirs = say(guest, *connect(guest), b"before")
        snapshot.save(guest.qmp, tmp_path / "state", Deadline(20))

    with running(board, disk, "-incoming", "defer") as guest:
        snapshot.load(guest.qmp, tmp_path / "state", Deadline(20))
        say(guest, ours, theirs, b"after")
    with running(board, disk) as guest:
        guest.wait_until_started()
        guest.cable.answer(arp_request(ADDRESS))
        anew = ask(guest, Segment(flags=PSH | ACK, sequence=ours, acknowledged=theirs, data=b"after"))

    assert (anew.flags, anew.sequence) == (RST, theirs)

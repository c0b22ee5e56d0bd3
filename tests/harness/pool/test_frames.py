"""What passes between a run and a host: whole, in order, and an end or silence is noticed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import HostError
from harness.pool.files import pack_repository, send_archive, send_runs, unpack
from harness.pool.frames import Frames, Kind, PeerLost

Pair = tuple[Frames, Frames]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both sides of a connection."""
    to_host, to_us = os.pipe(), os.pipe()
    yield Frames(to_us[0], to_host[1]), Frames(to_host[0], to_us[1])
    for end in (*to_host, *to_us):
        try:
            os.close(end)
        except OSError:  # a test closed it
            continue


def test_messages_arrive_in_order_and_heartbeats_are_not_seen(pair: Pair) -> None:
    here, there = pair
    here.say(line="one")
    here.send(Kind.BEAT)
    here.say(line="two")

    assert [there.receive().message() for _ in range(2)] == [{"line": "one"}, {"line": "two"}]


def test_the_end_of_the_connection_is_noticed_in_the_middle_of_a_frame(pair: Pair) -> None:
    here, there = pair
    os.write(here._sink, b"d" + (1000).to_bytes(8, "big") + b"only this")
    os.close(here._sink)

    with pytest.raises(PeerLost, match="closed"):
        there.receive()


def test_what_another_program_prints_is_quoted(pair: Pair) -> None:
    here, there = pair
    os.write(here._sink, b"Welcome to this host!\n")

    with pytest.raises(PeerLost, match="not Bootproof's: 'Welcome to this host!'"):
        there.receive()


def test_a_deadline_ends_the_wait_for_a_frame(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[1].receive(Deadline(0.05, scaled=False))


def test_nothing_can_be_sent_to_who_is_gone(pair: Pair) -> None:
    here, there = pair
    os.close(there._source)

    with pytest.raises(PeerLost):
        here.say(line="is anybody there?")


def _repository(folder: Path) -> Path:
    (folder / "images" / "tiny").mkdir(parents=True)
    (folder / "images" / "tiny" / "image.toml").write_text("…", "utf-8")
    (folder / "runs").mkdir()
    (folder / "runs" / "old").write_text("…", "utf-8")
    (folder / "link").symlink_to("images")
    return folder


def test_the_files_of_a_repository_arrive_without_its_runs(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    archive, target = tmp_path / "all.tar", tmp_path / "target"
    pack_repository(_repository(tmp_path / "mine"), tmp_path / "plan.json", archive)
    sender = threading.Thread(target=send_archive, args=(archive, here.writer()))
    sender.start()

    unpack(there.reader(), target)
    sender.join()
    here.say(line="the next")

    found = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert found == {"plan.json", "repository/images/tiny/image.toml", "repository/link"}
    assert there.receive().message() == {"line": "the next"}


def test_a_file_that_breaks_off_is_an_error(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    here.send(Kind.DATA, bytes(100))
    here.send(Kind.END)

    with pytest.raises(HostError, match="did not arrive whole"):
        unpack(there.reader(), tmp_path / "target")


def test_keys_and_links_out_of_a_run_do_not_come_back(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    run = tmp_path / "runs" / "2026-tiny"
    run.mkdir(parents=True)
    (run.parent / "latest").symlink_to(run.name)
    (run / "id_ed25519").write_text("secret", "utf-8")
    (run / "verdict.json").write_text("{}", "utf-8")
    (run / "away").symlink_to("/etc/passwd")
    sender = threading.Thread(target=send_runs, args=(run.parent, here.writer()))
    sender.start()

    unpack(there.reader(), tmp_path / "target")
    sender.join()

    assert [path.name for path in (tmp_path / "target").rglob("*")] == ["2026-tiny", "verdict.json"]

"""Pausing and resuming: what QEMU and the guest are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed, GuestCommandFailed
from harness.machine import board
from harness.machine.pausing import pause, resume, set_clock
from harness.qemu.qmp import QmpGone

from ..qemu.test_qmp import Events, qemu


class Guest(Channel):
    """Notes its commands in ``said``, and ends each with ``status``."""

    def __init__(self, said: list[str], status: int = 0) -> None:
        self._said, self._status = said, status

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self._said.append(command)
        return Completed(command=command, status=self._status, stdout=b"", stderr=b"not permitted")


class Monitor:
    """Notes the commands to QEMU in ``said``; with ``is_gone``, QEMU has ended."""

    def __init__(self, said: list[str], *, is_gone: bool = False) -> None:
        self._said, self._is_gone = said, is_gone

    def execute(self, command: str, arguments: Any = None, *, deadline: Deadline) -> None:  # noqa: ARG002  # as Qmp
        if self._is_gone:
            raise QmpGone("m", command, "QEMU is gone")
        self._said.append(command)


def running(said: list[str], *, is_gone: bool = False) -> Any:
    return SimpleNamespace(qmp=Monitor(said, is_gone=is_gone))


def test_a_machine_is_stopped_and_continued_by_one_command_to_qemu_each() -> None:
    said: list[str] = []

    pause(running(said))
    resume(running(said))

    assert said == ["stop", "cont"]


def test_qemu_stops_and_continues_its_machine(tmp_path: Path) -> None:
    events = Events()
    with qemu(tmp_path, events) as qmp:
        machine = SimpleNamespace(qmp=qmp)
        pause(machine)
        assert events.wait_for("STOP") == {}
        assert qmp.execute("query-status", deadline=Deadline(15))["status"] == "paused"

        resume(machine)
        assert events.wait_for("RESUME") == {}
        assert qmp.execute("query-status", deadline=Deadline(15))["running"]


@pytest.mark.parametrize("do", [pause, resume])
def test_a_qemu_that_is_gone_is_an_error(do: Callable[[Any], None]) -> None:
    with pytest.raises(QmpGone):
        do(running([], is_gone=True))


def test_the_clock_is_set_to_the_hosts_plus_what_it_is_ahead() -> None:
    said: list[str] = []
    before_s = time.time()

    set_clock(Guest(said), 3600.0, Deadline(60))

    (clock,) = said
    assert before_s + 3600 <= float(clock.removeprefix("date -s @")) <= time.time() + 3600 + 0.1


def test_a_guest_that_refuses_the_time_is_an_error() -> None:
    with pytest.raises(GuestCommandFailed, match="not permitted"):
        set_clock(Guest([], status=1), 0.0, Deadline(60))


def test_a_clone_has_the_hosts_clock_and_a_booted_machine_that_of_its_board(tmp_path: Path) -> None:
    spec = SimpleNamespace(clock="2031-01-01T00:00:00")
    booted: Any = SimpleNamespace(folder=tmp_path / "boot-1", spec=spec, frozen=None)
    ahead_s = board.seconds_ahead(spec.clock, time.time())

    with board.clock(booted, []):
        assert board.guest_ahead_s(booted, []) == pytest.approx(ahead_s, abs=2)
        set_back: Any = [("RTC_CHANGE", {"offset": -100})]
        assert board.guest_ahead_s(booted, set_back) == pytest.approx(ahead_s - 100, abs=2)
    assert board.guest_ahead_s(SimpleNamespace(frozen=object()), []) == 0.0  # type: ignore[arg-type]  # as far as it is read

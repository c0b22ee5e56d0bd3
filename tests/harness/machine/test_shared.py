"""The shared machine: what a test changed on it, and that it does not run between its uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.machine.shared import SharedMachine, differences
from harness.model.events import Note, Resumed
from harness.qemu.qmp import QmpGone
from harness.runs.folder import Run

SNAPSHOT = "/proc/mounts 1 0\nupper=\n\n\x1efiles 0\nssh.service loaded active\n\n\x1eunits 0\n"


def test_each_kind_of_change_has_its_word() -> None:
    before = {"/data/a": "1", "/etc/b": "1", "cron.service": "active", "x.service": "failed", "same": "1"}
    after = {"/data/a": "2", "/etc/c": "1", "y.service": "active", "x.service": "active", "same": "1"}

    assert differences(before, after) == [
        "/data/a was changed",
        "/etc/b is gone",
        "/etc/c is new",
        "cron.service is no longer active",
        "x.service is active",
        "and 1 more",
    ]


def test_nothing_changed() -> None:
    assert differences({"/data/a": "1"}, {"/data/a": "1"}) == []


class Guest(Channel):
    """Answers each command as a guest in which nothing changes."""

    is_asked = False

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.is_asked = True
        return Completed(command=command, status=0, stdout=SNAPSHOT.encode(), stderr=b"")


@dataclass
class FakeMachine:
    """Notes in ``said`` what is done with it; what it ``fails`` to do raises."""

    name: str
    context: Any
    said: list[str]
    fails: frozenset[str] = frozenset()
    is_on: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    channel: Channel = field(default_factory=Guest)
    spec: Any = field(default_factory=lambda: SimpleNamespace(disks=()))
    definition: Any = field(default_factory=lambda: SimpleNamespace(services=(), sockets=()))

    def pause(self) -> None:
        self._do("pause")

    def resume(self, *, sets_clock: bool) -> None:
        self._do("resume with its clock" if sets_clock else "resume")

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.said.append(f"{self.name}: {command}")
        return self.channel.run(command, deadline)

    def _do(self, what: str) -> None:
        if what.split()[0] in self.fails:
            raise QmpGone(self.name, what, "QEMU is gone")
        self.said.append(f"{self.name}: {what}")


@dataclass
class Worker:
    """A worker with a shared machine whose first one ``fails``."""

    folder: Path
    fails: frozenset[str] = frozenset()
    said: list[str] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.run = Run(self.folder, "gw0")
        make: Any = self.make
        open_lab: Any = self.open_lab
        self.shared = SharedMachine("shared", self.folder, make, open_lab, now=lambda: self.now_s)

    @contextmanager
    def make(self, name: str, _lab: object, _folder: Path) -> Iterator[FakeMachine]:
        fails = self.fails if name == "shared" else frozenset()
        yield FakeMachine(name, SimpleNamespace(run=self.run), self.said, fails)
        self.said.append(f"{name}: off")

    @contextmanager
    def open_lab(self, _folder: Path, *_: object) -> Iterator[None]:
        yield None


def test_a_shared_machine_is_paused_between_its_uses_and_the_run_knows_for_how_long(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    host = worker.shared.host

    host.run("first")
    worker.shared.pause()
    worker.shared.pause()
    assert worker.said == ["shared: first", "shared: pause"]
    worker.now_s += 40
    host.run("second")
    host.run("third")

    assert worker.said[2:] == ["shared: resume with its clock", "shared: second", "shared: third"]
    (resumed,) = worker.run.of_kind(Resumed)
    assert (resumed.machine, resumed.paused_s) == ("shared", 40.0)
    assert worker.shared.changes() == ()


def test_a_clock_is_set_once_pauses_have_made_it_late(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for seconds in (0.07, 0.06, 0.07):
        assert worker.shared.machine.is_on
        worker.shared.pause()
        worker.now_s += seconds
    assert worker.shared.machine.is_on

    assert [line for line in worker.said if "resume" in line] == [
        "shared: resume",
        "shared: resume with its clock",
        "shared: resume",
    ]


def test_a_machine_that_does_not_exist_or_is_off_is_not_paused(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.shared.pause()
    machine: Any = worker.shared.machine
    machine.is_on = False
    worker.shared.pause()

    assert worker.said == []


def test_a_paused_machine_is_not_asked_what_a_test_changed_that_did_not_use_it(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    machine: Any = worker.shared.machine
    worker.shared.pause()
    machine.channel.is_asked = False

    assert worker.shared.changes() == ()
    assert not machine.channel.is_asked


def test_a_machine_that_cannot_be_paused_runs_on(tmp_path: Path) -> None:
    worker = Worker(tmp_path, frozenset({"pause"}))
    worker.shared.machine.run("first")
    worker.shared.pause()
    worker.shared.machine.run("second")

    assert worker.said == ["shared: first", "shared: second"]


def test_a_machine_that_does_not_continue_is_replaced_and_the_run_says_why(tmp_path: Path) -> None:
    worker = Worker(tmp_path, frozenset({"resume"}))
    worker.shared.machine.run("first")
    worker.shared.pause()
    worker.shared.machine.run("second")

    assert worker.said == ["shared: first", "shared: pause", "shared: off", "shared-2: second"]
    (note,) = worker.run.of_kind(Note)
    assert note.text.startswith("shared did not continue after its pause, and another takes its place: ")


def test_a_paused_machine_ends_without_being_continued(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.shared.machine.run("first")
    worker.shared.pause()
    worker.shared.release()
    worker.shared.machine.run("second")

    assert worker.said == ["shared: first", "shared: pause", "shared: off", "shared-2: second"]

"""The run's folder keeps what happened, from all workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.core.errors import Blame, HostError
from harness.machine.boot_files import durations
from harness.machine.errors import BootFailed
from harness.model.events import (
    KINDS,
    Cloned,
    DependentTest,
    Event,
    Frozen,
    GuestGap,
    Killed,
    Note,
    PhaseBegan,
    PlannedTest,
    PowerCutsJudged,
    Prepared,
    Recorded,
    ReportedTest,
    Resumed,
    Unchecked,
)
from harness.model.layout import EVENTS
from harness.model.verdict import BootResult, Finding
from harness.runs.folder import EventReader, Run, make_run_folder
from harness.runs.progress import EventFollower, progress_line


def finding(number: int) -> Finding:
    return Finding(id=f"f{number}", what="x" * 3000, where="here", blame=Blame.HOST, evidence=("a", "b"))


def test_findings_read_back_equal_and_once(tmp_path: Path) -> None:
    run = Run(tmp_path, "gw0")
    for number in (1, 2, 1):
        run.add_finding(finding(number))

    assert run.findings() == (finding(1), finding(2))


WRITER = """
import sys
from pathlib import Path
from harness.runs.folder import Run
from harness.model.verdict import Finding
for number in range(200):
    finding = Finding(id=f"{sys.argv[2]}-{number}", what="x" * 3000, where="here")
    Run(Path(sys.argv[1]), sys.argv[2]).add_finding(finding)
"""


def test_workers_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WRITER, str(tmp_path)]
    workers = [subprocess.Popen([*argv, f"gw{number}"]) for number in range(4)]

    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]
    assert len(Run(tmp_path, "main").findings()) == 800


def test_an_event_that_cannot_be_read_is_a_finding_and_the_others_stay(tmp_path: Path) -> None:
    run = Run(tmp_path, "gw0")
    run.add_finding(finding(1))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"kind": "find')  # as on a full disk
        file.write('{"kind": "note"}\n')
    run.add_finding(finding(2))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"kind"')  # still being written

    assert [found.id for found in run.findings()] == ["f1", "event-unreadable", "f2"]
    assert [found.blame for found in run.findings()] == [Blame.HOST] * 3


def test_a_reader_continues_where_it_ended_and_leaves_a_line_that_is_half_written(tmp_path: Path) -> None:
    run, reader = Run(tmp_path, "gw0"), EventReader(tmp_path / EVENTS)
    assert list(reader.read()) == []
    run.add_note("first")
    first = list(reader.read())
    whole = (tmp_path / "events.jsonl").read_bytes()
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(whole[:20])
        file.flush()
        between = list(reader.read())
        file.write(whole[20:])
    run.add_note("last")

    assert [recorded.event for recorded in first] == [Note(text="first")]
    assert between == []
    assert [recorded.event for recorded in reader.read()] == [Note(text="first"), Note(text="last")]


def test_events_of_a_trial_count_when_they_are_adopted(tmp_path: Path) -> None:
    run = Run(tmp_path, "gw0")
    (tmp_path / "test").mkdir()
    run.add_finding(finding(1))
    trial = run.trial(tmp_path / "test")
    trial.add_finding(finding(2))

    assert [found.id for found in run.findings()] == ["f1"]
    assert [found.id for found in trial.findings()] == ["f2"]

    (recorded,) = trial.events()
    run.adopt(trial)
    assert [*run.events()][-1] == recorded
    assert trial.folder == run.folder


BOOT = BootResult(
    machine="m",
    number=1,
    boot_path="direct",
    artifacts="a",
    phases={"kernel": 5.0, "userspace": 7.0},
    ready_s=12.0,
    console="",
    added_arguments=(),
)
EVERY_KIND: list[Event] = [
    PhaseBegan(machine="m", boot=1, phase="kernel"),
    Killed(machine="m", number=1),
    Frozen(state="booted", took_s=1.0, quiet_s=3.0, waited_for={"x.service": 2.0}, busy=("x.service",)),
    Cloned(machine="c", state="booted", took_s=0.5, mib=None),
    Resumed(machine="c", paused_s=7.0, took_s=0.02),
    Prepared(took_s=1.0, worked_s=2.0, all_s=3.0),
    PlannedTest(test="t::x", file="t.py", checks=("links",), group="t::x"),
    ReportedTest(test="t::x", when="call", outcome="passed", took_s=1.0),
    DependentTest(test="t::x", finding=finding(2)),
    PowerCutsJudged(took_s=1.0, fates={"intact": 3}),
    GuestGap(guest="g", machine="m", way="ping", is_upgraded=True, longest_s=61.5, queued_s=2.0, limit_s=600.0),
    Note(text="é\u2028"),
    Unchecked(what="links"),
    finding(1),
    BOOT,
]


def test_every_kind_of_event_reads_back_equal(tmp_path: Path) -> None:
    run = Run(tmp_path, "gw0")
    for event in EVERY_KIND:
        run.add(event)

    assert {type(event) for event in EVERY_KIND} == set(KINDS.values())
    assert [(recorded.worker, recorded.event) for recorded in run.events()] == [("gw0", event) for event in EVERY_KIND]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (EVERY_KIND[0], "m boot 1: kernel"),
        (PhaseBegan(machine="m", boot=1, phase="queued"), None),
        (BOOT, "m boot 1 (direct): ready in 12 s (kernel 5, userspace 7)"),
        (replace(BOOT, ready_s=None), None),
        (replace(BOOT, run="/runs/earlier"), None),
        (Frozen(state="booted", took_s=1.0), None),
        (
            Frozen(state="booted", took_s=1.0, quiet_s=34.2, waited_for={"a.service": 4.0, "nova.service": 31.0}),
            "state booted: frozen once it was quiet, after 34 s (nova.service 31 s, a.service 4 s)",
        ),
        (Note(text="it is booted once more"), "it is booted once more"),
        (
            Finding(id="kernel-panic", what="it panicked\nat 0x1", where="m, boot 1"),
            "m, boot 1: it panicked [kernel-panic]",
        ),
        (Killed(machine="m", number=1), None),
    ],
)
def test_progress_shows_phases_ready_boots_notes_and_findings(event: Event, text: str | None) -> None:
    line = progress_line(Recorded(worker="gw0", time_s=0.0, event=event))

    assert (line[8:] if line else None) == (f"  gw0 {text}" if text else None)


def test_a_follower_shows_a_boots_finding_once_and_leaves_tests_to_pytest(tmp_path: Path) -> None:
    run, said = Run(tmp_path, "gw0"), list[str]()
    run.add_phase("m", 1, "kernel")
    for where in ("m, boot 1 (direct)", "o, boot 1 (direct)", "t.py::test_x"):
        run.add_finding(Finding(id="kernel-panic", what="it panicked", where=where))
    run.add_note("the end")
    follower = EventFollower([run], said.append, with_phases=False)

    follower.start()
    assert poll(lambda: len(said) > 1, Deadline(20), every_s=0.05)
    follower.stop()

    assert [line.partition("gw0 ")[2] for line in said] == ["m, boot 1 (direct): it panicked [kernel-panic]", "the end"]


def test_an_error_for_an_unwritable_run_names_folder_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"gone cannot be written: No such file or directory; .*--run-dir"):
        Run(tmp_path / "gone", "main").add_note("")


def test_a_value_that_was_half_written_is_overwritten_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".value.json.new").write_text("[1, 2, 3, 4, 5")

    serialization.write(tmp_path / "value.json", [1])

    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]
    assert serialization.read(list[int], tmp_path / "value.json") == [1]


def test_two_runs_in_one_second_have_two_folders(tmp_path: Path) -> None:
    first, second = (make_run_folder(tmp_path, "base") for _ in range(2))

    assert first != second
    assert (tmp_path / "latest").resolve() == second


def test_a_finding_survives_json() -> None:
    assert serialization.load(Finding, serialization.dump(finding(1))) == finding(1)


def test_a_failed_boot_crosses_processes_as_xdist_sends_it() -> None:
    error = BootFailed("m", finding(1), "/folder", "bootproof boot x")

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("begins", "ready", "awaited"),
    [
        ({"ipxe": 1.0, "kernel": 5.0}, 9.0, {"firmware": 1.0, "ipxe": 4.0, "kernel": 4.0}),
        ({"kernel": 2.0}, None, {"firmware": 2.0, "kernel": 0.0}),
        ({}, None, {"firmware": 0.0}),
    ],
)
def test_phases_last_until_the_next_begins(
    begins: dict[str, float], ready: float | None, awaited: dict[str, float]
) -> None:
    assert durations(begins, ready) == awaited

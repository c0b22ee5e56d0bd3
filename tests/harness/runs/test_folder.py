"""The run's folder keeps what happened, whoever wrote it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import HostError, Blame
from harness.machine.errors import BootFailed
from harness.machine.boot_files import durations
from harness.model.verdict import Finding
from harness.runs.folder import Run, make_run_folder


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


def test_a_run_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"gone cannot be written: No such file or directory; .*--run-dir"):
        Run(tmp_path / "gone", "main").add("note", {})


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

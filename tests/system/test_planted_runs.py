"""Findings without a machine: failed builds, exceeded sizes, a log that another program writes to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.model.verdict import Outcome

from .conftest import ROOT, Judge

LOOKS = """\
def test_it_has_a_kernel(artifacts):
    assert artifacts.kernel.exists()
"""
SCRIBBLES = """\
def test_somebody_writes_there(run):
    with (run.folder / "events.jsonl").open("a") as file:
        file.write("not an event\\n")
"""


def _nothing(_: Path) -> None:
    pass


def _outgrow(images: Path) -> None:
    file = images / "base" / "image.toml"
    before = file.read_text()
    file.write_text(before.replace("rootfs_mib = 250", "rootfs_mib = 20"))
    assert file.read_text() != before


def _break(images: Path) -> None:
    file = images / "base" / "playbook.yml"
    task = "  tasks:\n    - name: look for it\n      ansible.builtin.command: ls /no-such-thing\n"
    file.write_text(file.read_text().replace("- hosts: all\n", f"- hosts: all\n{task}"))


@pytest.mark.parametrize(
    ("change", "test", "found", "outcome", "status"),
    [
        (_nothing, SCRIBBLES, "event-unreadable", Outcome.INCONCLUSIVE, 75),
        (_outgrow, LOOKS, "over-budget", Outcome.FAILED, 1),
        (_break, LOOKS, "build-failed", Outcome.FAILED, 1),
    ],
    ids=["event-unreadable", "over-budget", "build-failed"],
)
def test_what_is_planted_is_named(
    change: Callable[[Path], None], test: str, found: str, outcome: Outcome, status: int, judge: Judge, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(ROOT / "images", images)
    change(images)
    (tmp_path / "test_mine.py").write_text(test)

    judged = judge("base", str(tmp_path / "test_mine.py"), images=images)

    assert (judged[0], judged[1].outcome) == (status, outcome)
    assert found in {finding.id for finding in judged[1].findings}


def test_a_store_that_cannot_be_written_is_the_hosts_fault(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "test_mine.py").write_text(LOOKS)
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "file" / "store"))

    status, verdict = judge("base", str(tmp_path / "test_mine.py"))

    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert {finding.id for finding in verdict.findings} == {"host-error"}

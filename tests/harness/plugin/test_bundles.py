"""Bundles of a run: of failed tests, of boots that the run interrupted, and of findings that came late."""

# ruff: noqa: F811  # fixtures of another file are arguments here

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core import serialization
from harness.machine.boot_plan import BootRecord
from harness.model.artifacts import Artifacts
from harness.model.events import Killed, ReportedTest, Unchecked
from harness.model.layout import BOOT_RECORD, FINDING, MEMORY
from harness.model.verdict import BootResult, Finding
from harness.plugin import bundles
from harness.plugin.options import RunOptions
from harness.replay.bundle import UNFINISHED
from harness.replay.bundle_read import unpack
from harness.runs.folder import Run

from ..replay.test_bundle import BASE, artifacts, boot  # noqa: F401  # pytest finds fixtures by name

LATE = Finding(id="kernel-oops", what="the kernel hit a bug", where="host1, boot 2 (direct)")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path, "main")
    for phase in ("queued", "firmware", "kernel"):
        run.add_phase("host1", 2, phase)
    return run


@pytest.fixture
def state(run: Run, artifacts: Artifacts) -> Any:
    folder = artifacts.folder
    prepared = SimpleNamespace(under_test=folder, old=folder, new=folder, newest=folder)
    options = RunOptions(definitions={"base": BASE})
    return SimpleNamespace(runs={"base": run}, prepared={"base": prepared}, options=options)


def _result(number: int, console: Path, *network_faults: str) -> BootResult:
    """A boot of ``host1`` that did not become ready."""
    return BootResult(
        machine="host1", number=number, boot_path="direct", artifacts="", phases={}, ready_s=None,
        console=str(console), added_arguments=(), network_faults=network_faults,
    )  # fmt: skip


def _end_well(run: Run, _: Path) -> None:
    run.add_phase("host1", 2, "ready")


def _end_badly(run: Run, boot: Path) -> None:
    run.add_boot(_result(2, boot))


def _wait(run: Run, _: Path) -> None:
    """Wait for a slot: the boot has not begun."""
    (run.folder / "events.jsonl").unlink()
    run.add_phase("host1", 2, "queued")


@pytest.mark.usefixtures("boot")
def test_a_boot_that_an_interrupt_ends_has_a_finding_and_a_bundle(run: Run, state: Any, tmp_path: Path) -> None:
    bundles.note_unfinished(run)
    bundles.keep_missing(state, "base")

    (finding,) = run.findings()
    assert (finding.id, finding.where, finding.blame) == (UNFINISHED, "host1, boot 2 (direct)", "harness")
    assert finding.what.endswith("s into this boot, in phase kernel")
    assert finding.evidence == ("[    0.00] Linux version 6.12",)
    (made,) = tmp_path.glob("*.bundle")
    (opened := tmp_path / "opened").mkdir()
    assert made.name == "host1-boot-2.bundle"
    assert unpack(made, opened).bundle.failure.finding == finding


def _is_killed(run: Run, _: Path) -> None:
    run.add(Killed(machine="host1", number=2))


def _is_clone(_: Run, boot: Path) -> None:
    plan = serialization.read(BootRecord, boot / BOOT_RECORD)
    serialization.write(boot / BOOT_RECORD, replace(plan, is_clone=True))


@pytest.mark.parametrize("ended", [_end_well, _end_badly, _wait, _is_killed, _is_clone])
def test_a_boot_that_has_ended_or_not_begun_was_not_interrupted(
    run: Run, boot: Path, ended: Callable[[Run, Path], None]
) -> None:
    ended(run, boot)
    bundles.note_unfinished(run)

    assert run.findings() == ()


def test_a_late_finding_has_its_bundle_and_then_the_copies_of_disks_are_removed(
    run: Run, state: Any, boot: Path, tmp_path: Path
) -> None:
    serialization.write(boot / FINDING, LATE)
    (boot / MEMORY).write_bytes(b"KDUMP")
    bundles.forget_bundled(run)
    assert list(boot.glob("disk-*")), "without a bundle they are still needed"

    bundles.keep_missing(state, "base")
    bundles.forget_bundled(run)

    (opened := tmp_path / "opened").mkdir()
    assert unpack(tmp_path / "host1-boot-2.bundle", opened).bundle.failure.finding == LATE
    assert not [*boot.glob("disk-*"), *boot.glob(MEMORY)]
    assert (opened / "disk-0.qcow2").exists()
    assert (opened / MEMORY).read_bytes() == b"KDUMP"


def test_a_bundle_that_cannot_be_written_is_a_sentence_in_the_verdict(run: Run, state: Any, boot: Path) -> None:
    serialization.write(boot / FINDING, LATE)
    (boot / "disk-0.qcow2").unlink()

    bundles.keep_missing(state, "base")

    assert [text.what.partition(":")[0] for text in run.of_kind(Unchecked)] == ["how to reproduce a failure"]


def test_a_bundle_of_a_flaky_test_says_how_often_it_failed_and_names_the_test_without_its_repeat(
    run: Run, state: Any, boot: Path, tmp_path: Path
) -> None:
    """A replay has no repeats."""
    for number, outcome in enumerate(["passed", "failed", "passed"], 1):
        for when in ("setup", "call"):
            name = f"t.py::test_x[base-repeat~{number}]"
            run.add(ReportedTest(test=name, when=when, outcome=outcome if when == "call" else "passed", took_s=1.0))
    run.add(ReportedTest(test="t.py::test_y[base-repeat~1]", when="call", outcome="failed", took_s=1.0))
    failed = replace(LATE, id="check-failed", where="t.py::test_x[base-repeat~4]")

    made = bundles.keep(state, "base", failed, boot, "t.py::test_x[base-repeat~4]")

    (opened := tmp_path / "opened").mkdir()
    assert made is not None
    assert made.name == "t.py-test_x-base-repeat-4.bundle"
    held = unpack(made, opened).bundle
    assert (held.failure.test, held.failure.finding.where) == ("t.py::test_x[base]", "t.py::test_x[base]")
    assert (held.failure.seen, held.failure.tries) == (2, 4)


def test_tests_that_fail_in_one_shared_machine_have_one_bundle(
    run: Run, state: Any, boot: Path, tmp_path: Path
) -> None:
    failed = replace(LATE, id="check-failed", where="t.py::test_x[base]")
    for name in ("test_x[base]", "test_y[base]", "test_x[base]", "test_z[base-repeat~2]"):
        noted = bundles.note_test(state, "base", replace(failed, where=f"t.py::{name}"), boot, f"t.py::{name}")

    assert noted == tmp_path / "host1-tests.bundle"
    assert not noted.exists(), "it is written when the run ends"
    bundles.keep_missing(state, "base")
    assert list(tmp_path.glob("*.bundle")) == [noted]
    (opened := tmp_path / "opened").mkdir()
    failure = unpack(noted, opened).bundle.failure
    assert (failure.test, failure.tests) == ("t.py::test_x[base]", ("t.py::test_y[base]", "t.py::test_z[base]"))
    assert failure.finding == failed
    bundles.forget_bundled(run)
    assert not list(boot.glob("disk-*"))


def test_a_bundle_of_a_flaky_boot_says_how_many_boots_like_it_failed(
    run: Run, state: Any, boot: Path, tmp_path: Path
) -> None:
    first = replace(LATE, id="something before it")
    for number, found in ((1, LATE), (2, first), (3, None), (4, replace(LATE, id="other")), (5, LATE)):
        folder = tmp_path / "host1" / f"boot-{number}"
        folder.mkdir(exist_ok=True)
        if found:
            serialization.write(folder / FINDING, found)
        run.add_boot(_result(number, folder / "console.log", *(["dhcp-late"] if number == 5 else [])))

    made = bundles.keep(state, "base", LATE, boot)

    (opened := tmp_path / "opened").mkdir()
    assert made is not None
    held = unpack(made, opened).bundle
    assert (held.failure.seen, held.failure.tries) == (2, 4)

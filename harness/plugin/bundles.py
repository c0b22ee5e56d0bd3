"""Bundles of a run: workers write those of failed tests, the controller those of failures that ended no test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.core import serialization
from harness.core.errors import Blame, BootproofError, HostError
from harness.machine.boot_plan import BootRecord
from harness.model.artifacts import load_artifacts
from harness.model.events import Killed, PhaseBegan, ReportedTest
from harness.model.layout import BOOT_RECORD, FAILURE, FINDING, MEMORY, bundle_name
from harness.model.verdict import BootResult, Finding, boot_name
from harness.plugin.state import RunState
from harness.replay import bundle
from harness.replay.bundle_write import write_bundle
from harness.runs.folder import Run
from harness.verdict.coverage import without_repeat

_EVIDENCE_LINES = 8


def keep(state: RunState, image: str, finding: Finding, boot: Path, test: str = "") -> Path | None:
    """The bundle of a ``test`` that failed in a machine whose last boot is in the folder ``boot``, or of that boot.

    If it cannot be written, the verdict says why. One that exists already was written for another test that needed this
    boot, or for the same test before its teardown failed too.
    """
    run = state.runs[image]
    target = run.folder / _name(boot, test)
    return target if target.exists() else _write(state, image, _failure(state, run, finding, boot, test), boot, target)


def note_test(state: RunState, image: str, finding: Finding, boot: Path, test: str) -> Path:
    """Note in the folder ``boot`` that ``test`` failed in this machine, which others use too; the path of the bundle
    that `keep_missing` makes of it."""
    run, file = state.runs[image], boot / FAILURE
    with suppress(OSError):  # a full disk
        failure = _failure(state, run, finding, boot, test)
        if file.exists():
            first, base = serialization.read(bundle.Failure, file), failure.test
            tests = dict.fromkeys([*first.tests, *([base] if base != first.test else [])])
            failure = replace(first, tests=tuple(tests))
        serialization.write(file, failure)
    return _bundle_of_tests(run, boot)


def _bundle_of_tests(run: Run, boot: Path) -> Path:
    return run.folder / bundle_name(f"{boot.parent.name}-tests")


def _failure(state: RunState, run: Run, finding: Finding, boot: Path, test: str) -> bundle.Failure:
    base = without_repeat(test)[0]
    seen, tries = _tests(run, test) if test else _boots(run, boot, finding)
    shown = replace(finding, where=base) if test else finding
    return bundle.Failure(finding=shown, test=base, seed=state.options.seed, seen=seen, tries=tries)


def _write(state: RunState, image: str, failure: bundle.Failure, boot: Path, target: Path) -> Path | None:
    run, prepared, options = state.runs[image], state.prepared[image], state.options
    try:
        return write_bundle(
            target,
            failure,
            boot,
            map(load_artifacts, {prepared.under_test, prepared.old, prepared.new, prepared.newest}),
            options.definitions[image],
            with_artifacts=options.bundle_artifacts,
        )
    except (BootproofError, OSError, ValueError) as problem:
        with suppress(HostError):
            run.add_unchecked(f"how to reproduce a failure: {target.name} could not be written: {problem}")
        return None


def _tests(run: Run, test: str) -> tuple[int, int]:
    """How many repeats of ``test`` failed, with this one, and how many ran."""
    failed = {test: True}
    for part in run.of_kind(ReportedTest):
        if without_repeat(part.test)[0] == without_repeat(test)[0]:
            failed[part.test] = failed.get(part.test, False) or part.outcome == "failed"
    return sum(failed.values()), len(failed)


def _boots(run: Run, boot: Path, finding: Finding) -> tuple[int, int]:
    """How many boots like this one have the finding, with this one, and how many there were."""
    boots = {Path(one.console).parent: one for one in run.boots() if not one.run}
    mine = boots.pop(boot, None)
    others = [folder for folder, one in boots.items() if mine is not None and one.is_like(mine)]
    seen = 1
    for folder in others:
        with suppress(OSError, ValueError):  # most boots have no finding
            seen += serialization.read(Finding, folder / FINDING).id == finding.id
    return seen, 1 + len(others)


def _name(boot: Path, test: str) -> str:
    return bundle_name(test or f"{boot.parent.name}-{boot.name}")


def keep_missing(state: RunState, image: str) -> None:
    """Bundles of shared machines in which tests failed, and of boots with a finding that ended no test, such as a
    console pattern that matched late."""
    run = state.runs[image]
    for file in sorted(run.folder.glob(f"*/boot-*/{FAILURE}")):
        with suppress(OSError, ValueError):  # its worker ended while it was writing
            failure = serialization.read(bundle.Failure, file)
            _write(state, image, failure, file.parent, _bundle_of_tests(run, file.parent))
    for file in sorted(run.folder.glob(f"*/boot-*/{FINDING}")):
        with suppress(OSError, ValueError):
            keep(state, image, serialization.read(Finding, file), file.parent)


def note_unfinished(run: Run) -> None:
    """A finding for each boot that had not ended when the run was interrupted."""
    for boot, phase, began_s in _under_way(run):
        with suppress(OSError, ValueError):
            plan = serialization.read(BootRecord, boot / BOOT_RECORD)
            if plan.is_clone:
                continue
            lines = (boot / "console.log").read_text("utf-8", "replace").splitlines()[-_EVIDENCE_LINES:]
            finding = Finding(
                id=bundle.UNFINISHED,
                what=f"the run was interrupted {time.time() - began_s:.0f} s into this boot, in phase {phase}",
                where=boot_name(plan.spec.name, plan.number, plan.boot_path),
                blame=Blame.HARNESS,
                evidence=tuple(lines),
                cause="a hang, if other boots of this kind were faster; otherwise it had no time to end",
            )
            run.add_finding(finding)
            serialization.write(boot / FINDING, finding)


def _under_way(run: Run) -> Iterator[tuple[Path, str, float]]:
    """The folder of each boot that neither became ready nor failed nor was killed, its last phase, when it began."""
    begun, last, ended = dict[Path, float](), dict[Path, str](), set[Path]()
    for recorded in run.events():
        match recorded.event:
            case PhaseBegan(phase=phase) as began if phase != "queued":
                boot = run.folder / began.machine / f"boot-{began.boot}"
                begun.setdefault(boot, recorded.time_s)
                last[boot] = phase
            case BootResult() | Killed() as end:
                ended.add(run.folder / end.machine / f"boot-{end.number}")
    for boot, began_s in begun.items():
        if boot not in ended and last[boot] != "ready" and not (boot / FINDING).exists():
            yield boot, last[boot], began_s


def forget_bundled(run: Run) -> None:
    """Remove copies of disks and memory from boots whose bundle contains them."""
    for copy in (*run.folder.glob("*/boot-*/disk-*"), *run.folder.glob(f"*/boot-*/{MEMORY}")):
        boot = copy.parent
        if not (boot / FINDING).exists() or (run.folder / _name(boot, "")).exists():
            copy.unlink(missing_ok=True)

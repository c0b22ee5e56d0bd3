"""A verdict is a function of what a run recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.model.definition import load_definition
from harness.model.events import (
    Cloned,
    Event,
    Note,
    PlannedTest,
    PowerCutsJudged,
    Prepared,
    Recorded,
    ReportedTest,
    Unchecked,
)
from harness.model.machine_spec import Accelerator, BootPath
from harness.model.verdict import BootResult, Finding, Outcome, UnitWait, Verdict
from harness.runs.record import record_of
from harness.verdict.assemble import Scope, Subject, assemble
from harness.verdict.coverage import required_checks

from ... import samples

BASE = replace(load_definition(Path(__file__).parents[3] / "images" / "base"), boot_paths=(BootPath.DIRECT,))
SCOPE = Scope(
    definition=BASE,
    boot_paths=(BootPath.DIRECT,),
    suites=(),
    is_thorough=False,
    started=datetime(2026, 11, 29, tzinfo=UTC),
    elapsed_s=61.04,
)
CHECKS = [check for check in required_checks(BASE) if not check.startswith("boot:")]
FINDING = Finding(id="kernel-panic", what="the kernel panicked", where="m, boot 1 (direct)")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = samples.artifacts(tmp_path / "artifacts", "1")
    return Subject(
        artifacts=made, accelerator=Accelerator.KVM, digests={"artifacts": made.digest}, host={"system": "x"}
    )


def boot(subject: Subject, ready_s: float | None = 20.0) -> BootResult:
    return BootResult(
        machine="m", number=1, boot_path="direct", artifacts=subject.artifacts.digest, phases={}, ready_s=ready_s,
        console="", added_arguments=(),
    )  # fmt: skip


def planned(test: str, *checks: str) -> PlannedTest:
    return PlannedTest(test=test, file="t.py", checks=checks, group=test)


def reported(test: str, outcome: str = "passed", when: str = "call", *, console: str = "") -> ReportedTest:
    return ReportedTest(test=test, when=when, outcome=outcome, took_s=2.0, console=console)


def good(subject: Subject) -> list[Event]:
    """What a run records that proves everything."""
    return [planned("t::all", *CHECKS), boot(subject), reported("t::all")]


def verdict(events: list[Event], subject: Subject | None) -> Verdict:
    record = record_of(Recorded(worker="gw0", time_s=1.0, event=event) for event in events)
    return assemble(SCOPE, subject, record, (60.0, 200.0))


def test_all_required_checks_make_it_passed(subject: Subject) -> None:
    made = verdict(good(subject), subject)

    assert (made.outcome, made.findings) == (Outcome.PASSED, ())
    assert made.coverage.passed == (*CHECKS, "boot:direct")
    assert (made.digests, made.host) == (subject.digests, {"system": "x"})
    assert (made.started, made.elapsed_s) == ("2026-11-29T00:00:00+00:00", 61.0)


@pytest.mark.parametrize(
    ("blames", "outcome"),
    [
        ([Blame.HOST], Outcome.INCONCLUSIVE),
        ([Blame.HARNESS], Outcome.INCONCLUSIVE),
        ([Blame.HOST, Blame.IMAGE], Outcome.FAILED),
    ],
)
def test_blame_decides_and_one_failure_of_the_image_outranks_the_rest(
    subject: Subject, blames: list[Blame], outcome: Outcome
) -> None:
    found: list[Event] = [replace(FINDING, blame=blame) for blame in blames]

    assert verdict([*good(subject), *found], subject).outcome is outcome


WAITS = (UnitWait(unit="sleeper.service", idle_s=40.0),)
WAITED = Finding(id="boot-waits", what="whatever was noted when it booted", where="m, boot 1 (direct)")


def test_a_boot_that_waited_fails_also_if_an_earlier_run_made_it(subject: Subject) -> None:
    boots: list[Event] = [
        replace(boot(subject), idle_s=40.0, waits=WAITS, run=run, number=len(run)) for run in ("", "/runs/earlier")
    ]

    made = verdict([*good(subject), *boots, WAITED], subject)

    assert made.outcome is Outcome.FAILED
    (finding,) = made.findings
    assert finding.what.startswith("the boot waited 40 s with idle CPUs, for sleeper.service")
    assert (finding.where, finding.places) == ("m, boot 0 (direct)", ("m, boot 13 (direct)",))


def test_waits_of_another_version_from_which_a_machine_is_upgraded_do_not_count(subject: Subject) -> None:
    older = replace(boot(subject), artifacts="0" * 64, idle_s=40.0, waits=WAITS)

    made = verdict([*good(subject), older, WAITED], subject)

    assert (made.outcome, made.findings) == (Outcome.PASSED, ())


def test_a_boot_that_began_in_the_initrd_proves_no_boot_path(subject: Subject) -> None:
    begun = replace(boot(subject), begins="initrd")

    made = verdict([planned("t::all", *CHECKS), begun, reported("t::all")], subject)

    assert made.outcome is Outcome.INCONCLUSIVE
    assert "boot:direct" in made.coverage.missing


def test_a_test_whose_teardown_fails_has_failed(subject: Subject) -> None:
    made = verdict([*good(subject), reported("t::all", "failed", "teardown")], subject)

    assert made.outcome is Outcome.INCONCLUSIVE, "its finding comes from the worker"
    assert set(made.coverage.failed) == set(CHECKS)


@pytest.mark.parametrize("when", ["setup", "call"])
def test_a_test_that_is_not_applicable_gives_its_check_the_reason(subject: Subject, when: str) -> None:
    said = replace(reported("t::links", "skipped", when), not_applicable="no link")
    others = [check for check in CHECKS if check != "links"]
    plan: list[Event] = [planned("t::all", *others), planned("t::links", "links"), boot(subject), reported("t::all")]

    made = verdict([*plan, said, reported("t::links", when="teardown")], subject)

    assert (made.outcome, made.coverage.not_applicable) == (Outcome.PASSED, {"links": "no link"})
    assert "links" not in made.coverage.passed
    torn = verdict([*plan, said, reported("t::links", "failed", "teardown")], subject)
    assert (torn.coverage.failed, torn.coverage.not_applicable) == (("links",), {})


@pytest.mark.parametrize("part", [[], [reported("t::all", "skipped", "setup")], [reported("t::all", when="setup")]])
def test_a_planned_test_without_a_passed_call_is_missing(subject: Subject, part: list[Event]) -> None:
    made = verdict([planned("t::all", *CHECKS), boot(subject), *part], subject)

    assert made.outcome is Outcome.INCONCLUSIVE
    assert made.coverage.missing == tuple(CHECKS)


def test_a_boot_path_is_proven_by_a_boot_of_these_artifacts_that_became_ready(subject: Subject) -> None:
    others = [replace(boot(subject), artifacts="b" * 64), boot(subject, ready_s=None)]
    made = verdict([planned("t::all", *CHECKS), reported("t::all"), *others], subject)

    assert made.coverage.missing == ("boot:direct",)


def test_without_anything_to_boot_the_finding_is_all_there_is() -> None:
    made = verdict([replace(FINDING, id="build-failed")], None)

    assert (made.outcome, made.digests, made.cost) == (Outcome.FAILED, {}, None)


def test_the_same_finding_or_sentence_counts_once(subject: Subject) -> None:
    twice: list[Event] = [FINDING, FINDING, Unchecked(what="links"), Unchecked(what="links"), Note(text="x")]
    made = verdict([*good(subject), *twice], subject)

    assert made.findings == (FINDING,)
    assert made.coverage.unchecked == ("links",)


def test_a_test_that_passed_and_failed_is_a_flake_with_both_consoles(subject: Subject, tmp_path: Path) -> None:
    events = good(subject)
    for number, outcome in enumerate(["passed", "failed", "passed"], 1):
        console = tmp_path / f"console-{number}"
        console.write_text(f"line of {number}\n")
        events += [
            planned(f"t::x[base-repeat~{number}]", "services"),
            reported(f"t::x[base-repeat~{number}]", outcome, console=str(console)),
        ]
    made = verdict(events, subject)

    (flake,) = made.findings
    assert (flake.id, flake.where, made.outcome) == ("flake", "t::x[base]", Outcome.FAILED)
    assert flake.what == "it passed in 2 of 3 repeats on the same bytes"
    assert [line.strip() for line in flake.evidence[1::2]] == ["line of 1", "line of 2"]
    assert [(rate.check, rate.passed, rate.repeats) for rate in made.rates] == [("services", 2, 3)]


def test_power_cuts_count_without_those_that_lost_data(subject: Subject) -> None:
    judged = PowerCutsJudged(took_s=1.0, fates={"intact": 900, "repaired": 90, "lost": 10})

    assert verdict([*good(subject), judged], subject).coverage.power_cuts == 990


def test_the_cost_counts_this_runs_boots_and_clones(subject: Subject) -> None:
    events = [
        Prepared(took_s=30.0, worked_s=10.0, all_s=100.0),
        *good(subject),
        replace(boot(subject), run="/runs/earlier"),
        Cloned(machine="c", state="booted", took_s=0.5, mib=300),
        reported("t::all", when="teardown"),
    ]
    cost = verdict(events, subject).cost

    assert cost is not None
    assert (cost.prepared_s, cost.boots, cost.boots_s, cost.clones, cost.clones_s) == (30.0, 1, 20.0, 1, 0.5)
    assert cost.cores_busy == 0.5
    assert cost.longest_s == {"t::all": 4.0}
    assert set(cost.checks_s.values()) == {4.0}
    assert {"image", "survival"} <= set(cost.checks_s)

"""A failure of a boot that began in the initrd counts only if the boot from power-on fails, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import Blame, HostError
from harness.machine.confirm import confirm
from harness.machine.errors import BootFailed
from harness.model.events import Note
from harness.model.verdict import Finding
from harness.runs.folder import Run

IN_INITRD, FROM_POWER_ON = "initrd", "power-on"
Outcome = Callable[[Run], None]


def passes(run: Run) -> None:
    run.add_note("it boots")


def fails(run: Run, blame: Blame = Blame.IMAGE) -> None:
    finding = Finding(id="boot-hangs", what="the boot hangs", where="cut-1", evidence=("a line",), blame=blame)
    run.add_finding(finding)
    raise BootFailed("cut-1", finding, "folder", "by hand")


def is_on_a_bad_host(run: Run) -> None:
    fails(run, Blame.HOST)


def is_claimed(_: Run) -> None:
    raise AssertionError("a file is missing")


def finds_without_failing(run: Run) -> None:
    run.add_finding(Finding(id="unit-failed", what="a unit failed", where="cut-1"))


def has_no_room(_: Run) -> None:
    raise HostError("no space left")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, "gw0")


@pytest.fixture
def made(run: Run) -> Callable[[Outcome, Outcome], list[str]]:
    """Confirms with an outcome each; returns what was booted."""
    (run.folder / "cut-1").mkdir()

    def confirmed(first: Outcome, second: Outcome) -> list[str]:
        booted = []

        def examine(make: str, run: Run, folder: Path) -> None:
            assert folder.is_dir()
            booted.append(make)
            (first if make == IN_INITRD else second)(run)

        try:
            confirm(examine, in_initrd=IN_INITRD, from_power_on=FROM_POWER_ON, run=run, folder=run.folder / "cut-1")
        except (BootFailed, AssertionError, HostError) as error:
            booted.append(type(error).__name__)
        return booted

    return confirmed


Made = Callable[[Outcome, Outcome], list[str]]


def ids(run: Run) -> list[tuple[str, Blame]]:
    return [(finding.id, finding.blame) for finding in run.findings()]


def test_a_boot_that_passes_counts_at_once(made: Made, run: Run) -> None:
    assert made(passes, fails) == [IN_INITRD]
    assert [recorded.event for recorded in run.events()] == [Note(text="it boots")]


def test_a_failure_from_power_on_is_the_images(made: Made, run: Run) -> None:
    assert made(fails, fails) == [IN_INITRD, FROM_POWER_ON, "BootFailed"]
    assert ids(run) == [("boot-hangs", Blame.IMAGE)]


@pytest.mark.parametrize("failure", [fails, is_claimed, finds_without_failing])
def test_a_failure_that_is_not_confirmed_is_bootproofs(failure: Outcome, made: Made, run: Run) -> None:
    assert made(failure, passes) == [IN_INITRD, FROM_POWER_ON]
    assert ids(run) == [("initrd-start-differs", Blame.HARNESS)]


def test_a_finding_from_power_on_is_kept_beside_an_unconfirmed_failure(made: Made, run: Run) -> None:
    assert made(is_claimed, finds_without_failing) == [IN_INITRD, FROM_POWER_ON]
    assert ids(run) == [("unit-failed", Blame.IMAGE)]


@pytest.mark.parametrize(("failure", "error"), [(is_on_a_bad_host, "BootFailed"), (has_no_room, "HostError")])
def test_a_failure_of_the_host_counts_at_once(failure: Outcome, error: str, made: Made, run: Run) -> None:
    assert made(failure, passes) == [IN_INITRD, error]
    assert "initrd-start-differs" not in dict(ids(run))


def test_what_is_not_confirmed_stays_readable(made: Made, run: Run) -> None:
    made(fails, passes)

    (note,) = (
        recorded.event
        for recorded in run.events()
        if isinstance(recorded.event, Note) and "power-on" in recorded.event.text
    )
    assert "the boot hangs [boot-hangs]" in note.text
    assert "boot-hangs" in (run.folder / "cut-1" / "trial-events.jsonl").read_text("utf-8")

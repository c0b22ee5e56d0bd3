"""--repeat makes a fresh boot for each repeat; a test that both passed and failed is a flake, and is not retried."""

from __future__ import annotations

from pathlib import Path

from harness.model.verdict import Outcome

from .conftest import Judge
from .test_planted_images import text_of

FLAKY = """
from pathlib import Path
import pytest

SEEN = Path({seen!r})

@pytest.mark.check("services")
def test_the_same_boot(host):
    boot = host.check_output("cat /proc/sys/kernel/random/boot_id")
    if not SEEN.exists():
        SEEN.write_text(boot)
    assert SEEN.read_text() == boot
"""


def test_what_passed_in_one_boot_and_failed_in_another_is_a_flake(judge: Judge, tmp_path: Path) -> None:
    file = tmp_path / "test_flaky.py"
    file.write_text(FLAKY.format(seen=str(tmp_path / "seen")))

    status, verdict = judge("base", "-n0", "--boots=2", str(file))

    flakes = [finding for finding in verdict.findings if finding.id == "flake"]
    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert [finding.where.rpartition("::")[2] for finding in flakes] == ["test_the_same_boot[base]"]
    assert "it passed in 1 of 2 repeats" in text_of(flakes[0])
    assert "passed in boot~1, " in text_of(flakes[0])
    assert "failed in boot~2, " in text_of(flakes[0])
    rates = {rate.check: rate for rate in verdict.rates}
    assert (rates["services"].passed, rates["services"].repeats) == (1, 2)
    assert len({boot.machine + str(boot.number) + boot.console for boot in verdict.boots if boot.ready_s}) >= 2

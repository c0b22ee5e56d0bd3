"""The verdict on a terminal: findings first, then coverage, then where the files are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.model.layout import ATTESTATION
from harness.model.verdict import Cost, Finding, Outcome, Rate
from harness.report.terminal import format_verdict

from ... import samples

FINDING = Finding(
    id="dhcp-unanswered",
    what="no answer to DHCP",
    where="m, boot 1 (ipxe-bios)",
    evidence=tuple(f"line {number}" for number in range(9)),
    cause="a slow port",
)


def test_a_finding_has_blame_place_evidence_cause_and_next_step(tmp_path: Path) -> None:
    lines = list(format_verdict(samples.verdict((), (FINDING,)), tmp_path))

    assert lines[:3] == [
        "image: no answer to DHCP [dhcp-unanswered]",
        "    where: m, boot 1 (ipxe-bios)",
        "    | line 3",
    ]
    assert "    cause: a slow port" in lines
    assert "    next: compare the MAC address in network.log with the server's table" in lines


def test_a_failure_can_be_reproduced_with_the_command_shown(tmp_path: Path) -> None:
    bundle = tmp_path / "m-boot-1.bundle"
    for file in (bundle, tmp_path / "report.html", tmp_path / ATTESTATION):
        file.touch()
    lines = list(format_verdict(samples.verdict((), ()), tmp_path))

    assert f"reproduce: bootproof replay {bundle}" in lines
    assert f"verdict: {tmp_path / 'verdict.json'}" in lines
    assert f"report: {tmp_path / 'report.html'}" in lines
    assert f"attested: {tmp_path / ATTESTATION}" in lines


def test_an_inconclusive_verdict_says_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    made = samples.verdict((), ())
    coverage = replace(made.coverage, missing=("ssh",), unchecked=("packets",))
    cost = Cost(prepared_s=9, boots=1, boots_s=20, clones=2, clones_s=1, cores_busy=0.5, longest_s={"t::x": 3.0})
    rate = Rate(check="services", passed=2, repeats=3, low=0.2, high=0.9)
    seen = replace(made, outcome=Outcome.INCONCLUSIVE, coverage=coverage, cost=cost, rates=(rate,))

    lines = list(format_verdict(seen, tmp_path))

    assert "required checks that did not run, or not completely: ssh" in lines
    assert "could not be checked: packets" in lines
    assert "services passed in 2 of 3 repeats: 20% to 90% with 95 % confidence" in lines
    assert "longest: x 3 s" in lines
    assert lines[-1] == "inconclusive: fix the host, or run all required checks, and run again"


def test_a_check_that_is_not_applicable_has_a_line_with_its_reason_and_does_not_count(tmp_path: Path) -> None:
    made = samples.verdict((), (), outcome=Outcome.PASSED)
    coverage = replace(made.coverage, failed=(), missing=(), not_applicable={"ordering": "systemd 252"})

    lines = list(format_verdict(replace(made, coverage=coverage), tmp_path))

    assert "not applicable: ordering: systemd 252" in lines
    assert any("PASSED. 7 of 7 required checks passed (1 not applicable), " in line for line in lines)

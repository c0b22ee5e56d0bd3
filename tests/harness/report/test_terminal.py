"""The verdict on a terminal: findings first, then coverage, then where the files are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.core.errors import Blame
from harness.model.layout import ATTESTATION
from harness.model.verdict import Cost, Finding, Outcome, Rate
from harness.report.terminal import Shown, format_verdict

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
        "nova-kvm 2026.11: FAILED: no answer to DHCP [dhcp-unanswered]",
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

    assert lines[0] == (
        "nova-kvm 2026.11: INCONCLUSIVE: required checks failed: survival; did not run, or not completely: ssh"
    )
    assert "could not be checked: packets" in lines
    assert "services passed in 2 of 3 repeats: 20% to 90% with 95 % confidence" in lines
    assert "longest: x 3 s" in lines
    assert lines[-1] == "inconclusive: fix the host, or run all required checks, and run again"


def test_the_first_line_says_the_cause_and_counts_the_other_findings(tmp_path: Path) -> None:
    others = [replace(FINDING, what=what, blame=Blame.HOST) for what in ("no room", "no network")]

    lines = list(format_verdict(samples.verdict((), (FINDING, *others)), tmp_path))

    assert lines[0] == "nova-kvm 2026.11: FAILED: no answer to DHCP [dhcp-unanswered] (+ 2 more findings)"
    assert "host: no room [dhcp-unanswered]" in lines


def test_a_passed_verdict_is_one_line(tmp_path: Path) -> None:
    line = next(format_verdict(samples.verdict((), (), outcome=Outcome.PASSED), tmp_path))

    assert line.startswith("nova-kvm 2026.11: PASSED. 7 of 10 required checks passed, 0 of 0 boots became ready (")


def test_a_boot_has_its_bundle_places_and_the_tests_that_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "m-boot-1.bundle").touch()
    (tmp_path / "o-boot-2.bundle").touch()
    places = tuple(f"o, boot {number} (grub)" for number in range(2, 6))
    found = replace(FINDING, places=places, tests=("a::x", "a::y", "a::z"))

    lines = list(format_verdict(samples.verdict((), (found,)), tmp_path, Shown(failed=frozenset({"a::z"}))))

    assert "    where: m, boot 1 (ipxe-bios); o, boot 2 (grub); o, boot 3 (grub); and 2 more" in lines
    assert [line for line in lines if "replay" in line] == [
        f"    reproduce: bootproof replay {tmp_path / 'm-boot-1.bundle'}"
    ]
    assert "2 tests need a booted machine and did not run" in lines
    assert "1 test failed because of it" in lines


def test_a_boot_that_pytest_quotes_has_its_bundle_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "m-boot-1.bundle").touch()
    found = replace(FINDING, tests=("a::x",))
    ran = frozenset({"a::x"})

    lines = list(format_verdict(samples.verdict((), (found,)), tmp_path, Shown(failed=ran, listed=ran, quoted=ran)))

    assert lines[1:3] == ["    where: m, boot 1 (ipxe-bios)", "1 test failed because of it"]
    assert f"reproduce: bootproof replay {tmp_path / 'm-boot-1.bundle'}" in lines


def test_what_pytest_shows_is_not_repeated(tmp_path: Path) -> None:
    found = [replace(FINDING, id="check-failed", where=f"a::{name}") for name in "xyz"]
    shown = Shown(failed=frozenset({"a::x", "a::y"}), listed=frozenset({"a::x", "a::y"}))

    lines = list(format_verdict(samples.verdict((), tuple(found)), tmp_path, shown))

    assert lines[1:4] == ["    where: a::x", "image: no answer to DHCP [check-failed]", "    where: a::z"]
    assert not any("a::y" in line for line in lines)


def test_only_ten_findings_are_printed(tmp_path: Path) -> None:
    found = tuple(replace(FINDING, where=f"a::{number}") for number in range(60))

    lines = list(format_verdict(samples.verdict((), found), tmp_path))

    assert sum(line.startswith("    where:") for line in lines) == 10
    assert "50 more findings: see the report" in lines


def test_only_three_bundles_of_several_tests_are_printed(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"shared-gw{number}-tests.bundle").touch()

    lines = list(format_verdict(samples.verdict((), (FINDING,)), tmp_path))

    assert sum("bootproof replay" in line and line.startswith("reproduce") for line in lines) == 3
    assert f"2 more bundles: {tmp_path}/*.bundle" in lines


def test_a_check_that_is_not_applicable_has_a_line_with_its_reason_and_does_not_count(tmp_path: Path) -> None:
    made = samples.verdict((), (), outcome=Outcome.PASSED)
    coverage = replace(made.coverage, failed=(), missing=(), not_applicable={"ordering": "systemd 252"})

    lines = list(format_verdict(replace(made, coverage=coverage), tmp_path))

    assert "not applicable: ordering: systemd 252" in lines
    assert any("PASSED. 7 of 7 required checks passed (1 not applicable), " in line for line in lines)


def test_boots_that_began_in_the_initrd_are_counted_apart(tmp_path: Path) -> None:
    ready, begun, failed = (samples.boot(tmp_path, number, "direct") for number in (1, 2, 3))
    boots = (ready, replace(begun, begins="initrd"), replace(failed, ready_s=None))

    lines = list(format_verdict(samples.verdict(boots, (), outcome=Outcome.PASSED), tmp_path))

    assert "2 of 3 boots became ready (1 begun in the initrd)" in lines[0]

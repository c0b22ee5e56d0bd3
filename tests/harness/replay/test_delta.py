"""The smallest change, found in answers that are given: over versions, over parts, and with what flickers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.model.artifacts import Artifacts, difference
from harness.model.definition import load_definition
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec, NicModel, NicSpec
from harness.replay.attempt import Case
from harness.replay.delta import (
    Difference,
    Judge,
    Odds,
    TryOutcome,
    _mixed_arguments,
    _of_arguments,
    differences,
    mixed,
    narrow,
    neighbours,
    smallest,
    told,
)

from ... import samples

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")


@pytest.fixture
def good(tmp_path: Path) -> Case:
    spec = MachineSpec(
        name="m", uuid=uuid.UUID(int=1), boot_path=BootPath.IPXE_BIOS, disks=(DiskSpec(path=Path("data"), serial="a"),)
    )
    return Case(spec=spec, artifacts=samples.artifacts(tmp_path / "good", "1"), definition=BASE)


@pytest.fixture
def bad(tmp_path: Path, good: Case) -> Case:
    """Another build, with another machine and other network faults."""
    newer = samples.artifacts(tmp_path / "bad", "2")
    arguments = (*newer.manifest.kernel_arguments, "nosmt")
    spec = replace(good.spec, memory_mib=512, nics=(NicSpec(model=NicModel.E1000E),), uuid=uuid.UUID(int=2))
    manifest = replace(newer.manifest, kernel_arguments=arguments)
    disk = tmp_path / "disk"
    disk.write_bytes(b"content")
    artifacts = Artifacts(folder=newer.folder, manifest=manifest)
    return replace(good, spec=spec, artifacts=artifacts, network_faults=("dhcp-late",), disks=(disk,))


def test_all_in_which_they_differ_is_named(good: Case, bad: Case) -> None:
    said = [str(part) for part in differences(good, bad)]

    assert [line.split()[0] for line in said] == [
        "kernel", "initrd", "root", "argument", "memory_mib", "nics", "disks", "network"
    ]  # fmt: skip
    assert said[3:6] == ["argument none → nosmt", "memory_mib 2048 → 512", "nics virtio True → e1000e True"]
    assert said[-1] == "network faults dhcp-late"
    assert differences(good, good) == ()


def test_a_mix_is_good_but_for_what_was_taken(good: Case, bad: Case, tmp_path: Path) -> None:
    by_name = {part.name: part for part in differences(good, bad)}
    taken = [by_name["kernel"], by_name["argument nosmt"], by_name["memory_mib"], by_name["disks"]]

    case = mixed(good, bad, taken, tmp_path / "mix")

    assert case.artifacts.kernel.resolve() == bad.artifacts.kernel
    assert case.artifacts.initrd.resolve() == good.artifacts.initrd
    assert case.artifacts.rootfs.resolve() == good.artifacts.rootfs
    assert difference(case.artifacts) == ""
    assert case.artifacts.manifest.version == good.artifacts.manifest.version
    assert case.artifacts.manifest.kernel_arguments == bad.artifacts.manifest.kernel_arguments
    assert (case.spec.memory_mib, case.spec.nics) == (512, good.spec.nics)
    assert (case.network_faults, case.disks) == ((), bad.disks)


def test_all_parts_make_the_bad_one(good: Case, bad: Case, tmp_path: Path) -> None:
    case = mixed(good, bad, differences(good, bad), tmp_path / "mix")

    assert case.artifacts.manifest.files == bad.artifacts.manifest.files
    assert case.artifacts.manifest.kernel_arguments == bad.artifacts.manifest.kernel_arguments
    assert differences(case, bad) == ()


@pytest.mark.parametrize(
    ("good", "bad", "parts"),
    [
        (["a=1", "b"], ["a=2", "b"], ["argument a"]),
        (["console=tty0", "console=ttyS0"], ["console=ttyS0", "console=tty0"], ["argument console"]),
        (["a", "b"], ["b", "a"], ["order of arguments"]),
        (["z"], ["a=2", "z"], ["argument a"]),
        (["quiet"], ["quiet", "quiet"], ["argument quiet"]),
        (["a"], ["a"], []),
    ],
)
def test_arguments_differ_by_key_and_in_order(good: list[str], bad: list[str], parts: list[str]) -> None:
    found = list(_of_arguments(good, bad))

    assert [part.name for part in found] == parts
    assert _mixed_arguments(good, bad, found) == tuple(bad)
    assert _mixed_arguments(good, bad, []) == tuple(good)


def test_a_test_makes_its_own_machine(good: Case, bad: Case) -> None:
    names = {part.name for part in differences(replace(good, test="t.py::x"), replace(bad, test="t.py::x"))}

    assert names == {"kernel", "initrd", "root file system", "argument nosmt", "network faults"}


def test_cases_that_cannot_be_told_apart_are_refused(good: Case, tmp_path: Path) -> None:
    judge = Judge(attempt=lambda _: (), times=1, say=lambda _: None)

    with pytest.raises(UsageError, match="differ in nothing"):
        narrow(good, good, judge, tmp_path / "mixes")


def test_one_bad_try_outranks_others(good: Case) -> None:
    turns = iter([("unit-failed",), ("boot-hangs",)])
    judge = Judge(attempt=lambda _: next(turns), times=2, say=lambda _: None, awaited="boot-hangs")

    assert judge.judge(good, "it") is TryOutcome.BAD


def _breaks(*names: str) -> Callable[[Case], tuple[str, ...]]:
    """What a machine shows in which all of these are as in BAD."""

    def attempt(case: Case) -> tuple[str, ...]:
        seen = {
            "memory": case.spec.memory_mib == 512,
            "network faults": bool(case.network_faults),
            "kernel": case.artifacts.kernel.resolve().parent.name == "bad",
        }
        return ("boot-hangs",) if all(seen[name] for name in names) else ()

    return attempt


@pytest.mark.parametrize("names", [("memory",), ("kernel",), ("memory", "network faults")])
def test_the_smallest_change_is_found(names: tuple[str, ...], good: Case, bad: Case, tmp_path: Path) -> None:
    said = list[str]()
    judge = Judge(attempt=_breaks(*names), times=1, say=said.append)
    judge.begin(good, bad)

    found = narrow(good, bad, judge, tmp_path / "mixes")

    assert [part.name.removesuffix("_mib") for part in found] == list(names)
    assert said[:2] == ["BAD shows boot-hangs in 1 of 1", "GOOD: good"]
    lines = list(told(found, judge))
    assert lines[0].startswith("boot-hangs comes with: ")
    assert lines[1].endswith("; BAD showed it in 1 of 1; if it comes and goes, --times 5 is surer")


def test_a_mix_that_shows_something_else_tells_nothing(good: Case, bad: Case, tmp_path: Path) -> None:
    def attempt(case: Case) -> tuple[str, ...]:
        is_kernel = case.artifacts.kernel.resolve().parent.name == "bad"
        is_rootfs = case.artifacts.rootfs.resolve().parent.name == "bad"
        if is_kernel and is_rootfs:
            return ("unit-failed",)
        return ("kernel-panic",) if is_kernel else ()

    judge = Judge(attempt=attempt, times=1, say=lambda _: None)
    judge.begin(good, bad)

    assert [part.name for part in narrow(good, bad, judge, tmp_path / "mixes")] == ["kernel", "root file system"]


@pytest.mark.parametrize("first_bad", range(1, 9))
def test_the_first_bad_version_is_found_in_few_tries(first_bad: int) -> None:
    tried = list[int]()

    def judge(at: int) -> TryOutcome:
        tried.append(at)
        return TryOutcome.BAD if at >= first_bad else TryOutcome.GOOD

    assert neighbours(9, judge) == (first_bad - 1, first_bad)
    assert len(tried) <= 3


def test_versions_that_show_something_else_are_left_out() -> None:
    answers = {1: TryOutcome.GOOD, 2: TryOutcome.OTHER, 3: TryOutcome.OTHER, 4: TryOutcome.BAD}

    assert neighbours(6, lambda at: answers[at]) == (1, 4)


def test_fewer_are_tried_before_more() -> None:
    parts = [Difference(name=name, good="1", bad="2") for name in "abc"]
    tried = list[str]()

    def judge(some: tuple[Difference, ...]) -> TryOutcome:
        tried.append("".join(part.name for part in some))
        return TryOutcome.GOOD

    assert smallest(parts, judge) == tuple(parts)
    assert tried == ["a", "b", "c", "ab", "ac", "bc"]


def test_what_flickers_is_tried_more_often_and_the_doubt_is_stated(good: Case, bad: Case, tmp_path: Path) -> None:
    turns = iter([True, False, True] + [False, False, True] * 99)

    def attempt(case: Case) -> tuple[str, ...]:
        return ("boot-hangs",) if case.spec.memory_mib == 512 and next(turns) else ()

    judge = Judge(attempt=attempt, times=3, say=lambda _: None)
    judge.begin(good, bad)
    found = narrow(good, bad, judge, tmp_path / "mixes")

    assert [part.name for part in found] == ["memory_mib"]
    assert (judge.odds.failed, judge.odds.tried, judge.odds.times) == (2, 3, 3)
    assert 0.5 < judge.odds.confidence < 0.9
    assert list(told(found, judge))[-1] == "for more certainty: --times 6"


def test_confidence_grows_with_tries_and_falls_with_what_passed() -> None:
    def sure(**odds: int) -> float:
        return Odds(**{"failed": 5, "tried": 10, "goods": 3, "times": 5, **odds}).confidence

    assert sure(times=10) > sure() > sure(goods=6)
    assert sure(failed=10) > sure()


def test_there_must_be_something_to_find(good: Case, bad: Case) -> None:
    with pytest.raises(UsageError, match="BAD is good: nothing was found in 2 of 2; --times 6"):
        Judge(attempt=lambda _: (), times=2, say=lambda _: None).begin(good, bad)
    with pytest.raises(UsageError, match="GOOD is not good: it shows boot-hangs"):
        Judge(attempt=lambda _: ("boot-hangs",), times=1, say=lambda _: None).begin(good, bad)

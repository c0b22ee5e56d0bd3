"""The differences of two cases, and mixes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.artifacts import difference
from harness.replay.case import Case
from harness.replay.differences import _mixed_arguments, _of_arguments, differences, mixed

from .cases import bad, good  # noqa: F401  # pytest finds fixtures by name

# ruff: noqa: F811  # fixtures of another file are arguments here


def test_every_difference_is_listed(good: Case, bad: Case) -> None:
    lines = [str(part) for part in differences(good, bad)]

    assert [line.split()[0] for line in lines] == [
        "kernel", "initrd", "root", "argument", "memory_mib", "nics", "disks", "network"
    ]  # fmt: skip
    assert lines[3:6] == ["argument none → nosmt", "memory_mib 2048 → 512", "nics virtio True → e1000e True"]
    assert lines[-1] == "network faults dhcp-late"
    assert differences(good, good) == ()


def test_a_mix_is_the_good_case_with_the_taken_parts_of_the_bad_one(good: Case, bad: Case, tmp_path: Path) -> None:
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


def test_all_parts_together_make_the_bad_case(good: Case, bad: Case, tmp_path: Path) -> None:
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


def test_the_hardware_of_a_test_is_not_compared(good: Case, bad: Case) -> None:
    names = {part.name for part in differences(replace(good, test="t.py::x"), replace(bad, test="t.py::x"))}

    assert names == {"kernel", "initrd", "root file system", "argument nosmt", "network faults"}

"""Collection: which parameters a test gets, and in which groups and order workers run the tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.fixtures.naming import private
from harness.model.definition import load_definition
from harness.model.hardware import find_profile
from harness.model.machine_spec import BootPath
from harness.model.prepared import TestDurations as Durations
from harness.model.rules import GossResource, OwnCheck
from harness.plugin import collect
from harness.plugin.options import RunOptions

ROOT = Path(__file__).parents[3]
BASE = load_definition(ROOT / "images" / "base")


class Metafunc:
    """pytest's, as far as `generate_images` and `generate_entries` use it."""

    def __init__(self, *names: str, marks: tuple[str, ...] = ()) -> None:
        self.fixturenames = [private(name) for name in names]
        self.definition = SimpleNamespace(get_closest_marker=lambda name: name if name in marks else None)
        self.given: dict[str, list[object]] = {}

    def parametrize(self, name: str, values: list[object], **_: Any) -> None:
        self.given[name.removeprefix(private(""))] = values


def generated(metafunc: Metafunc, **options: Any) -> dict[str, list[object]]:
    given: Any = metafunc
    run = RunOptions(**{"definitions": {"base": BASE}} | options)
    collect.generate_images(given, run)
    collect.generate_entries(given, run)
    return metafunc.given


def test_a_test_without_an_image_is_left_alone() -> None:
    assert generated(Metafunc("tmp_path")) == {}


def test_a_test_runs_for_each_entry_of_a_list_of_the_definition() -> None:
    assert generated(Metafunc("image", "service")) == {"image": ["base"], "service": [*BASE.services]}


def test_a_test_runs_for_each_rule_of_the_definition() -> None:
    resource = GossResource(file="goss.yaml", kind="file", key="/etc/x", about="/etc/x", wanted={"exists": True})
    own = replace(BASE, checks=(OwnCheck(name="utc", command="date"),), goss=(resource,))

    given = generated(Metafunc("image", "own_check", "goss_resource"), definitions={"base": own})

    assert (given["own_check"], given["goss_resource"]) == (["utc"], ["goss.yaml file:/etc/x"])


def test_a_test_repeats_unless_it_is_thorough() -> None:
    assert generated(Metafunc("image"), repeats=2) == {"image": ["base"], "repeat": ["repeat~1", "repeat~2"]}
    assert generated(Metafunc("image", marks=("thorough",)), repeats=2) == {"image": ["base"]}


@pytest.mark.parametrize(
    ("paths", "others"),
    [
        ((BootPath.DIRECT, BootPath.IPXE_BIOS), []),
        ((BootPath.DIRECT, BootPath.IPXE_UEFI), ["ipxe-uefi"]),
        ((BootPath.IPXE_BIOS, BootPath.GRUB), ["grub"]),
        (tuple(BootPath), ["ipxe-uefi", "pxe-chain", "uefi-http", "grub", "kexec"]),
    ],
)
def test_boot_paths_but_the_default_and_direct_have_a_test_of_their_upgrade(
    paths: tuple[BootPath, ...], others: list[str]
) -> None:
    assert generated(Metafunc("image", "other_boot_path"), boot_paths=paths) == {
        "image": ["base"], "other_boot_path": others,
    }  # fmt: skip


def test_a_test_does_not_run_for_the_entries_of_another_image() -> None:
    lean = replace(BASE, name="lean", services=("ssh.service", "lean.service"))
    images = {"base": BASE, "lean": lean}
    given = generated(Metafunc("image", "service"), definitions=images)

    def runs(image: str, service: str) -> bool:
        item: Any = Item("x", image=image, service=service)
        return collect.concerns(item, RunOptions(definitions=images))

    assert given["service"] == [*dict.fromkeys((*BASE.services, *lean.services))]
    assert [service for service in given["service"] if runs("lean", str(service))] == [*lean.services]
    assert [service for service in given["service"] if runs("base", str(service))] == [*BASE.services]


class Item:
    """A collected test."""

    def __init__(
        self,
        name: str,
        *fixtures: str,
        image: str = "base",
        service: str = "",
        other_boot_path: str = "",
        boots: int = 0,
        **marks: Any,
    ) -> None:
        self.nodeid, self.path = f"tests/image/test_x.py::{name}", Path("tests/image/test_x.py")
        self.fixturenames = [private(fixture) for fixture in fixtures]
        params = {"image": image, "service": service, "other_boot_path": other_boot_path}
        self.callspec = SimpleNamespace(params={private(name): value for name, value in params.items() if value})
        self.user_properties: list[tuple[str, object]] = []
        given = {**marks, **({"boots": (boots,)} if boots else {})}
        self.marks = [getattr(pytest.mark, mark).with_args(*args).mark for mark, args in given.items()]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self.marks if mark.name == name]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(iter(self.iter_markers(name)), None)


def arranged(*items: Item, tests_s: dict[str, float] | None = None) -> list[str]:
    prepared = SimpleNamespace(durations=Durations(tests_s=tests_s or {}), slowness=1.0)
    given: Any = list(items)
    known: Any = {"base": prepared} if tests_s else {}  # only durations are read
    collect.arrange(given, known, RunOptions(definitions={"base": BASE}))
    return [item.nodeid.partition("::")[2] for item in given]


def test_tests_with_more_boots_come_first() -> None:
    items = Item("quick[base]"), Item("long[base]", boots=3), Item("one[base]", boots=1)

    assert arranged(*items) == ["long[base]", "one[base]", "quick[base]"]


def test_a_known_duration_outranks_the_number_of_boots() -> None:
    known = {"tests/image/test_x.py::quick[base]": 300.0}

    assert arranged(Item("long[base]", boots=3), Item("quick[base]"), tests_s=known)[0] == "quick[base]"


def test_a_soak_takes_as_long_as_it_is_told() -> None:
    assert arranged(Item("boots[base]", boots=3), Item("soak[base]", check=("soak",)))[0] == "soak[base]"


def test_a_repeat_has_the_duration_of_its_test() -> None:
    known = {"tests/image/test_x.py::slow[base]": 300.0}

    assert arranged(Item("b[base-repeat~1]"), Item("slow[base-repeat~1]"), tests_s=known)[0] == "slow[base-repeat~1]"


def test_tests_that_share_a_machine_are_sorted_by_their_sum() -> None:
    shared = [Item(f"looks_{number}[base]", "shared") for number in range(80)]

    assert arranged(Item("boots[base]", boots=1), *shared)[:80] == [f"looks_{number}[base]" for number in range(80)]


def test_a_thorough_test_about_data_is_left_out_if_the_image_keeps_none() -> None:
    item: Any = Item("cuts[base]", thorough=(), check=("power-cuts",))
    kept = RunOptions(definitions={"base": BASE}, is_thorough=True)

    assert not collect.is_left_out(item, kept)
    assert collect.is_left_out(item, RunOptions(definitions={"base": BASE}))
    none = {"base": replace(BASE, persistent_paths=())}
    assert collect.is_left_out(item, RunOptions(definitions=none, is_thorough=True))
    late: Any = Item("late[base]", thorough=(), check=("ordering",))
    assert not collect.is_left_out(late, RunOptions(definitions=none, is_thorough=True))


def boots_of(item: Any, **options: Any) -> tuple[int, tuple[str, ...]]:
    """The boots of a test, and those of the templates that it needs."""
    plan = collect.planned(item, RunOptions(**{"definitions": {"base": BASE}} | options))
    return plan.boots, plan.templates


def test_tests_share_the_boots_of_their_templates() -> None:
    assert boots_of(Item("looks[base]", "shared")) == (0, ("base booted",))
    assert boots_of(Item("own[base]", "machine", boots=2)) == (2, ("base booted",))
    upgraded = Item("own[base]", "machine", state=("upgraded",))
    assert boots_of(upgraded) == (0, ("base booted", "base upgraded")), "the version before is the one under test"
    assert boots_of(upgraded, previous=Path("x")) == (0, ("base previous", "base upgraded"))
    assert boots_of(Item("pair[base]", "machine", "second_machine")) == (0, ("base booted", "base booted second"))
    assert boots_of(Item("cold[base]", boots=1)) == (1, ())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ipxe-uefi", (2, ())),
        ("pxe-chain", (1, ("base booted",))),
        ("uefi-http", (1, ("base booted",))),
        ("grub", (3, ())),
        ("kexec", (2, ("base booted",))),
    ],
)
def test_a_boot_path_moves_to_or_boots_a_blank_disk_first_and_may_go_back(
    path: str, expected: tuple[int, tuple[str, ...]]
) -> None:
    """base has all boot paths: the machines that are booted for many tests have a BIOS."""
    assert boots_of(Item("other[base]", other_boot_path=path, boots=2)) == expected


def test_the_path_of_the_second_machine_is_upgraded_on_it() -> None:
    paths = (BootPath.IPXE_BIOS, BootPath.IPXE_UEFI, BootPath.UEFI_HTTP)

    second = boots_of(Item("other[base]", other_boot_path="ipxe-uefi", boots=2), boot_paths=paths)
    third = boots_of(Item("other[base]", other_boot_path="uefi-http", boots=2), boot_paths=paths)

    assert (second, third) == ((1, ("base booted second",)), (1, ("base booted",)))


def test_a_board_with_uefi_only_needs_no_blank_disk_for_another_path() -> None:
    paths = (BootPath.IPXE_UEFI, BootPath.DIRECT, BootPath.UEFI_HTTP, BootPath.KEXEC)
    run = RunOptions(definitions={"base": BASE}, boot_paths=paths, hardware=find_profile("nvme-uefi"))

    assert [path for path in run.other_paths_of("base") if run.moves_to("base", path)] == [*paths[2:]]


def test_a_second_machine_has_another_boot_path_if_the_run_has_one_that_powers_machines_on() -> None:
    def second(*paths: BootPath) -> BootPath:
        return RunOptions(definitions={"base": BASE}, boot_paths=paths).second_path_of("base")

    assert second(BootPath.IPXE_BIOS, BootPath.KEXEC, BootPath.GRUB) is BootPath.GRUB
    assert second(BootPath.IPXE_BIOS, BootPath.IPXE_UEFI, BootPath.DIRECT) is BootPath.DIRECT
    assert second(BootPath.DIRECT, BootPath.KEXEC) is BootPath.DIRECT
    assert second(BootPath.GRUB) is BootPath.GRUB

"""Cutting a run into shards: what belongs together stays together, and the plan knows what bounds it."""

from __future__ import annotations

from itertools import chain

import pytest

from harness.core.errors import UsageError
from harness.model.events import PlannedTest
from harness.model.machine_spec import BootPath
from harness.model.shard import Collected, ImagePlan
from harness.runs.cut import cut, cut_within, units_of

from ..replay.test_bundle import BASE

BOOT_S = 60.0


def planned(
    name: str, *, boots: int = 0, group: str = "", templates: tuple[str, ...] = (), checks: tuple[str, ...] = ()
) -> PlannedTest:
    return PlannedTest(test=name, file="f", checks=checks, group=group or name, boots=boots, templates=templates)


def run_of(*tests: PlannedTest, expected_s: dict[str, float] | None = None, lanes: int = 2) -> Collected:
    image = ImagePlan(
        definition=BASE, boot_paths=(BootPath.DIRECT,), is_thorough=False, digests={}, versions={}, tests=tests,
        expected_s=expected_s or {},
    )  # fmt: skip
    return Collected(images=(image,), settings={}, boot_s=BOOT_S, lanes=lanes)


BOOTS = run_of(*(planned(f"t{number:02}", boots=1) for number in range(12)))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_each_test_is_in_one_shard(count: int) -> None:
    made = cut(BOOTS, count)

    assert len(made.shards) == count
    assert sorted(chain.from_iterable(shard.tests for shard in made.shards)) == [f"t{n:02}" for n in range(12)]


def test_equal_tests_are_spread_evenly() -> None:
    made = cut(BOOTS, 3)

    assert [shard.expected_s for shard in made.shards] == [120.0] * 3
    assert made.speed_up == 3


def test_the_same_input_gives_the_same_plan_whatever_the_order_of_the_tests() -> None:
    tests = BOOTS.images[0].tests

    assert cut(run_of(*tests), 4) == cut(run_of(*reversed(tests)), 4)


def test_tests_that_share_a_machine_stay_together() -> None:
    looking = [planned(f"look-{number}", group="base test_image.py", templates=("base booted",)) for number in range(9)]

    made = cut(run_of(*looking, planned("other", boots=1)), 2)

    assert {frozenset(shard.tests) for shard in made.shards} == {
        frozenset(["other"]),
        frozenset(one.test for one in looking),
    }


def test_all_tests_of_power_cuts_stay_on_the_host_that_records_them() -> None:
    cuts = [planned(f"cut-{number}", boots=1, checks=("power-cuts",)) for number in range(5)]

    assert len(units_of(run_of(*cuts, planned("other")))) == 2


def test_tests_of_one_template_gather_on_the_host_that_boots_it() -> None:
    tests = [planned(f"{state}-{number}", templates=(state,)) for state in ("old", "new") for number in range(4)]

    made = cut(run_of(*tests, expected_s={one.test: 20.0 for one in tests}, lanes=1), 2)

    assert [{test[:3] for test in shard.tests} for shard in made.shards] == [{"new"}, {"old"}]
    assert [shard.expected_s for shard in made.shards] == [140.0, 140.0]
    assert made.alone_s == 280.0
    assert "1 boots of templates, once a host" in made.bound


def test_long_tests_leave_the_host_of_their_templates_where_that_is_quicker() -> None:
    long = [planned(f"long-{number}", boots=3, templates=("booted", "rebooted")) for number in range(4)]
    short = [planned(f"short-{number:02}", boots=1) for number in range(48)]

    made = cut(run_of(*long, *short), 8)

    assert max(sum(test.startswith("long") for test in shard.tests) for shard in made.shards) <= 2  # it has two lanes
    assert made.slowest_s == 300.0


def test_no_shard_is_shorter_than_its_longest_test() -> None:
    made = cut(run_of(planned("long", boots=10), *(planned(f"t{n}", boots=1) for n in range(4))), 4)

    assert made.slowest_s == 600.0
    assert "the longest test: long, 600 s" in made.bound


def test_more_shards_than_tests_are_refused() -> None:
    with pytest.raises(UsageError, match="ask for at most 12"):
        cut(BOOTS, 13)
    with pytest.raises(UsageError, match="expected at least 1"):
        cut(BOOTS, 0)


def test_the_fewest_shards_within_a_time_are_found() -> None:
    assert len(cut_within(BOOTS, 120.0).shards) == 3
    with pytest.raises(UsageError, match=r"takes at least 1\.0 min \(the longest test: t00, 60 s\)"):
        cut_within(BOOTS, 30.0)

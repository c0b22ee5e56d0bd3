"""How many workers look, and which group a worker gets next."""

from __future__ import annotations

import pytest

from harness.model.events import PlannedTest
from harness.plugin.lookers import Group, Others, groups_of, needed_lookers, next_group

BOOT, LONG_BOOT = Group(name="boot", expected_s=100), Group(name="long boot", expected_s=300)
LINKS, HOST = (Group(name=name, machine="nova-kvm booted", expected_s=80) for name in ("links", "host"))
OTHER_IMAGE = Group(name="base links", machine="base booted", expected_s=80)


def others(count: int, *, looking: int = 0, booting: int = 0) -> Others:
    return Others(count=count, looking=looking, booting=booting)


def test_tests_that_share_a_machine_are_a_group_that_looks_at_it() -> None:
    looks = [
        PlannedTest(test=f"t::{number}", file="", checks=(), group="links", templates=("base booted",))
        for number in range(2)
    ]
    boots = PlannedTest(test="t::boots", file="", checks=(), group="t::boots", boots=1, templates=("base booted",))

    groups = groups_of([(looks[0], 2.0), (boots, 90.0), (looks[1], 3.0)])

    assert groups == {
        "links": Group(name="links", machine="base booted", expected_s=5.0),
        "t::boots": Group(name="t::boots", expected_s=90.0),
    }


@pytest.mark.parametrize(
    ("groups", "workers", "cores", "needed"),
    [
        ([LONG_BOOT, LINKS, HOST], 8, 4, 1),
        ([BOOT, LINKS, HOST], 8, 4, 2),
        ([BOOT, LINKS, HOST, OTHER_IMAGE], 8, 2, 2),
        ([LINKS, HOST], 8, 4, 4),
        ([LINKS, HOST], 3, 4, 3),
        ([LINKS, HOST], 8, 1, 1),
        ([BOOT], 8, 4, 1),
    ],
)
def test_as_few_workers_look_as_end_before_the_longest_other_test(
    groups: list[Group], workers: int, cores: int, needed: int
) -> None:
    assert needed_lookers(groups, workers, cores) == needed


def test_the_first_worker_of_many_begins_to_look_at_once() -> None:
    assert next_group([BOOT, LINKS], "", others(7), lookers=1, cores=2) == LINKS
    assert next_group([BOOT, LINKS], "", others(7, looking=1), lookers=1, cores=2) == BOOT


def test_boots_come_first_where_a_core_would_be_without_one() -> None:
    assert next_group([LINKS, BOOT], "", others(1), lookers=1, cores=2) == BOOT


def test_a_worker_that_looks_goes_on_with_the_same_machine() -> None:
    queued = [BOOT, OTHER_IMAGE, HOST]

    assert next_group(queued, "nova-kvm booted", others(7, booting=4), lookers=1, cores=2) == HOST
    assert next_group(queued[:2], "nova-kvm booted", others(7, booting=4), lookers=1, cores=2) == OTHER_IMAGE
    assert next_group(queued[:1], "nova-kvm booted", others(7, booting=4), lookers=1, cores=2) == BOOT


def test_a_further_worker_looks_only_when_a_core_is_free() -> None:
    assert next_group([LINKS], "", others(7, looking=1, booting=1), lookers=1, cores=2) is None
    assert next_group([LINKS], "", others(7, looking=1, booting=0), lookers=1, cores=2) == LINKS
    assert next_group([LINKS], "", others(7, looking=1, booting=3), lookers=2, cores=2) == LINKS
    assert next_group([LINKS], "", others(7, looking=2, booting=0), lookers=2, cores=2) is None


def test_somebody_looks_even_if_all_cores_boot() -> None:
    assert next_group([LINKS], "", others(7, booting=7), lookers=1, cores=2) == LINKS


def test_nothing_queued_is_nothing_to_get() -> None:
    assert next_group([], "nova-kvm booted", others(1), lookers=1, cores=2) is None

"""Which parts that came back end the tries of a shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.shard import Collected, Shard, ShardPlan
from harness.model.verdict import Coverage, Outcome, Verdict
from harness.pool.attempt import Pool, is_concluded
from harness.pool.on_host import Job
from harness.promotion.merge import PartRun

PLAN = ShardPlan(
    options=("--image", "base"),
    collected=Collected(images=(), settings={}, boot_s=60.0, lanes=2),
    shards=(Shard(tests=("t",), expected_s=1.0),),
)
POOL = Pool(
    hosts=(),
    bootproof="bootproof",
    job=Job(shard=0, of=1, arguments=(), artifacts=()),
    plan="",
    images=("base", "kvm"),
    limit_s=900.0,
)


def part(image: str, outcome: Outcome) -> PartRun:
    verdict = Verdict(
        outcome=outcome,
        image=image,
        version="1",
        digests={},
        findings=(),
        coverage=Coverage(boot_paths=(), passed=(), failed=(), missing=()),
        boots=(),
        host={},
        started="2026-11-29T20:00:00+00:00",
        elapsed_s=1.0,
    )
    return PartRun(folder=Path(image), verdict=verdict, plan=PLAN, attested="")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({"base": Outcome.PASSED, "kvm": Outcome.PASSED}, True),
        ({"base": Outcome.PASSED, "kvm": Outcome.INCONCLUSIVE}, False),
        ({"base": Outcome.PASSED}, False),
        ({}, False),
        ({"base": Outcome.FAILED, "kvm": Outcome.INCONCLUSIVE}, True),
        ({"base": Outcome.FAILED}, True),
    ],
)
def test_a_failure_ends_the_tries_whatever_else_went_wrong(outcomes: dict[str, Outcome], expected: bool) -> None:
    assert is_concluded([part(image, outcome) for image, outcome in outcomes.items()], POOL) is expected

"""Which shard a job runs: as ``--shard`` says, or the engine that started the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import UsageError
from harness.model.shard import Collected, Shard, ShardPlan
from harness.runs.shards import read_plan, read_shard

PLAN = ShardPlan(
    options=("--image", "base"),
    collected=Collected(images=(), settings={}, boot_s=60.0, lanes=2),
    shards=tuple(Shard(tests=(f"t{number}",), expected_s=1.0) for number in range(8)),
)


def test_a_shard_is_named_by_its_number() -> None:
    assert [read_shard(text, PLAN) for text in ("1/8", "8/8")] == [1, 8]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("3", "expected I/N"),
        ("", "expected I/N"),
        ("x/8", "expected I/N"),
        ("0/8", "the shards are 1 to 8"),
        ("9/8", "the shards are 1 to 8"),
        ("3/4", "the plan has 8 shards; make one with bootproof plan --shards 4"),
    ],
)
def test_a_shard_that_the_plan_has_not_is_refused(given: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_shard(given, PLAN)


@pytest.mark.parametrize(
    "environ",
    [
        {"BOOTPROOF_SHARD": "3/8"},
        {"CI_NODE_INDEX": "3", "CI_NODE_TOTAL": "8"},
        {"BUILDKITE_PARALLEL_JOB": "2", "BUILDKITE_PARALLEL_JOB_COUNT": "8"},
        {"SYSTEM_JOBPOSITIONINPHASE": "3", "SYSTEM_TOTALJOBSINPHASE": "8"},
        {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "8"},
        {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"},
        {"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "5",
         "SLURM_ARRAY_TASK_COUNT": "8"},
        {"JOB_COMPLETION_INDEX": "2"},
        {"BOOTPROOF_SHARD": "3/8", "CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "2"},
    ],
)  # fmt: skip
def test_auto_takes_the_shard_from_the_engine(environ: dict[str, str]) -> None:
    assert read_shard("auto", PLAN, environ) == 3


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "--shard auto: none of BOOTPROOF_SHARD, CI_NODE_INDEX, .* is set; give --shard I/N"),
        ({"CI_NODE_INDEX": "3", "CI_NODE_TOTAL": "4"}, "--shard auto: CI_NODE_INDEX=3/4: the plan has 8 shards"),
        ({"JOB_COMPLETION_INDEX": "8"}, "JOB_COMPLETION_INDEX=9: the shards are 1 to 8"),
        ({"BOOTPROOF_SHARD": "third"}, "BOOTPROOF_SHARD=third: expected I/N"),
    ],
)
def test_an_engine_that_does_not_fit_the_plan_is_refused(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_shard("auto", PLAN, environ)


def test_a_plan_reads_back_equal_and_what_is_no_plan_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    serialization.write(file, PLAN)
    assert read_plan(file) == PLAN

    with pytest.raises(UsageError, match="bootproof plan makes one"):
        read_plan(tmp_path / "none.json")
    for content in ("", "{}", '{"format": 1}', '{"format": 9}'):
        file.write_text(content)
        with pytest.raises(UsageError):
            read_plan(file)

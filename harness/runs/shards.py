"""Reads which shard of which plan a job runs: ``--shard`` and ``--plan``, or what an engine says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.core import serialization
from harness.core.errors import UsageError
from harness.model.shard import ShardPlan

VARIABLE = "BOOTPROOF_SHARD"
_ENGINES = (
    # the index, the count, and how the first one is counted
    (VARIABLE, "", 1),  # I/N
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1),  # GitLab, parallel
    ("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0),
    ("SYSTEM_JOBPOSITIONINPHASE", "SYSTEM_TOTALJOBSINPHASE", 1),  # Azure Pipelines
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", 0),
    ("JOB_COMPLETION_INDEX", "", 0),  # a Kubernetes Indexed Job, which does not say how many there are
)


def read_shard(given: str, plan: ShardPlan, environ: Mapping[str, str] = os.environ) -> int:
    """The number, from 1, of the shard that ``--shard`` names; "auto" takes it from the engine that runs this job.

    `UsageError` unless it is one of the plan's, and as many as the engine says.
    """
    name, text = ("", given) if given != "auto" else _from_engine(environ)
    found = re.fullmatch(r"(\d+)(?:/(\d+))?", text)
    where = f"--shard {given}" + (f": {name}={text}" if name else "")
    if not found or (not name and not found[2]):
        raise UsageError(f"{where}: expected I/N, such as 3/8, or auto")
    number, of, planned = int(found[1]), int(found[2] or len(plan.shards)), len(plan.shards)
    if of != planned:
        raise UsageError(f"{where}: the plan has {planned} shards; make one with bootproof plan --shards {of}")
    if not 1 <= number <= of:
        raise UsageError(f"{where}: the shards are 1 to {of}")
    return number


def _from_engine(environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that names the shard, and "I/N", or "I" where the engine does not know N."""
    for index, count, first in _ENGINES:
        if value := environ.get(index, "").strip():
            if index == VARIABLE or not value.isdigit():
                return index, value
            if index == "SLURM_ARRAY_TASK_ID":
                first, step = (int(environ.get(f"SLURM_ARRAY_TASK_{name}", "0") or 0) for name in ("MIN", "STEP"))
                number = (int(value) - first) // max(1, step) + 1
            else:
                number = int(value) - first + 1
            total = environ.get(count, "").strip() if count else ""
            return index, f"{number}/{total}" if total else str(number)
    known = ", ".join(index for index, _, _ in _ENGINES)
    raise UsageError(f"--shard auto: none of {known} is set; give --shard I/N, or set {VARIABLE}=I/N")


def read_plan(file: Path) -> ShardPlan:
    """`UsageError` if the file is not a plan, or of a newer Bootproof."""
    try:
        return serialization.read(ShardPlan, file)
    except OSError as error:
        raise UsageError(f"--plan {file}: {error.strerror}; bootproof plan makes one") from None
    except ValueError as error:
        raise UsageError(f"--plan {file} is not a plan of bootproof plan: {error}") from None

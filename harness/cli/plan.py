"""The command plan."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, print_table
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.model.shard import Collected, ShardPlan
    from harness.runs.cut import Cut

_DESCRIPTION = """\
Cut the tests of `pytest --image IMAGE` into shards, one a host, and write the plan that all hosts share. The images are
built first, because the plan is bound to their bytes, to the definitions, the tests and Bootproof. Tests that share a
machine stay together; how long each takes is known from earlier runs on this host, else from the boots that it makes.
The same input gives the same plan.

What comes after -- are further options of pytest, which each host must repeat.
"""
_EPILOG = """\
examples:
  bootproof plan nova-kvm --shards 4 -o plan.json                        four hosts
  bootproof plan nova-kvm --shards auto --within 20min -o plan.json      the fewest that end within 20 minutes
  bootproof plan nova-kvm base --shards 8 -o plan.json -- --thorough

  pytest -n 8 --image nova-kvm --shard 3/4 --plan plan.json              on the third host
  bootproof merge runs/part-*                                            one verdict of all parts

exit status: 0 written; 1 an image does not build; 4 a wrong option; 75 a problem of this host
"""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|h)")
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "plan", _plan, "cut a run into shards for many hosts", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="the images, as for pytest --image")
    add("--shards", required=True, metavar="N", help="how many hosts; auto, with --within, finds the fewest")
    add("--within", metavar="TIME", help="with --shards auto: no shard takes longer, for example 90s, 20min or 1.5h")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="write the plan to FILE")
    parser.set_defaults(pytest_options=[])


def _plan(options: argparse.Namespace) -> int:
    from harness.core import serialization
    from harness.model.shard import ShardPlan
    from harness.runs.collected import collect

    count, within_s = _count(options.shards), seconds_of(options.within, "--within")
    if (count is None) != (within_s is not None):
        raise UsageError("--shards auto and --within TIME belong together")
    arguments = [word for image in options.images for word in ("--image", image)] + options.pytest_options
    collected = collect(arguments)
    cut = _cut(collected, count, within_s)
    plan = ShardPlan(options=tuple(arguments), collected=collected, shards=cut.shards)
    try:
        serialization.write(options.output, plan)
    except OSError as error:
        raise UsageError(f"{options.output} cannot be written: {error.strerror}") from None
    _print(plan, cut, options.output)
    return 0


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit():
        raise UsageError(f"--shards {text}: expected a number or auto")
    return int(text)


def seconds_of(text: str | None, option: str) -> float | None:
    """Seconds in the value of ``option``, such as "20min"; None without one."""
    if text is None:
        return None
    if not (found := _DURATION.fullmatch(text)):
        raise UsageError(f"{option} {text}: expected a time such as 90s, 20min or 1.5h")
    return float(found[1]) * _UNITS_S[found[2]]


def _cut(collected: Collected, count: int | None, within_s: float | None) -> Cut:
    from harness.runs.cut import cut, cut_within

    if count is not None:
        return cut(collected, count)
    assert within_s is not None
    return cut_within(collected, within_s)


def _print(plan: ShardPlan, cut: Cut, file: Path) -> None:
    rows = [
        [f"{number}/{len(plan.shards)}", str(len(shard.tests)), _minutes(shard.expected_s)]
        for number, shard in enumerate(plan.shards, 1)
    ]
    print_table(["shard", "tests", "about"], rows)
    for line in _summary(plan, cut):
        print(line)
    print(f"plan: {file}")


def _summary(plan: ShardPlan, cut: Cut) -> Iterator[str]:
    yield (
        f"the slowest shard takes about {_minutes(cut.slowest_s)}, one host {_minutes(cut.alone_s)}: "
        f"{cut.speed_up:.1f} times as fast"
    )
    yield f"bounded by: {cut.bound}"
    lanes = plan.collected.lanes
    yield f"for hosts like this one: {lanes} boots at a time, {plan.collected.boot_s:.0f} s each"
    for image in plan.collected.images:
        yield f"{image.name}: bring the artifacts to each host: bootproof push {' '.join(image.artifacts)} TREE"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"

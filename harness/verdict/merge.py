"""From the parts of a run in shards to its scope, its figures, and findings about missing parts. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import mean

from harness.core.errors import Blame
from harness.model.layout import PLAN
from harness.model.shard import ShardPlan
from harness.model.verdict import Cost, Finding, Part, Verdict
from harness.verdict.assemble import Scope

_LONGEST = 3


def parts_of(verdicts: Sequence[Verdict]) -> tuple[Part, ...]:
    """The part of each verdict, with what it says of its host, by number."""
    parts = [
        replace(
            verdict.parts[0],
            outcome=verdict.outcome.value,
            started=verdict.started,
            elapsed_s=verdict.elapsed_s,
            facts=verdict.host,
        )
        for verdict in verdicts
    ]
    return tuple(sorted(parts, key=lambda part: part.number))


def scope_of(plan: ShardPlan, image: str, parts: Sequence[Part]) -> Scope:
    """What all parts together were to prove. It lasted as long as the longest: the hosts' clocks may differ."""
    planned = plan.image(image)
    return Scope(
        definition=planned.definition,
        boot_paths=planned.boot_paths,
        suites=(),
        is_thorough=planned.is_thorough,
        started=min(datetime.fromisoformat(part.started) for part in parts),
        elapsed_s=max(part.elapsed_s for part in parts),
        parts=tuple(parts),
    )


def missing(plan: ShardPlan, parts: Sequence[Part]) -> Iterator[Finding]:
    """A finding for each part that is not there, with the command that makes it."""
    there, of = {part.number for part in parts}, len(plan.shards)
    for number, shard in enumerate(plan.shards, 1):
        if number not in there:
            yield Finding(
                id="part-missing",
                what=f"part {number} of {of} did not run, or did not end",
                where=f"part {number} of {of}",
                blame=Blame.HOST,
                evidence=(f"pytest {shlex.join(plan.options)} --shard {number}/{of} --plan PLAN",),
                cause="its job was ended, or its folder was not merged; "
                f"its {len(shard.tests)} tests are missing. PLAN is {PLAN} in the merged run's folder",
            )


def host_of(parts: Sequence[Part]) -> dict[str, str]:
    """What all hosts have in common, and what differs, by part."""
    facts = {"hosts": f"{len({part.host for part in parts})} ({', '.join(dict.fromkeys(part.host for part in parts))})"}
    for name in dict.fromkeys(name for part in parts for name in part.facts):
        values = [part.facts.get(name, "") for part in parts]
        same = len(set(values)) == 1
        facts[name] = values[0] if same else f"mixed: {'; '.join(_by_part(parts, values))}"
    return facts


def _by_part(parts: Sequence[Part], values: Sequence[str]) -> Iterator[str]:
    numbers: Mapping[str, list[int]] = {value: [] for value in values}
    for part, value in zip(parts, values, strict=True):
        numbers[value].append(part.number)
    for value, those in numbers.items():
        yield f"{value or 'not known'} in part{'s' if len(those) > 1 else ''} {', '.join(map(str, those))}"


def cost_of(verdicts: Sequence[Verdict]) -> Cost | None:
    """The sums over all parts; the cores' use is the mean of the hosts'."""
    costs = [verdict.cost for verdict in verdicts if verdict.cost]
    if not costs:
        return None
    longest = sorted(
        ((test, s) for cost in costs for test, s in cost.longest_s.items()), key=lambda one: (-one[1], one[0])
    )
    return Cost(
        prepared_s=max(cost.prepared_s for cost in costs),
        boots=sum(cost.boots for cost in costs),
        boots_s=round(sum(cost.boots_s for cost in costs), 1),
        clones=sum(cost.clones for cost in costs),
        clones_s=round(sum(cost.clones_s for cost in costs), 1),
        cores_busy=round(mean(cost.cores_busy for cost in costs), 3),
        longest_s=dict(longest[:_LONGEST]),
        checks_s={
            check: round(sum(cost.checks_s.get(check, 0.0) for cost in costs), 1)
            for check in sorted({check for cost in costs for check in cost.checks_s})
        },
    )

"""The finding about a boot that waited while the guest's CPUs were idle: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.definition import ImageDefinition
from harness.model.verdict import BootResult, Finding, UnitWait

BOOT_WAITS = "boot-waits"
_NAMED = 5


def over_idle_budget(definition: ImageDefinition, boot: BootResult) -> Iterator[Finding]:
    """A finding if the waits of ``boot`` together exceed the budget ``boot_idle_s``."""
    idle_s = sum(wait.idle_s for wait in boot.waits)
    if idle_s > definition.boot_idle_s:
        longest = boot.waits[0].unit
        mostly = "mostly " if boot.waits[1:] else ""
        yield Finding(
            id=BOOT_WAITS,
            what=f"the boot waited {idle_s:.0f} s with idle CPUs, {mostly}for {longest}; "
            f"the budget is {definition.boot_idle_s} s",
            where=boot.name,
            evidence=tuple(_evidence(boot.waits)),
            cause=f"{longest} sleeps, or awaits what does not come: a time limit that expires, a device, a server",
        )


def _evidence(waits: Sequence[UnitWait]) -> Iterator[str]:
    for wait in waits[:_NAMED]:
        yield f"{wait.idle_s:.1f} s for {wait.unit}"
        yield from (f"    {line}" for line in wait.lines)
    if others := waits[_NAMED:]:
        yield f"{sum(wait.idle_s for wait in others):.1f} s for {len(others)} others"

"""The finding about a boot that waited while the guest's CPUs were idle: pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.definition import ImageDefinition
from harness.model.verdict import BootResult, Finding

BOOT_WAITS = "boot-waits"


def over_idle_budget(definition: ImageDefinition, boot: BootResult) -> Iterator[Finding]:
    """A finding if ``boot`` waited for longer than its budget ``boot_idle_s``."""
    if boot.idle_s is None or boot.idle_s <= definition.boot_idle_s:
        return
    longest = boot.waits[0].unit if boot.waits else "many units"
    mostly = "mostly " if boot.waits[1:] else ""
    yield Finding(
        id=BOOT_WAITS,
        what=f"the boot waited {boot.idle_s:.0f} s with idle CPUs, {mostly}for {longest}; "
        f"the budget is {definition.boot_idle_s} s",
        where=boot.name,
        evidence=tuple(_evidence(boot)),
        cause="a sleep, or something that does not come: a device, a server, the end of a time limit",
    )


def _evidence(boot: BootResult) -> Iterator[str]:
    for wait in boot.waits:
        yield f"{wait.idle_s:.1f} s for {wait.unit}"
        yield from (f"    {line}" for line in wait.lines)

"""Delays of units, which expose races: a unit that needs a late one without ordering after it fails."""

from __future__ import annotations

import random

from harness.model.definition import ImageDefinition
from harness.model.unit_names import same_service

DELAY_S = 10
_DRAWS, _TOGETHER = 3, 3


def orders(definition: ImageDefinition, seed: int) -> list[str]:
    """Units to delay: each service alone, then a few random groups, joined by a plus sign. Pure."""
    units = [*definition.services, *definition.waiting]
    source = random.Random(seed)
    draws = [source.sample(units, min(_TOGETHER, len(units))) for _ in range(_DRAWS)] if units[1:] else []
    return [*units, *sorted({"+".join(sorted(draw)) for draw in draws})]


def delays(order: str) -> dict[str, str]:
    """The systemd credentials (systemd.system-credentials(7)) that delay these units."""
    drop_in = f"[Service]\nExecStartPre=-+/bin/sleep {DELAY_S}\n"
    names = (name for unit in order.split("+") for name in same_service(unit))
    return {f"systemd.unit-dropin.{name}~late": drop_in for name in names}

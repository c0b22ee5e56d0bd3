"""Budgets of time in definitions, on this host."""

from __future__ import annotations

from harness.core.deadline import host_scale

_SWING = 2.0
"""An emulated boot takes up to twice as long from one hour to the next on the same idle host (seen: base, 43 and 88 s),
and no quick measurement of the host predicts it."""


def allowed_s(budget_s: float) -> float:
    """How long something may take here for which a definition has the budget ``budget_s``."""
    return budget_s * host_scale() * _SWING

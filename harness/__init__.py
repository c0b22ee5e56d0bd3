"""Bootproof: boots proven before promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.machine.states import state

__all__ = ["state"]


def __getattr__(name: str) -> Any:
    """``harness.state``, for a conftest.py; what it needs is imported only then."""
    if name != "state":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.machine.states import state

    return state

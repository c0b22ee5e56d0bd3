"""The critical path of a boot: the units that decided when the machine was ready."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep:
    """A ``unit`` that started after that of the step before; seconds count from the start of user space. While it
    started, the CPUs were idle for ``idle_s``.

    ``earlier_s`` is how much sooner it could have begun if it did not start after the step before. ``is_pulled_in``:
    it requires or wants that unit; otherwise it is only ordered after it, and may not need it.
    """

    unit: str
    begins_s: float
    ready_s: float
    idle_s: float = 0.0
    earlier_s: float = 0.0
    is_pulled_in: bool = True

"""`pytest --keep failed`: a machine that failed stays as it is until somebody has looked at it, or the time is up."""

from __future__ import annotations

from dataclasses import dataclass

from harness.deadline import Deadline
from harness.doors import open_doors
from harness.machine import Machine

FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps machines for at most ``for_s`` seconds each; their worker does nothing else meanwhile."""

    for_s: float

    def keep(self, machine: Machine, why: str = "its boot failed") -> None:
        """Wait until somebody stops it, its QEMU ends, or the time is up."""
        with open_doors(machine.power, why, for_s=self.for_s) as doors:
            name = doors.about.id
            machine.site.run.add(
                "note",
                {
                    "text": f"{machine.name} is kept for {self.for_s / 60:.0f} minutes ({why}): "
                    f"bootproof attach {name} (--ssh, --monitor, --gdb), bootproof stop {name}"
                },
            )
            deadline = Deadline(self.for_s, scaled=False)
            while not (deadline.is_over or doors.is_stopped or machine.power.child.status is not None):
                doors.wait(Deadline(min(1.0, deadline.left_s), scaled=False))

"""`pytest --keep-failed`: a machine that failed stays until somebody has looked at it, or the time is up."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.core.errors import BootproofError
from harness.machine.attach_server import open_access
from harness.machine.machine import Machine
from harness.machine.observation import BootState


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps machines for at most ``for_s`` seconds each; their worker does nothing else meanwhile."""

    for_s: float

    def keep(self, machine: Machine, why: str = "its boot failed") -> None:
        """Wait until somebody stops it, its QEMU ends, or the time is up; not for one that has ended, or was kept.

        That it cannot be kept changes nothing of what failed.
        """
        power = machine.power
        if power.watch.state is BootState.HELD or power.child.status is not None:
            return
        power.watch.state = BootState.HELD
        try:
            with power.outliving_resets(), open_access(power, why, for_s=self.for_s) as access:
                name = access.about.id
                self._say(
                    machine,
                    f"is kept for {self.for_s / 60:.0f} minutes ({why}): "
                    f"bootproof attach {name} (--ssh, --monitor, --gdb), bootproof stop {name}",
                )
                deadline = Deadline(self.for_s, scaled=False)
                while not (deadline.is_over or access.is_stopped or power.child.status is not None):
                    access.wait(Deadline(min(1.0, deadline.left_s), scaled=False))
        except BootproofError as error:
            self._say(machine, f"cannot be kept: {error}")

    def _say(self, machine: Machine, what: str) -> None:
        machine.context.run.add_note(f"{machine.name} {what}")

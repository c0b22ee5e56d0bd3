"""`pytest --keep-failed`: a machine that failed keeps running until somebody has inspected it, or the time is up."""

from __future__ import annotations

from harness.core.deadline import Deadline
from harness.core.errors import BootproofError
from harness.machine.attach_server import open_access
from harness.machine.machine import Machine
from harness.machine.observation import BootState


def hold_machine(machine: Machine, why: str, *, for_s: float) -> None:
    """Wait until somebody stops the machine, its QEMU ends, or ``for_s`` seconds have passed.

    Returns at once if QEMU has ended, or the machine was held before. If it cannot be held, the run notes why; the
    failure stays what it was.
    """
    running = machine.running_boot
    if running.watch.state is BootState.HELD or running.child.status is not None:
        return
    running.watch.state = BootState.HELD
    try:
        with running.outliving_resets(), open_access(running, why, for_s=for_s) as access:
            name = access.about.id
            _note(
                machine,
                f"is held for {for_s / 60:.0f} minutes ({why}): "
                f"bootproof attach {name} (--ssh, --monitor, --gdb), bootproof stop {name}",
            )
            deadline = Deadline(for_s, scaled=False)
            while not (deadline.is_over or access.is_stopped or running.child.status is not None):
                access.wait(Deadline(min(1.0, deadline.left_s), scaled=False))
    except BootproofError as error:
        _note(machine, f"cannot be held: {error}")


def _note(machine: Machine, what: str) -> None:
    machine.context.run.add_note(f"{machine.name} {what}")

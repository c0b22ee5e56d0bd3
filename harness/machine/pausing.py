"""Pausing a machine that no test uses, over QMP, and the clock of a guest whose machine stood still.

QMP's ``stop`` halts the CPUs and QEMU's virtual clock, which the guest's monotonic clock, its timers and the i6300esb
watchdog count: none of them expires early. An emulated guest has no other clock. Under KVM, QEMU restores kvm-clock
when the machine continues, and tells the kernel's lock-up detectors that it stood still (QEMU, hw/i386/kvm/clock.c);
Linux prefers kvm-clock because ``-cpu host`` hides the invariant TSC. The board's clock follows the host's, but a
kernel reads it only when it boots: the wall clock is set afterwards.
"""

from __future__ import annotations

import time
from typing import Protocol

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.initrd_stop import CLOCK_LATE_S
from harness.qemu.qmp import Qmp

_ANSWER_S = 10.0


class Pausable(Protocol):
    """A running boot whose guest can be stopped."""

    @property
    def qmp(self) -> Qmp: ...


def set_clock(channel: Channel, ahead_s: float, deadline: Deadline) -> None:
    """Set the guest's wall clock to the host's and ``ahead_s`` more; `GuestCommandFailed` if the guest refuses."""
    channel.run(f"date -s @{time.time() + ahead_s + CLOCK_LATE_S:.3f}", deadline).checked()


def pause(running: Pausable) -> None:
    """Stop the guest: it uses no CPU until `resume`. `QmpError` if QEMU does not stop it."""
    running.qmp.execute("stop", deadline=Deadline(_ANSWER_S))


def resume(running: Pausable) -> None:
    """Continue a paused guest, whose wall clock is late by the pause; `QmpError` if QEMU does not continue it."""
    running.qmp.execute("cont", deadline=Deadline(_ANSWER_S))

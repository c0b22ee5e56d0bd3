"""The QEMU that runs machines, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

THREAD = ",thread="
"""Between a program and how it emulates, in ``$BOOTPROOF_QEMU``."""


class Thread(StrEnum):
    """How QEMU emulates a machine's CPUs: all in one host thread, or each in its own.

    One is the default. With one for each CPU, one boot in 16 hit the kernel's own code patching (int3), and their locks
    cost more than they gain when machines boot at the same time: two boots on two cores take 64 s with one thread each,
    2 x 43 s one after the other (QEMU 7.2, base, 2 CPUs).
    """

    SINGLE = "single"
    MULTI = "multi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """A QEMU: the full path of its program, its version, how it emulates, and why it is used in a sentence."""

    program: str
    version: str
    thread: Thread = Thread.SINGLE
    reason: str = ""

    def __str__(self) -> str:
        several = "" if self.thread is Thread.SINGLE else f"{THREAD}{self.thread}"
        return f"QEMU {self.version} ({self.program}{several})"

"""The parts of a machine's board that keep their state from boot to boot: its clock and its TPM."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from harness.core import process
from harness.lab import Lab
from harness.machine.boot_plan import BootPlan
from harness.machine.observation import QmpEvent

_GRACE_S = 2.0
_CLOCK = "board-clock"


@contextmanager
def clock(plan: BootPlan, events: Iterable[QmpEvent]) -> Iterator[str]:
    """The value of QEMU's ``-rtc base=`` at power-on.

    The clock continues from boot to boot, as far ahead of the host's as it was at first or as the guest last set it;
    the guest's setting is read from ``events`` when the block ends.
    """
    file = plan.folder.parent / _CLOCK
    now_s = time.time()
    ahead_s = float(file.read_text("utf-8")) if file.exists() else seconds_ahead(plan.spec.clock, now_s)
    file.write_text(f"{ahead_s:.0f}\n", "utf-8")
    try:
        yield rtc_base(ahead_s, now_s)
    finally:
        file.write_text(f"{ahead_s + seconds_set(events):.0f}\n", "utf-8")


def guest_ahead_s(plan: BootPlan, events: Iterable[QmpEvent]) -> float:
    """Seconds that the guest's clock is ahead of the host's: a clone's was set to the host's, another's is the board's
    of this power-on."""
    if plan.frozen:
        return 0.0
    return float((plan.folder.parent / _CLOCK).read_text("utf-8")) + seconds_set(events)


def seconds_ahead(clock: str, now_s: float) -> float:
    """Seconds that ``clock``, of a machine's spec, is ahead of the host's clock, which is at ``now_s``."""
    return datetime.fromisoformat(clock).replace(tzinfo=UTC).timestamp() - now_s if clock else 0.0


def seconds_set(events: Iterable[QmpEvent]) -> float:
    """Seconds by which the guest set the clock since power-on (QMP's RTC_CHANGE, whose offset counts from then)."""
    return next(reversed([float(data["offset"]) for name, data in events if name == "RTC_CHANGE"]), 0.0)


def rtc_base(ahead_s: float, now_s: float) -> str:
    """The value of QEMU's ``-rtc base=`` for a clock that is ``ahead_s`` ahead of the host's."""
    if abs(ahead_s) < 1:
        return "utc"
    return datetime.fromtimestamp(now_s + ahead_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@contextmanager
def tpm(plan: BootPlan, lab: Lab) -> Iterator[socket.socket]:
    """A TPM 2.0 runs while the block lasts, or until QEMU closes the socket that is yielded for it."""
    program = process.require("swtpm", "swtpm")
    state = plan.folder.parent / "tpm"
    state.mkdir(exist_ok=True)
    ours, theirs = socket.socketpair()
    with ours, (plan.folder / "tpm.log").open("wb") as log:
        with theirs:
            argv = [program, "socket", "--tpm2", "--tpmstate", f"dir={state}"]
            argv += ["--ctrl", f"type=unixio,clientfd={theirs.fileno()}"]
            child = lab.spawn(argv, stdout=log.fileno(), stderr=log.fileno(), pass_fds=[theirs.fileno()])
        try:
            yield ours
        finally:
            child.end(_GRACE_S)

"""How long a machine may take for each step before the harness gives up on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds on the reference machine under TCG; deadlines made from them grow with a slow host."""

    boot_s: float = 420.0
    """From power-on to ready. A boot may take three times as long while its console prints."""
    silence_s: float = 90.0
    """A guest whose console printed within this time makes progress and is not called hung."""
    shutdown_s: float = 150.0
    """Longer than systemd's DefaultTimeoutStopSec of 90 s, so that the guest can name the unit that does not stop."""
    kexec_silence_s: float = 60.0
    """From the old kernel's last line to the first of the kernel that kexec started, which unpacks itself first."""
    quiet_s: float = 90.0
    """From ready until no unit is starting or busy, before the machine is frozen; then it is frozen as it is."""
    freeze_s: float = 30.0
    """For QEMU to write or to read the device state of a machine, which is half a megabyte."""
    thaw_s: float = 60.0
    """For the guest of a thawed or resumed machine to answer its first command."""
    memory_dump_s: float = 120.0
    """For QEMU to write a guest's memory for crash(8): some hundred MiB."""
    ssh_attempt_s: float = 40.0
    """For one attempt to log in over SSH while the guest boots; longer than ssh's ConnectTimeout of 30 s."""
    attempt_every_s: float = 2.0
    """Between two attempts to reach a guest that may take either the serial shell or SSH; not scaled."""

"""The devices that this host's QEMU has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from harness.core import process
from harness.core.errors import HostError
from harness.model.machine_spec import NicModel, NicSpec
from harness.qemu.command_line import PROGRAM


def check_nics(nics: Iterable[NicSpec]) -> None:
    """Raise `HostError` for a network card that this host's QEMU does not have."""
    for model in dict.fromkeys(nic.model for nic in nics):
        if model is NicModel.IGB and f'name "{model}"' not in known_devices():
            remedy = "upgrade to QEMU 8.0 or newer, or use a profile with e1000e"
            raise HostError(f"this host's QEMU has no network card {model}: {remedy}")


@cache
def known_devices() -> str:
    """What ``qemu-system-x86_64 -device help`` prints."""
    return process.output([process.require(PROGRAM, "qemu-system-x86"), "-device", "help"])

"""The devices that this host's QEMU has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from harness.core import process
from harness.core.errors import HostError
from harness.model.machine_spec import NicModel, NicSpec
from harness.qemu import program


def check_nics(nics: Iterable[NicSpec]) -> None:
    """Raise `HostError` for a network card that this host's QEMU does not have."""
    for model in dict.fromkeys(nic.model for nic in nics):
        if model is NicModel.IGB and f'name "{model}"' not in known_devices():
            remedy = "install QEMU 8.0 or newer, name one with $BOOTPROOF_QEMU, or use a profile with e1000e"
            raise HostError(f"{program.in_use()} has no network card {model}: {remedy}")


def known_devices() -> str:
    """What QEMU's ``-device help`` prints."""
    return _devices_of(program.in_use().program)


@cache
def _devices_of(path: str) -> str:
    return process.output([path, "-device", "help"])

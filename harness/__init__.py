"""Bootproof: boots proven before promotion. The names that tests and a conftest.py may import.

    from harness import Deadline, Machine, state

Each name is imported from its module when it is first used, so ``import harness`` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.core.deadline import Deadline
    from harness.core.errors import HostError, ImageError
    from harness.guest.channel import Channel, Completed
    from harness.guest.testinfra_host import Host
    from harness.guest.waiting import WaitFailed
    from harness.lab import Lab
    from harness.machine.errors import BootFailed
    from harness.machine.machine import Machine, power_on_together
    from harness.machine.states import Versions, state
    from harness.model.artifacts import Artifacts
    from harness.model.definition import ImageDefinition
    from harness.model.machine_spec import BootPath, DiskSpec
    from harness.model.seed_file import SeedFile
    from harness.plugin.not_applicable import not_applicable

_MODULES = {
    "Artifacts": "harness.model.artifacts",
    "BootFailed": "harness.machine.errors",
    "BootPath": "harness.model.machine_spec",
    "Channel": "harness.guest.channel",
    "Completed": "harness.guest.channel",
    "Deadline": "harness.core.deadline",
    "DiskSpec": "harness.model.machine_spec",
    "Host": "harness.guest.testinfra_host",
    "HostError": "harness.core.errors",
    "ImageDefinition": "harness.model.definition",
    "ImageError": "harness.core.errors",
    "Lab": "harness.lab",
    "Machine": "harness.machine.machine",
    "SeedFile": "harness.model.seed_file",
    "Versions": "harness.machine.states",
    "WaitFailed": "harness.guest.waiting",
    "not_applicable": "harness.plugin.not_applicable",
    "power_on_together": "harness.machine.machine",
    "state": "harness.machine.states",
}

__all__ = [
    "Artifacts",
    "BootFailed",
    "BootPath",
    "Channel",
    "Completed",
    "Deadline",
    "DiskSpec",
    "Host",
    "HostError",
    "ImageDefinition",
    "ImageError",
    "Lab",
    "Machine",
    "SeedFile",
    "Versions",
    "WaitFailed",
    "not_applicable",
    "power_on_together",
    "state",
]


def __getattr__(name: str) -> Any:
    """PEP 562: the module of a public name is imported on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public are: {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

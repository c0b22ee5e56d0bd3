"""``--set KEY=VALUE``: one setting of a case, changed. To add a key, add a function and a line to `CHANGES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.errors import BootproofError, UsageError
from harness.model import network_faults
from harness.model.artifacts import load_artifacts
from harness.model.machine_spec import BootPath, DiskRole, NicModel
from harness.replay.case import SERVICE, Case
from harness.store.store import Store


def change(case: Case, setting: str, store: Store) -> Case:
    """``case`` with ``setting``, a KEY=VALUE. `UsageError` quotes it if it is not valid."""
    key, is_pair, value = setting.partition("=")
    make = CHANGES.get(key)
    if not is_pair or make is None:
        raise UsageError(f"--set {setting}: expected KEY=VALUE, where KEY is one of {', '.join(CHANGES)}")
    if case.test and key not in _OF_A_TEST:
        raise UsageError(
            f"--set {setting}: the test makes its own machine, so only {', '.join(_OF_A_TEST)} can be changed"
        )
    try:
        return make(case, value, store)
    except (ValueError, BootproofError) as error:
        raise UsageError(f"--set {setting}: {error}") from error


def _artifacts(case: Case, value: str, store: Store) -> Case:
    folder = Path(value)
    return replace(case, artifacts=load_artifacts(folder.absolute()) if folder.is_dir() else store.artifacts(value))


def _delay(case: Case, value: str, _: Store) -> Case:
    unit, _colon, seconds = value.partition(":")
    if not SERVICE.fullmatch(unit):
        raise UsageError("expected delay=UNIT:SECONDS, such as delay=ssh.service:30")
    lines = f"TimeoutStartSec=infinity\nExecStartPre=sleep {_positive(seconds)}"
    return case.with_service_settings(unit, "delay", lines)


def _disk(case: Case, value: str, _: Store) -> Case:
    """A disk image in place of the persistent disk. The file is opened read-only."""
    path = Path(value).absolute()
    if not path.is_file():
        raise UsageError("file not found")
    place = next((place for place, disk in enumerate(case.spec.disks) if disk.role is DiskRole.DATA), None)
    if place is None:
        raise UsageError("the machine has no persistent disk")
    return replace(case, disks=(*case.contents[:place], path, *case.contents[place + 1 :]))


def _network_faults(case: Case, value: str, _: Store) -> Case:
    names = tuple(filter(None, value.split(",")))
    for name in names:
        network_faults.read(name)
    return replace(case, network_faults=names)


def _nic(case: Case, value: str, _: Store) -> Case:
    model = NicModel(value)
    return _with_spec(case, nics=tuple(replace(nic, model=model) for nic in case.spec.nics))


def _with_spec(case: Case, **changes: Any) -> Case:
    return replace(case, spec=replace(case.spec, **changes))


def _positive(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise UsageError(f"{value!r} is not a positive whole number")
    return int(value)


_OF_A_TEST = ("artifacts", "boot-path", "network-faults")
CHANGES: dict[str, Callable[[Case, str, Store], Case]] = {
    "artifacts": _artifacts,
    "boot-path": lambda case, value, _: _with_spec(case, boot_path=BootPath(value), firmware=None),
    "cpus": lambda case, value, _: _with_spec(case, cpus=_positive(value)),
    "delay": _delay,
    "disk": _disk,
    "kernel-argument": lambda case, value, _: replace(case, arguments=(*case.arguments, *value.split())),
    "memory": lambda case, value, _: _with_spec(case, memory_mib=_positive(value)),
    "network-faults": _network_faults,
    "nic": _nic,
}

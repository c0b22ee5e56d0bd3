"""Checks which QEMU emulates machines, and whether a quicker one is at hand."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.core import process
from harness.core.errors import BootproofError, HostError, UsageError
from harness.host import emulator
from harness.host.doctor.check import CheckState, HostCheck, first_line
from harness.model.artifacts import KERNEL
from harness.model.qemu import Qemu
from harness.qemu import program
from harness.store.store import find_store

_NAME = "emulator"
_BACKPORTS = "bookworm-backports"
_GAIN = "boots of base take 64 to 69 CPU seconds instead of 92 to 99 (measured with QEMU 7.2 and 10.0)"
_AGREE = "make setup QEMU_FROM_BACKPORTS=1"


def emulators(artifacts: Path | None) -> Iterator[HostCheck]:
    """The QEMU that emulation would use; ``artifacts`` is the folder of those built last, if there are any.

    Nothing is measured here: a run does that, once.
    """
    try:
        named, found = program.named(), emulator.installed()
    except UsageError as error:
        remedy = f"unset {program.VARIABLE}"
        yield HostCheck(name=_NAME, state=CheckState.MISSING, detail=first_line(error), remedy=remedy)
        return
    if named:
        yield HostCheck(name=_NAME, state=CheckState.OK, detail=f"{named}, {named.reason}")
    elif len(found) > 1:
        yield HostCheck(name=_NAME, state=CheckState.OK, detail=_of_several(found, artifacts))
    elif found:
        yield of_release(found[0], _release(), has_backports=_has_backports())


def _of_several(found: list[Qemu], artifacts: Path | None) -> str:
    """Which of several is used; none is known before a run has measured them with its kernel."""
    known = None
    with suppress(HostError, OSError):
        memory = find_store().root / "accelerators"
        known = emulator.recall(emulator.memory_file(found, artifacts / KERNEL, memory)) if artifacts else None
    if known is None:
        return f"the next emulated run measures which is quickest: {', '.join(map(str, found))}"
    best = emulator.best(known.times)
    return f"{best}: {best.reason}"


def of_release(qemu: Qemu, release: dict[str, str], *, has_backports: bool) -> HostCheck:
    """Whether ``release`` of the host (os-release(5)) has a quicker QEMU than ``qemu``, its only one: pure."""
    if release.get("VERSION_CODENAME") != "bookworm" or not qemu.version.startswith("7.2"):
        return HostCheck(name=_NAME, state=CheckState.OK, detail=str(qemu))
    where = f"{_BACKPORTS} has a quicker one"
    if not has_backports:
        where += ", once apt knows that archive (the Debian wiki's page Backports says how)"
    return HostCheck(name=_NAME, state=CheckState.LIMITED, detail=f"{qemu}; {where}: {_GAIN}", remedy=_AGREE)


def _release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:  # the host has no os-release
        return {}


def _has_backports() -> bool:
    """Whether apt's sources have the archive; no network is needed."""
    try:
        return _BACKPORTS in process.output(["apt-cache", "policy"])
    except BootproofError:
        return False

"""Checks memory, cores, the clock and the locale."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterator

from harness.core.deadline import usable_cores
from harness.host import admission
from harness.host.doctor.check import SUDO, CheckState, HostCheck

_MIB_PER_BOOT = 2600
_LEAST_MIB = 1500
"""The memory that a machine of 2 GiB touches until `base` is ready, with QEMU's own."""
_CLOCK_S = 1704067200
"""2024-01-01: before that, certificates and the archive's signatures are not yet valid."""


def resources() -> Iterator[HostCheck]:
    yield memory(admission.memory()[1])
    yield _cores()
    yield clock(time.time())
    yield _locale()


def memory(available_mib: int) -> HostCheck:
    """Whether ``available_mib`` are enough for machines."""
    machines = available_mib // _MIB_PER_BOOT
    if machines:
        detail = f"{available_mib} MiB free: {machines} machines of 2 GiB at once"
        return HostCheck(name="memory", state=CheckState.OK, detail=detail)
    is_enough = available_mib >= _LEAST_MIB
    what = "a machine of 2 GiB may run out of memory" if is_enough else f"a boot needs at least {_LEAST_MIB} MiB"
    detail = f"{available_mib} MiB free: {what}; end other programs, or give this host 4 GiB"
    return HostCheck(name="memory", state=CheckState.LIMITED if is_enough else CheckState.MISSING, detail=detail)


def _cores() -> HostCheck:
    cores = usable_cores()
    detail = f"{cores}: so many machines boot at once"
    if cores == 1:
        detail = "1: one machine boots at a time, which is slow; everything else works"
    return HostCheck(name="cores", state=CheckState.OK, detail=detail)


def clock(now_s: float) -> HostCheck:
    """Whether ``now_s``, in seconds since 1970, can be the time."""
    day = time.strftime("%Y-%m-%d", time.gmtime(now_s))
    if now_s >= _CLOCK_S:
        return HostCheck(name="clock", state=CheckState.OK, detail=day)
    detail = f"{day}: certificates and package signatures are not valid yet"
    return HostCheck(name="clock", state=CheckState.MISSING, detail=detail, remedy=f"{SUDO}timedatectl set-ntp true")


def _locale() -> HostCheck:
    encodings = {codecs.lookup(name).name for name in (sys.getfilesystemencoding(), sys.stdout.encoding)}
    if encodings == {"utf-8"}:
        return HostCheck(name="locale", state=CheckState.OK, detail="UTF-8")
    detail = f"{', '.join(sorted(encodings - {'utf-8'}))} instead of UTF-8: some output cannot be shown"
    return HostCheck(name="locale", state=CheckState.LIMITED, detail=detail, remedy="export LC_ALL=C.UTF-8")

"""The identity of this host and of its boot."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_KEYS = ("vendor_id", "model name", "flags")


def boot_id() -> str:
    """The id of this boot of the host: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def host_identity() -> list[str]:
    """Boot id, kernel release and CPU of this host, for cached results that are valid only here and now."""
    cpu = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n")[0].splitlines()
    return [boot_id(), os.uname().release, *(line for line in cpu if line.split("\t")[0] in _CPU_KEYS)]

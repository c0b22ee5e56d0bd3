"""Which host this is, and which of its boots."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_KEYS = ("vendor_id", "model name", "flags")


def boot_id() -> str:
    """This boot of this host; random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def host_identity() -> list[str]:
    """This boot of this host: its boot id, kernel and CPU."""
    cpu = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n")[0].splitlines()
    return [
        boot_id(),
        os.uname().release,
        *(line for line in cpu if line.split("\t")[0] in _CPU_KEYS),
    ]

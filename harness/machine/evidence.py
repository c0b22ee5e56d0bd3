"""What is kept of a boot for the person who looks into its failure: files in the boot's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.core import serialization
from harness.core.deadline import Deadline
from harness.core.errors import BootproofError
from harness.guest.channel import Channel
from harness.model.critical_path import PathStep
from harness.model.layout import CRITICAL_PATH, MEMORY, SCREENSHOT, UNITS
from harness.model.verdict import Unit
from harness.qemu.qmp import Qmp, QmpError

ON_DISPLAY = ("firmware", "ipxe", "grub")
"""Phases in which the firmware drives the display, which then says more than the console."""


def keep_screenshot(qmp: Qmp, folder: Path) -> None:
    """Keep the display of a machine that has not reached Linux. Call this first: the firmware's reset ends QEMU."""
    with suppress(QmpError):  # QEMU is gone, or built without PNG
        qmp.execute("screendump", {"filename": str(folder / SCREENSHOT), "format": "png"}, deadline=Deadline(10))


def keep_journal(channel: Channel, folder: Path) -> None:
    """Keep the journal of a guest that is in user space, if it still answers; after it, why journalctl failed."""
    with suppress(BootproofError, OSError):
        journal = channel.run("journalctl -b -o short-monotonic --no-pager", Deadline(20))
        problem = f"\njournalctl {journal.ending}: {journal.errors}\n" if journal.status else ""
        (folder / "journal.log").write_bytes(journal.stdout + problem.encode())


def kept_journal(folder: Path) -> list[str]:
    """The lines of the journal that `keep_journal` kept; none if there is none."""
    with suppress(OSError):
        return (folder / "journal.log").read_text("utf-8", "replace").splitlines()
    return []


def keep_memory(qmp: Qmp, folder: Path, deadline: Deadline) -> None:
    """Keep the guest's memory for crash(8): some hundred MiB, and up to a minute."""
    file = {"protocol": f"file:{folder / MEMORY}", "paging": False, "format": "kdump-zlib"}
    with suppress(QmpError):  # QEMU is gone, or has no room
        qmp.execute("dump-guest-memory", file, deadline=deadline)


def keep_starts(units: Mapping[str, Unit], path: Sequence[PathStep], folder: Path) -> None:
    """Keep when each unit started, and the boot's critical path, for the report."""
    with suppress(OSError):
        serialization.write(folder / UNITS, units)
        serialization.write(folder / CRITICAL_PATH, path)

"""The writes that a power cut lost, and the files that they belonged to."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from harness.core.debugfs import debugfs
from harness.persistence.power_cuts.crash_states import CrashState, windows
from harness.persistence.power_cuts.sweep import Recording, end_state
from harness.persistence.power_cuts.writelog import Write, open_log

_JOURNAL = "8"
"""Linux, Documentation/filesystems/ext4/special_inodes.rst."""
_MOST_EXAMINED, _MOST_LISTED = 100, 8


def lost_writes(recording: Recording, cut: CrashState, folder: Path) -> tuple[str, ...]:
    """A line for each of the first few writes that ``cut`` lost or tore, with the file that it belonged to.

    Writes whose file exists at the end of the recording come first; the file of others is unknown. Temporary files go
    to ``folder``.
    """
    there = {part.number: part.size_bytes for part in cut.parts}
    with open_log(recording.log) as log, end_state(recording, folder) as state:
        numbers = next((span.writes for span in windows(log.writes) if span.begin == cut.begin), ())
        missing = [(n, log.writes[n]) for n in numbers if there.get(n, 0) < log.writes[n].size_bytes]
        owned = [(n, write, _owner(state, write, recording)) for n, write in missing[:_MOST_EXAMINED]]
    owned.sort(key=lambda row: not row[2].startswith("/"))
    return tuple(
        f"write {n}, at byte {write.offset_bytes} of the disk: "
        f"{f'only {there[n]}' if there.get(n) else 'nothing'} of {write.size_bytes} bytes; {owner}"
        for n, write, owner in owned[:_MOST_LISTED]
    )


def _owner(state: Path, write: Write, recording: Recording) -> str:
    """debugfs(8): icheck maps a block to its inode, ncheck an inode to its names."""
    at = write.offset_bytes - recording.partition.start_bytes
    if not 0 <= at < recording.partition.size_bytes:
        return "outside of the file system"
    found = re.search(r"^\d+\t(\d+)$", debugfs(state, f"icheck {at // _block_bytes(state)}"), re.MULTILINE)
    if not found:
        return "of the file system itself"
    inode = found[1]
    if inode == _JOURNAL:
        return "of the journal"
    rows = (line.partition("\t")[::2] for line in debugfs(state, f"ncheck {inode}").splitlines())
    return next((name.replace("//", "/") for number, name in rows if number == inode), f"inode {inode}")


def _block_bytes(state: Path) -> int:
    """Linux, Documentation/filesystems/ext4/super.rst: s_log_block_size."""
    with state.open("rb") as file:
        file.seek(1024 + 24)
        return int(1024 << struct.unpack("<I", file.read(4))[0])

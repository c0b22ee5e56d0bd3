"""debugfs(8): reading and changing an ext2, ext3 or ext4 file system in a file, without mounting it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from harness.core import process
from harness.core.process import CommandFailed

NOT_FOUND = ".*: File not found by ext2_lookup"
"""An ``ignored`` line, about a file that does not exist."""

CORRECTED = 2
"""e2fsck(8): up to this status, all errors are corrected."""

_MOST_QUOTED = 10
_BANNER = r"debugfs \d\S* \(.*\)"


def debugfs(image: Path, *requests: str, writes: bool = False, ignored: str | None = None) -> str:
    """The standard output of debugfs for ``requests``; with ``writes`` they may change ``image``.

    debugfs ends with status 0 when a request fails, so each line of its standard error counts. `CommandFailed` has
    them; ``ignored`` is a regular expression for lines that are no failure.
    """
    mode = ["-w"] if writes else []
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="debugfs-") as script:
        script.write("".join(f"{request}\n" for request in requests))
        script.flush()
        how = ["-R", requests[0]] if len(requests) == 1 else ["-f", script.name]
        argv = [process.require("debugfs", "e2fsprogs"), *mode, *how, str(image)]
        status, stdout, stderr = process.capture(argv)
    fine = re.compile(_BANNER if ignored is None else f"{_BANNER}|{ignored}")
    problems = [line for line in stderr.splitlines() if line.strip() and not fine.fullmatch(line.strip())]
    if status or problems:
        raise CommandFailed(tuple(argv), status, "\n".join(problems[:_MOST_QUOTED]) or stderr)
    return stdout

"""What a run would do: pytest builds the images and collects the tests, and runs none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core import process, serialization
from harness.core.errors import HostError, ImageError, UsageError
from harness.core.terminal import to_stderr
from harness.model.shard import Collected


def collect(arguments: Sequence[str]) -> Collected:
    """Let pytest build and collect. `UsageError` or `HostError` with the end of what it printed, if it cannot."""
    with TemporaryDirectory(prefix="bootproof-plan-") as folder:
        written, log = Path(folder) / "collected.json", Path(folder) / "pytest.log"
        argv = [sys.executable, "-m", "pytest", *arguments]
        argv += ["-q", "-n", "0", "-p", "no:cacheprovider", f"--write-plan={written}", f"--run-dir={folder}/runs"]
        to_stderr("building and collecting …")
        try:
            process.run(argv, log=log)
        except process.CommandFailed as error:
            kind = {1: ImageError, 4: UsageError}.get(error.status, HostError)
            raise kind(f"pytest cannot collect these tests:\n{error.tail}") from None
        if not written.exists():
            raise UsageError(f"pytest has no tests to plan:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        return serialization.read(Collected, written)

"""The files beside a boot's console: its network log, a screenshot, and the lab's packets."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.core.text import clean
from harness.model.layout import NETWORK_LOG, SCREENSHOT
from harness.model.verdict import BootResult

_MOST_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The last lines of the ``network`` log, which has ``earlier`` more; ``screenshot`` is a PNG in base64, or empty;
    ``captures`` are links from the page to files."""

    network: tuple[str, ...]
    earlier: int
    screenshot: str
    captures: tuple[str, ...]


def gather(boot: BootResult, folder: Path) -> Beside:
    """The files of a boot of the run in ``folder``, as far as they still exist."""
    log = read_beside(boot, NETWORK_LOG, folder).decode("utf-8", "replace")
    network = tuple(clean(line) for line in log.splitlines())
    captures = (quote(os.path.relpath(name, folder)) for name in boot.captures if Path(name).exists())
    picture = read_beside(boot, SCREENSHOT, folder)
    return Beside(
        network=network[-_MOST_LINES:],
        earlier=max(0, len(network) - _MOST_LINES),
        screenshot=base64.b64encode(picture).decode("ascii"),
        captures=tuple(captures),
    )


def read_beside(boot: BootResult, name: str, folder: Path) -> bytes:
    """A file beside the boot's console, or nothing. It is searched in ``folder`` first, which may have been moved."""
    named = Path(boot.console).with_name(name)
    for path in (folder.joinpath(boot.machine, *named.parts[-2:]), named):
        try:
            return path.read_bytes()
        except OSError:
            continue
    return b""

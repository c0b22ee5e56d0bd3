"""A worker's part: end when its controller has ended."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import NoReturn


def leave_with(controller: int) -> None:
    """End this process, and with it every lab it holds, as soon as the process ``controller`` has ended.

    xdist's workers would notice only some 16 s later.
    """
    try:
        watched = os.pidfd_open(controller)
    except ProcessLookupError:  # it has ended already
        _leave()
    threading.Thread(target=_watch, args=(watched,), name="controller", daemon=True).start()


def _watch(watched: int) -> None:
    select.select([watched], [], [])  # pidfd_open(2): readable when the process has ended
    _leave()


def _leave() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")

"""A worker's part: to leave when its controller is gone."""

from __future__ import annotations

import os
import select
import signal
import threading


def leave_with(controller: int) -> None:
    """End this process, and with it every lab it holds, as soon as the process ``controller`` has ended.

    xdist's workers would notice some 16 s later; nobody is left to report to.
    """
    watched = os.pidfd_open(controller)
    threading.Thread(target=_watch, args=(watched,), name="controller", daemon=True).start()


def _watch(watched: int) -> None:
    select.select([watched], [], [])  # pidfd_open(2): readable when the process has ended
    os.kill(os.getpid(), signal.SIGKILL)

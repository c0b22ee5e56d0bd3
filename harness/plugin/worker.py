"""A worker's part: end when its controller has ended."""

from __future__ import annotations

import os
import select
import signal
import threading


def leave_with(controller: int) -> None:
    """End this process, and with it every lab it holds, as soon as the process ``controller`` has ended.

    xdist's workers would notice only some 16 s later.
    """
    try:
        watched = os.pidfd_open(controller)
    except ProcessLookupError:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)

    def watch() -> None:
        select.select([watched], [], [])  # pidfd_open(2): readable when the process has ended
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="controller", daemon=True).start()

"""Freezing and thawing over QMP: a machine's device state to a file and back. Its memory has a file of its own.

QEMU calls it migration. With ``x-ignore-shared``, memory that is shared with a file is not part of the state, which is
half a megabyte then (QEMU 7.2 and newer; ``mapped-ram`` of QEMU 9 and newer writes all of the memory instead).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.qemu.qmp import Qmp, QmpError

_SHARED_STAYS = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
_ENDED = ("completed", "failed", "cancelled")


class CannotFreeze(HostError):
    """QEMU cannot write or load a machine's state; the message has its reason."""


def check(qmp: Qmp, deadline: Deadline) -> None:
    """Raise `CannotFreeze` if the machine has a device whose state QEMU cannot write."""
    reasons = _ask(qmp, "query-migrate", {}, deadline).get("blocked-reasons")
    if reasons:
        raise CannotFreeze(f"QEMU cannot freeze this machine: {', '.join(reasons)}")


def save(qmp: Qmp, state: Path, deadline: Deadline) -> None:
    """Pause the machine and write its state; its memory file is complete then. It must not be continued.

    Raises `CannotFreeze`; the machine is paused then, too.
    """
    _ask(qmp, "stop", {}, deadline)
    _ask(qmp, "migrate-set-capabilities", _SHARED_STAYS, deadline)
    _ask(qmp, "migrate", {"uri": f"exec:cat >{shlex.quote(str(state))}"}, deadline)
    _await(qmp, deadline)


def load(qmp: Qmp, state: Path, deadline: Deadline) -> None:
    """Load that state into a machine started with ``-incoming defer``, and continue it. Raises `CannotFreeze`."""
    _ask(qmp, "migrate-set-capabilities", _SHARED_STAYS, deadline)
    _ask(qmp, "migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(state))}"}, deadline)
    _await(qmp, deadline)
    _ask(qmp, "cont", {}, deadline)


def _await(qmp: Qmp, deadline: Deadline) -> None:
    def ended() -> dict[str, Any] | None:
        status = _ask(qmp, "query-migrate", {}, deadline)
        return status if status.get("status") in _ENDED else None

    end = poll(ended, deadline, every_s=0.004)
    if end is None:
        raise CannotFreeze(f"QEMU did not finish a machine's state within {deadline.passed_s:.0f} s")
    if end["status"] != "completed":
        raise CannotFreeze(f"QEMU could not write or load a machine's state: {end.get('error-desc', end['status'])}")


def _ask(qmp: Qmp, command: str, arguments: Mapping[str, object], deadline: Deadline) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = qmp.execute(command, arguments, deadline=deadline)
    except QmpError as error:
        raise CannotFreeze(str(error)) from error
    return answer

"""Freezing and thawing over QMP: a machine's device state to a file and back, its memory staying in a file of its own.

QEMU calls it migration. With ``x-ignore-shared`` memory that QEMU shares with a file is not part of the state: half a
megabyte is left to write (QEMU 7.2 and newer; ``mapped-ram`` of QEMU 9 and newer writes all of the memory instead).
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
    """QEMU would not write, or not take, a machine's state; the sentence has its words."""


def check(qmp: Qmp, deadline: Deadline) -> None:
    """Raise `CannotFreeze` where the machine has a device whose state cannot be written."""
    reasons = _ask(qmp, "query-migrate", {}, deadline).get("blocked-reasons")
    if reasons:
        raise CannotFreeze(f"QEMU cannot freeze this machine: {', '.join(reasons)}")


def save(qmp: Qmp, state: Path, deadline: Deadline) -> None:
    """Stop the machine and write its state; on return its memory file is complete. It must not go on then.

    Raises `CannotFreeze`; the machine stands still then, too.
    """
    _ask(qmp, "stop", {}, deadline)
    _ask(qmp, "migrate-set-capabilities", _SHARED_STAYS, deadline)
    _ask(qmp, "migrate", {"uri": f"exec:cat >{shlex.quote(str(state))}"}, deadline)
    _await(qmp, deadline)


def load(qmp: Qmp, state: Path, deadline: Deadline) -> None:
    """Let a machine that was started with ``-incoming defer`` take that state and go on. Raises `CannotFreeze`."""
    _ask(qmp, "migrate-set-capabilities", _SHARED_STAYS, deadline)
    _ask(qmp, "migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(state))}"}, deadline)
    _await(qmp, deadline)
    _ask(qmp, "cont", {}, deadline)


def _await(qmp: Qmp, deadline: Deadline) -> None:
    def ended() -> dict[str, Any] | None:
        said = _ask(qmp, "query-migrate", {}, deadline)
        return said if said.get("status") in _ENDED else None

    said = poll(ended, deadline, every_s=0.004)
    if said is None:
        raise CannotFreeze(f"waited {deadline.passed_s:.0f} s for QEMU to hand over a machine's state, in vain")
    if said["status"] != "completed":
        raise CannotFreeze(f"QEMU could not hand over a machine's state: {said.get('error-desc', said['status'])}")


def _ask(qmp: Qmp, command: str, arguments: Mapping[str, object], deadline: Deadline) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = qmp.execute(command, arguments, deadline=deadline)
    except QmpError as error:
        raise CannotFreeze(str(error)) from error
    return answer

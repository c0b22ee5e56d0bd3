"""Run a Python program in the guest."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from harness.core.errors import ImageError
from harness.machine.verbs import GuestVerbs

_SHOWN = 200


def run_python(machine: GuestVerbs, program: str, arguments: Sequence[str]) -> str:
    """The output of ``program``, run by the guest's python3 with these arguments; `ImageError` if it fails."""
    done = machine.run(f"python3 - {shlex.join(arguments)} <<'END'\n{program}\nEND\n")
    if done.status:
        lines = done.errors.splitlines() or ["no output"]
        raise ImageError(f"{machine.name}: python3 in the guest {done.ending}: {lines[-1]}")
    return done.text


def read_json(machine: GuestVerbs, program: str, arguments: Sequence[str]) -> Any:
    """The JSON that ``program`` prints; `ImageError` if it prints something else."""
    printed = run_python(machine, program, arguments)
    try:
        return json.loads(printed)
    except ValueError as error:
        shown = printed[:_SHOWN] or "nothing"
        raise ImageError(f"{machine.name}: python3 in the guest printed no JSON but {shown}") from error

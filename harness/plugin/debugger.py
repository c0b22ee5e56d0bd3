"""``pytest --pdb``: the debugger has the failed test's ``machine``, and a Host of it as ``guest``.

The names are put into Python's builtins, because pdb stops in the frame that raised, whichever that is, and builtins
are the only namespace that every frame sees. Only this module does it; `take_back` removes them when the test ends.
"""

from __future__ import annotations

import builtins

from harness.machine.machine import Machine


def hand_over(machine: Machine | None) -> None:
    if machine is not None and machine.is_on:
        vars(builtins).update(machine=machine, guest=machine.guest)


def take_back() -> None:
    for name in ("machine", "guest"):
        vars(builtins).pop(name, None)

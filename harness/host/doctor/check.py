"""What doctor's checks are made of."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import BootproofError

SUDO = "" if os.geteuid() == 0 else "sudo "
INSTALL = f"{SUDO}apt-get install "


class CheckState(StrEnum):
    """``limited`` is what works less well or proves less; without what is ``missing`` no image can be proven."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """One thing about this host; ``remedy`` is a line to paste, empty where there is none or no need for one."""

    name: str
    state: CheckState
    detail: str
    remedy: str = ""

    @property
    def is_missing(self) -> bool:
        return self.state is CheckState.MISSING


WITHOUT_LAB = CheckState.LIMITED
"""What it means for a host when what only a lab needs is not there: the user network takes its place."""


def attempt(name: str, without: CheckState, try_it: Callable[[], str]) -> HostCheck:
    try:
        return HostCheck(name=name, state=CheckState.OK, detail=try_it())
    except (BootproofError, OSError) as error:
        return HostCheck(name=name, state=without, detail=first_line(error))


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def user_name() -> str:
    """This user's name, or number: in containers not everybody has a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())

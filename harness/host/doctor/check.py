"""The result of a check of the host, and helpers to make one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import BootproofError

SUDO = "" if os.geteuid() == 0 else "sudo "
INSTALL = f"{SUDO}apt-get install "


class CheckState(StrEnum):
    """``limited``: works slower or proves less. ``missing``: no image can be tested without it."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """The result of one check; ``remedy`` is a shell command that fixes it, or empty."""

    name: str
    state: CheckState
    detail: str
    remedy: str = ""

    @property
    def is_missing(self) -> bool:
        return self.state is CheckState.MISSING


WITHOUT_LAB = CheckState.LIMITED
"""The state of a check that only a lab needs: without a lab, the user network is used."""


def from_packages(
    name: str, missing: Iterable[str], enables: str, without: str, state: CheckState = CheckState.LIMITED
) -> HostCheck:
    """A check of files; ``missing`` are the packages to install. If there are any, the check has that ``state``."""
    if packages := " ".join(missing):
        return HostCheck(name=name, state=state, detail=without, remedy=f"{INSTALL}{packages}")
    return HostCheck(name=name, state=CheckState.OK, detail=enables)


def attempt(name: str, without: CheckState, try_it: Callable[[], str]) -> HostCheck:
    try:
        return HostCheck(name=name, state=CheckState.OK, detail=try_it())
    except (BootproofError, OSError) as error:
        return HostCheck(name=name, state=without, detail=first_line(error))


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

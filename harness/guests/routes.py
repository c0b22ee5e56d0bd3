"""What a host with guests goes through: how it goes down each time, and which version it comes up with. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.guests.expectations import Ending
from harness.guests.samples import FIRMWARE_ROWS, ROWS, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The host goes down by ``ending`` and comes up ``into`` a version. ``starts_on_boot`` is the ON_BOOT of
    libvirt-guests there; None for what the image has."""

    ending: Ending
    into: Literal["old", "new"]
    starts_on_boot: bool | None = None

    @property
    def stage(self) -> str:
        """For findings: "after an upgrade with guests suspended"."""
        how = {
            Ending.SUSPEND: "with guests suspended",
            Ending.SHUTDOWN: "with guests shut down",
            Ending.POWER_CUT: "by a power cut",
        }[self.ending]
        return f"after {'an upgrade' if self.into == 'new' else 'a rollback'} {how}"


FIRMWARE = "firmware-and-tpm"
ROUTES = {
    "there-and-back": (
        Step(ending=Ending.SUSPEND, into="new"),
        Step(ending=Ending.POWER_CUT, into="new"),
        Step(ending=Ending.SHUTDOWN, into="old"),
    ),
    "started-on-boot": (
        Step(ending=Ending.SUSPEND, into="new", starts_on_boot=True),
        Step(ending=Ending.SHUTDOWN, into="old", starts_on_boot=True),
    ),
    "ignored-on-boot": (
        Step(ending=Ending.SUSPEND, into="new", starts_on_boot=False),
        Step(ending=Ending.SHUTDOWN, into="old", starts_on_boot=False),
    ),
    FIRMWARE: (Step(ending=Ending.SUSPEND, into="new"), Step(ending=Ending.POWER_CUT, into="old")),
    "suspended-back": (Step(ending=Ending.SUSPEND, into="new"), Step(ending=Ending.SUSPEND, into="old")),
    "power-cuts": (Step(ending=Ending.POWER_CUT, into="new"), Step(ending=Ending.POWER_CUT, into="old")),
}


def rows_of(route: str) -> tuple[Row, ...]:
    """The guests that go ``route``."""
    return FIRMWARE_ROWS if route == FIRMWARE else ROWS

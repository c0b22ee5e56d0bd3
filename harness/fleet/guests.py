"""What guests of a host lack on an image: pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.fleet.host_file import GuestsInUse
from harness.fleet.prediction import Prediction, lacks, not_told
from harness.model.guest_contract import TITLES, GuestContract

_BROKEN = "guest-contract-broken"
_OF_PACKAGES = "/usr/"
"""An image has the firmware below; another file is the operator's, and on the host's disk."""


def about_guests(offered: GuestContract | None, guests: GuestsInUse) -> Iterator[Prediction]:
    """What the ``guests`` have and the image does not offer, of which None means that no run of it is known.

    Whether a host's CPU can run a CPU model depends on that CPU: only a model that the image does not know is missing.
    """
    if guests.state != "whole":
        yield not_told("guests-not-told", "guests", f"what all guests of the host have: {guests.state}")
    if offered is None:
        if guests.machine_types:
            yield not_told("guests-not-told", "guests", "whether guests start: no run of the image is known here")
        return
    qemu = offered.programs.get("QEMU", "")
    without = f"QEMU {qemu} of the image" if qemu else "the image, which has no QEMU for x86,"
    for kind in ("machine_types", "cpu_models", "firmware"):
        known = getattr(offered, kind)
        for name in getattr(guests, kind):
            if name not in known and (kind != "firmware" or name.startswith(_OF_PACKAGES)):
                what = f"guests have it, and {without} does not: they neither start nor migrate"
                yield lacks(_BROKEN, f"{TITLES[kind]} {name}", what)

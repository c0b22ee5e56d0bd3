"""The names of network cards, which configuration in persistent paths uses: udev's scheme differs between releases
(systemd.net-naming-scheme(7))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.machine.verbs import GuestVerbs
from harness.persistence.guest_python import read_json

_LOOK = """
import json, os

found = {}
for name in os.listdir("/sys/class/net"):
    if os.path.exists(f"/sys/class/net/{name}/device"):
        with open(f"/sys/class/net/{name}/address") as file:
            found[file.read().strip()] = name
print(json.dumps(found))
"""


def names(machine: GuestVerbs) -> dict[str, str]:
    """The name of each card that is a device, by its address."""
    found: dict[str, str] = read_json(machine, _LOOK, ())
    return found


def renamed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each card that has another name than before, or is gone: pure."""
    for address, name in before.items():
        if after.get(address) != name:
            now = f"is {after[address]}" if address in after else "is gone"
            yield f"the network card {address} was {name}, {now}: what names it in the configuration does not apply"

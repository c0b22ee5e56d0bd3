"""The names of network cards, which configuration in persistent paths uses: udev's scheme differs between releases
(systemd.net-naming-scheme(7))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.guest.probes import Probe, ask, read
from harness.machine.verbs import GuestVerbs

_CARDS = Probe(
    "network cards",
    """\
echo look
for card in /sys/class/net/*; do
    [ -e "$card/device" ] || continue
    read -r address <"$card/address" || exit
    echo "$address ${card##*/}"
done""",
)


def names(machine: GuestVerbs) -> dict[str, str]:
    """The name of each card that is a device, by its address. `ImageError` if the guest does not tell."""
    return read(ask(machine.channel, [_CARDS]), _CARDS, _names)


def _names(text: str) -> dict[str, str]:
    heading, *rows = text.splitlines()
    if heading != "look":
        raise ValueError("no heading")
    return {row.split()[0]: row.split()[1] for row in rows}


def renamed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each card that has another name than before, or is gone: pure."""
    for address, name in before.items():
        if after.get(address) != name:
            now = f"is {after[address]}" if address in after else "is gone"
            yield f"the network card {address} was {name}, {now}: what names it in the configuration does not apply"

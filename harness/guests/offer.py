"""What a hypervisor offers to guests beyond a BIOS: guests that need more are made only where it is there."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guests.samples import Row

_OFFER = Probe("domain capabilities of q35", "virsh domcapabilities --machine q35")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Whether libvirt finds UEFI firmware, and a program that emulates TPMs."""

    has_uefi: bool
    has_tpm: bool

    def reasons_against(self, row: Row) -> Iterator[str]:
        """What a guest of ``row`` needs and the host does not have."""
        if row.firmware == "efi" and not self.has_uefi:
            yield "libvirt finds no UEFI firmware"
        if row.has_tpm and not self.has_tpm:
            yield "libvirt finds no swtpm"

    def possible(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(row for row in rows if not any(self.reasons_against(row)))


def read_offer(channel: Channel) -> Offer:
    """`ImageError` if libvirt does not answer."""
    return read(ask(channel, [_OFFER]), _OFFER, offer_in)


def offer_in(text: str) -> Offer:
    """From libvirt's domain capabilities (formatdomaincaps): it looks for the firmware and for swtpm itself."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from error
    return Offer(
        has_uefi="efi" in _values(root, "os/enum[@name='firmware']"),
        has_tpm="emulator" in _values(root, "devices/tpm/enum[@name='backendModel']"),
    )


def _values(root: ElementTree.Element, place: str) -> set[str | None]:
    return {value.text for value in root.findall(f"{place}/value")}

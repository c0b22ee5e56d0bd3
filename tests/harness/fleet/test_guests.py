"""What guests of a host have and an image does not offer is predicted; without a run of the image, nothing is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.fleet import Effect, predict
from harness.fleet.host_file import GuestsInUse
from harness.model.guest_contract import GuestContract

from ...small_fleet import HOST, drivers

OFFERED = GuestContract(
    programs={"QEMU": "10.0.2"},
    machine_types={"pc-q35-10.0": "", "q35": "alias of pc-q35-10.0"},
    cpu_models={"EPYC-Rome": ""},
    firmware={"/usr/share/OVMF/OVMF_CODE_4M.fd": "3653632"},
)
GUESTS = GuestsInUse(
    state="whole", machine_types=("pc-q35-10.0",), cpu_models=("EPYC-Rome",),
    firmware=("/usr/share/OVMF/OVMF_CODE_4M.fd", "/data/own.fd"),
)  # fmt: skip


def said(offered: GuestContract | None, guests: GuestsInUse | None) -> list[tuple[str, Effect, str]]:
    found = predict(replace(drivers(), guests=offered), replace(HOST, guests=guests))
    print(*found, sep="\n")
    assert all(one.next for one in found)
    return [(one.id, one.effect, one.device) for one in found]


def test_guests_that_have_what_the_image_offers_start() -> None:
    assert said(OFFERED, GUESTS) == []
    assert said(None, None) == []
    assert said(OFFERED, None) == []


@pytest.mark.parametrize(
    ("guests", "device"),
    [
        (replace(GUESTS, machine_types=("pc-q35-10.0", "pc-q35-2.4")), "machine type pc-q35-2.4"),
        (replace(GUESTS, cpu_models=("Opteron_G5",)), "CPU model Opteron_G5"),
        (replace(GUESTS, firmware=("/usr/share/OVMF/OVMF_CODE.fd",)), "firmware /usr/share/OVMF/OVMF_CODE.fd"),
    ],
)
def test_what_guests_have_and_the_image_lacks_is_missing(guests: GuestsInUse, device: str) -> None:
    assert said(OFFERED, guests) == [("guest-contract-broken", Effect.MISSING, device)]


def test_on_an_image_without_qemu_no_guest_starts() -> None:
    assert len(said(GuestContract(), GUESTS)) == 3


def test_what_cannot_be_told_is_said() -> None:
    assert said(None, GUESTS) == [("guests-not-told", Effect.NOT_TOLD, "guests")]
    assert said(None, GuestsInUse(state="whole")) == []
    unreadable = GuestsInUse(state="/etc/libvirt/qemu is not readable: Permission denied")
    assert said(OFFERED, unreadable) == [("guests-not-told", Effect.NOT_TOLD, "guests")]

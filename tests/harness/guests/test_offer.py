"""What a hypervisor offers, from libvirt's own words, and which guests are made there."""

from __future__ import annotations

import pytest

from harness.guests.offer import Offer, offer_in
from harness.guests.samples import FIRMWARE_ROWS, ROWS

CAPABILITIES = """\
<domainCapabilities>
  <os supported='yes'>
    <enum name='firmware'>{firmware}</enum>
    <loader supported='yes'><enum name='type'><value>rom</value></enum></loader>
  </os>
  <devices>
    <tpm supported='yes'>
      <enum name='model'><value>tpm-tis</value></enum>
      <enum name='backendModel'><value>passthrough</value>{tpm}</enum>
    </tpm>
  </devices>
</domainCapabilities>
"""
ALL = Offer(has_uefi=True, has_tpm=True)


@pytest.mark.parametrize("has_uefi", [True, False])
@pytest.mark.parametrize("has_tpm", [True, False])
def test_firmware_and_emulated_tpms_are_seen(has_uefi: bool, has_tpm: bool) -> None:
    text = CAPABILITIES.format(
        firmware="<value>efi</value>" if has_uefi else "", tpm="<value>emulator</value>" if has_tpm else ""
    )

    assert offer_in(text) == Offer(has_uefi=has_uefi, has_tpm=has_tpm)


def test_a_host_without_capabilities_is_an_error() -> None:
    with pytest.raises(ValueError, match="no XML"):
        offer_in("error: failed to connect")


def test_guests_that_need_what_is_not_there_are_left_out_with_a_reason() -> None:
    bare = Offer(has_uefi=False, has_tpm=False)

    assert ALL.possible(FIRMWARE_ROWS) == FIRMWARE_ROWS
    assert bare.possible(ROWS + FIRMWARE_ROWS) == ROWS
    assert [reason for row in FIRMWARE_ROWS for reason in bare.reasons_against(row)] == [
        "libvirt finds no UEFI firmware",
        "libvirt finds no swtpm",
    ]

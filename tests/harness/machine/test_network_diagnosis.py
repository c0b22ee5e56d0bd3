"""What a machine's requests show about its boot, from lines that dnsmasq wrote in real boots."""

from __future__ import annotations

import uuid

from harness.lab import TraceEvent
from harness.lab.trace import read_line
from harness.machine.network_diagnosis import explained, failure
from harness.model.machine_spec import BootPath, MachineSpec, NicSpec
from harness.model.verdict import Finding

WHERE = "machine, boot 1 (ipxe-bios)"
SPEC = MachineSpec(name="machine", uuid=uuid.UUID(int=0), boot_path=BootPath.IPXE_BIOS)
TWO_CARDS = MachineSpec(
    name="machine", uuid=uuid.UUID(int=0), boot_path=BootPath.IPXE_BIOS, nics=(NicSpec(has_dhcp=False), NicSpec())
)
NOTHING = Finding(id="no-boot-device", what="the firmware found nothing to boot", where=WHERE)
GIVEN = (
    "DHCPDISCOVER(br0) 52:54:00:77:00:00 ",
    "DHCPOFFER(br0) 10.77.0.10 52:54:00:77:00:00 ",
    "DHCPREQUEST(br0) 10.77.0.10 52:54:00:77:00:00 ",
    "DHCPACK(br0) 10.77.0.10 52:54:00:77:00:00 machine-0",
)
UNANSWERED = "DHCPDISCOVER(br0) 52:54:00:77:00:00 no address available"
ROGUE = (
    *GIVEN[:2],
    "DHCPREQUEST(br0) 10.77.0.208 52:54:00:77:00:00 ",
    "DHCPNAK(br0) 10.77.0.208 52:54:00:77:00:00 wrong server-ID",
)


def steps(*lines: str) -> list[TraceEvent]:
    read = [read_line(f"dnsmasq-dhcp[4]: 2239861879 {line}", float(second)) for second, line in enumerate(lines)]
    return [event for event in read if event]


def found(*lines: str, spec: MachineSpec = SPEC, is_transient: bool = False) -> str:
    finding = failure(steps(*lines), spec, WHERE, is_transient=is_transient)
    return finding.id if finding else ""


def test_a_complete_exchange_is_no_finding() -> None:
    assert found(*GIVEN, *GIVEN) == ""


def test_two_unanswered_requests_in_a_row_are_a_finding() -> None:
    assert found(UNANSWERED) == ""
    assert found(UNANSWERED, UNANSWERED) == "dhcp-unanswered"
    assert found(UNANSWERED, *GIVEN, UNANSWERED) == "", "an answer came in between"


def test_while_all_faults_are_transient_an_answer_may_still_come() -> None:
    assert found(UNANSWERED, UNANSWERED, UNANSWERED, is_transient=True) == ""


def test_requests_of_a_network_card_that_should_get_no_address_do_not_count() -> None:
    assert found(UNANSWERED, UNANSWERED, UNANSWERED, spec=TWO_CARDS) == ""
    second = UNANSWERED.replace(":77:00:", ":77:01:")
    assert found(second, second, spec=TWO_CARDS) == "dhcp-unanswered"


def test_an_accepted_offer_of_another_server_is_found_even_while_all_faults_are_transient() -> None:
    assert found(*ROGUE, is_transient=True) == "dhcp-servers-disagree"


def test_the_network_explains_why_the_firmware_found_nothing_to_boot() -> None:
    assert explained(NOTHING, [], SPEC).id == "no-dhcp-request"
    assert explained(NOTHING, steps(UNANSWERED), SPEC).id == "dhcp-unanswered"
    assert explained(NOTHING, steps(*GIVEN), SPEC).id == "dhcp-no-boot-file"


def test_a_finding_that_the_network_does_not_explain_stays_as_it_is() -> None:
    asked = TraceEvent(time_s=9.0, number=0, protocol="http", kind="begun", what="/boot.ipxe", text="GET /boot.ipxe …")
    panic = Finding(id="kernel-panic", what="the kernel panicked", where=WHERE)

    assert explained(NOTHING, [*steps(*GIVEN), asked], SPEC) == NOTHING
    assert explained(panic, [], SPEC) == panic

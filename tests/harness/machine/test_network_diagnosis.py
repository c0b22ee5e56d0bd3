"""What the wire says of a boot, from lines that dnsmasq wrote in real boots."""

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
IN_VAIN = "DHCPDISCOVER(br0) 52:54:00:77:00:00 no address available"
RIVAL = (
    *GIVEN[:2],
    "DHCPREQUEST(br0) 10.77.0.208 52:54:00:77:00:00 ",
    "DHCPNAK(br0) 10.77.0.208 52:54:00:77:00:00 wrong server-ID",
)


def steps(*said: str) -> list[TraceEvent]:
    read = [read_line(f"dnsmasq-dhcp[4]: 2239861879 {line}", float(second)) for second, line in enumerate(said)]
    return [event for event in read if event]


def found(*said: str, spec: MachineSpec = SPEC, is_transient: bool = False) -> str:
    finding = failure(steps(*said), spec, WHERE, is_transient=is_transient)
    return finding.id if finding else ""


def test_a_good_exchange_is_no_finding() -> None:
    assert found(*GIVEN, *GIVEN) == ""


def test_who_asks_twice_in_vain_is_not_answered() -> None:
    assert found(IN_VAIN) == ""
    assert found(IN_VAIN, IN_VAIN) == "dhcp-unanswered"
    assert found(IN_VAIN, *GIVEN, IN_VAIN) == "", "an answer came in between"


def test_while_faults_are_transient_an_answer_may_yet_come() -> None:
    assert found(IN_VAIN, IN_VAIN, IN_VAIN, is_transient=True) == ""


def test_a_card_that_is_to_get_no_answer_is_not_heard() -> None:
    assert found(IN_VAIN, IN_VAIN, IN_VAIN, spec=TWO_CARDS) == ""
    second = IN_VAIN.replace(":77:00:", ":77:01:")
    assert found(second, second, spec=TWO_CARDS) == "dhcp-unanswered"


def test_an_offer_of_somebody_else_that_was_taken_is_found_also_while_faults_are_transient() -> None:
    assert found(*RIVAL, is_transient=True) == "dhcp-servers-disagree"


def test_nothing_to_boot_is_explained_by_the_wire() -> None:
    assert explained(NOTHING, [], SPEC).id == "no-dhcp-request"
    assert explained(NOTHING, steps(IN_VAIN), SPEC).id == "dhcp-unanswered"
    assert explained(NOTHING, steps(*GIVEN), SPEC).id == "dhcp-no-boot-file"


def test_what_the_wire_knows_nothing_of_stays_as_it_is() -> None:
    asked = TraceEvent(time_s=9.0, number=0, protocol="http", kind="begun", what="/boot.ipxe", text="GET /boot.ipxe …")
    panic = Finding(id="kernel-panic", what="the kernel panicked", where=WHERE)

    assert explained(NOTHING, [*steps(*GIVEN), asked], SPEC) == NOTHING
    assert explained(panic, [], SPEC) == panic

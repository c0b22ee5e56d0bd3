"""What cuts guests of two hosts off from each other, lets VLANs mix, or takes too long, is found and named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guests.guest_gaps import Reboot, judge_gaps
from harness.guests.guest_network import GuestNetwork, offers_of
from harness.guests.hypervisor import GuestFailed, Hypervisor
from harness.guests.network_guests import FLOWS, GUESTS
from harness.guests.tunnels import PORT, Tunnel, choose
from harness.model.definition import DEFINITION_FILE, load_definition
from harness.model.events import GuestGap
from harness.model.verdict import Finding
from harness.verdict.time_budget import allowed_s

from .conftest import ROOT, Judge
from .ready import ready_pair

IMAGE = "nova-kvm"
PATIENCE_S = 10.0
GUEST = GUESTS[0].name
CARD = "$(virsh -q domiflist {} | awk '{{ print $1 }}')"


# Whole runs come first, before machines that the other tests share.
def test_a_guest_that_comes_back_too_late_fails_the_verdict_of_its_image(judge: Judge, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(ROOT / "images" / IMAGE, images / IMAGE)
    (images / "roles").symlink_to(ROOT / "images" / "roles")
    file = images / IMAGE / DEFINITION_FILE
    file.write_text(re.sub(r"guest_gap_s = \d+", "guest_gap_s = 1", file.read_text("utf-8")), "utf-8")

    _, verdict = judge(IMAGE, "--thorough", "tests/image/test_guest_network.py", images=images)

    assert [finding.id for finding in verdict.findings] == ["guest-gap-too-long"]
    assert "guests" in verdict.coverage.failed
    assert any(line.startswith("the last answer came ") for line in verdict.findings[0].evidence)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestNetwork]:
    """Guests of two hosts that reach each other."""
    with ready_pair(load_definition(ROOT / "images" / IMAGE), tmp_path_factory.mktemp("pair")) as machines:
        left, right = map(Hypervisor, machines)
        tunnel, missing = choose([offers_of(left), offers_of(right)])
        assert (tunnel, missing) == (Tunnel.GENEVE, "")
        network = GuestNetwork(left, right, Tunnel.GENEVE)
        network.make()
        network.check("at first")
        network.patience_s = PATIENCE_S
        yield network


def found(network: GuestNetwork, plant: str, undo: str) -> dict[str, Finding]:
    """The findings after ``plant`` was run on the first host; ``undo`` makes it good again."""
    machine = network.upgraded.machine
    run = machine.context.run
    known = len(run.of_kind(Finding))
    machine.check(plant)
    with pytest.raises(GuestFailed):
        network.check("planted")
    machine.check(undo)
    network.check("undone")
    return {finding.id: finding for finding in run.of_kind(Finding)[known:]}


def test_a_tunnel_that_is_not_kept_is_named(network: GuestNetwork) -> None:
    other = network.staying.machine.spec.address
    make = f"ovs-vsctl add-port br-guests {PORT} -- set interface {PORT} type=geneve options:remote_ip={other}"

    findings = found(network, f"ovs-vsctl del-port {PORT}", make)

    assert set(findings) == {"guest-cut-off"}
    finding = findings["guest-cut-off"]
    assert finding.what.startswith(f"planted: guest {GUEST}: it is running, and has not answered ping on VLAN 10")
    assert any(line.startswith("upgraded-vlan-20: it is running") for line in finding.evidence)
    assert "; on its serial port it says link=up received=" in finding.what
    assert not any("staying-vlan-10: it is" in line for line in finding.evidence)
    assert f"tunnel {PORT} on left: geneve to {other} → none" in finding.evidence


def test_a_vlan_tag_that_is_lost_is_named(network: GuestNetwork) -> None:
    card = CARD.format(GUEST)

    findings = found(network, f"ovs-vsctl clear port {card} tag", f"ovs-vsctl set port {card} tag=10")

    assert set(findings) == {"guest-cut-off"}
    assert f"port of {GUEST} on left: tag 10 → no tag" in findings["guest-cut-off"].evidence


def test_a_guest_on_another_vlan_is_not_isolated(network: GuestNetwork) -> None:
    card = CARD.format(GUEST)

    findings = found(network, f"ovs-vsctl set port {card} tag=20", f"ovs-vsctl set port {card} tag=10")

    assert set(findings) == {"guest-cut-off", "guest-not-isolated"}
    assert f"guest {GUEST}: it is on VLAN 10, and answers ping on VLAN 20" in findings["guest-not-isolated"].what
    assert f"port of {GUEST} on left: tag 10 → tag 20" in findings["guest-not-isolated"].evidence


def test_a_guest_that_does_not_answer_for_longer_than_the_budget_is_found(network: GuestNetwork) -> None:
    machine = network.upgraded.machine
    run, good = machine.context.run, machine.definition
    machine.definition = replace(good, guest_gap_s=1)
    long_s = allowed_s(1) + 3

    network.begin_traffic()
    down_s = network.now_s()
    machine.check(f"virsh suspend {GUEST} && sleep {long_s:.0f} && virsh resume {GUEST}", Deadline(120))
    reboot = Reboot(down_s=down_s, up_s=network.now_s())
    network.check("resumed")
    network.wait_for_streams()
    with pytest.raises(GuestFailed) as failure:
        judge_gaps(network, network.end_traffic(), reboot, "planted")
    machine.definition = good

    gaps = {(gap.guest, gap.way): gap for gap in run.of_kind(GuestGap)}
    assert set(gaps) == {(flow.guest.name, flow.way) for flow in FLOWS}
    assert gaps[GUEST, "ping"].longest_s >= long_s - 1
    assert failure.value.finding.id == "guest-gap-too-long"
    assert f"guest {GUEST}: it did not answer ping for {gaps[GUEST, 'ping'].longest_s:.1f} s" in (
        failure.value.finding.what
    )


def test_a_guest_that_was_started_anew_has_lost_its_connection(network: GuestNetwork) -> None:
    network.begin_traffic()
    down_s = network.now_s()
    network.upgraded.machine.check(f"sleep 2; virsh reset {GUEST}")
    reboot = Reboot(down_s=down_s, up_s=network.now_s())
    network.check("reset")
    network.wait_for_streams()
    with pytest.raises(GuestFailed) as failure:
        judge_gaps(network, network.end_traffic(), reboot, "planted")

    assert failure.value.finding.id == "guest-connection-lost"
    assert f"guest {GUEST}: its connection from before is lost after line " in failure.value.finding.what
    assert "Connection reset by peer" in failure.value.finding.what

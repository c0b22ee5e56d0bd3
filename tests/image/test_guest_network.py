"""Guests of two hosts reach each other over a tunnel, each VLAN for itself, before and after one host is upgraded; how
long they do not answer is measured, and connections to them last."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import ImageDefinition, Lab, Machine, Versions, not_applicable
from harness.guests.expectations import Ending
from harness.guests.ground import Ground, ground_of
from harness.guests.guest_gaps import Reboot, judge_gaps
from harness.guests.guest_network import GuestNetwork, offers_of
from harness.guests.guests_service import read_service, set_ending
from harness.guests.hypervisor import Hypervisor
from harness.guests.tunnels import choose
from harness.machine.states import BOOTED, PREVIOUS
from harness.machine.templates import Templates
from harness.model.machine_spec import Network
from harness.verdict.coverage import GUESTS, required_checks

pytestmark = [pytest.mark.thorough, pytest.mark.check(GUESTS)]
STAGE = "after an upgrade of one of two hosts"


@pytest.mark.cause("the database of Open vSwitch is not kept, or guests start before their network or late")
@pytest.mark.boots(1)
def test_guests_reach_each_other_over_a_tunnel_before_and_after_one_host_is_upgraded(
    templates: Templates, second_templates: Templates, versions: Versions, definition: ImageDefinition, lab: Lab,
    folder: Path,
) -> None:  # fmt: skip
    if GUESTS not in required_checks(definition):
        return
    if ground_of(definition.persistent_paths) is not Ground.OPENVSWITCH:
        not_applicable("a tunnel between guests: /etc/openvswitch is not a persistent path")
    if lab.network is Network.USER:
        not_applicable("a tunnel between guests: on the user network, hosts do not reach each other")
    with (
        templates.machine(PREVIOUS, f"{folder.name}-upgraded", lab=lab, folder=folder / "upgraded") as upgraded,
        second_templates.machine(BOOTED, f"{folder.name}-staying", lab=lab, folder=folder / "staying") as staying,
    ):
        network = make_network(upgraded, staying)
        network.check("before an upgrade")
        network.begin_traffic()
        down_s = network.now_s()
        keeps_memory = go_down(upgraded)
        upgraded.reboot(into=versions.new)
        reboot = Reboot(down_s=down_s, up_s=network.now_s(), keeps_memory=keeps_memory)
        with upgraded.boot_slot():
            network.check(STAGE)
        network.wait_for_streams()
        judge_gaps(network, network.end_traffic(), reboot, STAGE)


def make_network(upgraded: Machine, staying: Machine) -> GuestNetwork:
    hosts = Hypervisor(upgraded), Hypervisor(staying)
    tunnel, missing = choose([offers_of(host) for host in hosts])
    if tunnel is None:
        not_applicable(f"a tunnel between guests: {missing}")
    network = GuestNetwork(*hosts, tunnel)
    with upgraded.boot_slot():  # guests that start keep the CPU busy, as a boot does
        network.make()
    return network


def go_down(machine: Machine) -> bool:
    """Let the host suspend its guests when it goes down; false without libvirt-guests: nobody tells the guests then."""
    service = read_service(machine.channel)
    if service.is_active:
        set_ending(machine.channel, service, Ending.SUSPEND)
    return service.is_active

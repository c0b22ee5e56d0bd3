"""Guests that do not come back as they were are found: who, what, and in libvirt's and QEMU's own words.

One machine for all faults of one guest each, another for those of a host. Both lose their power and come up again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from shlex import quote
from uuid import uuid4

import pytest

from harness.guests.domains import Bridge
from harness.guests.expectations import Ending
from harness.guests.ground import BRIDGE, ground_of
from harness.guests.hypervisor import GuestFailed
from harness.guests.over_boots import GuestsOverBoots
from harness.guests.samples import Activity, Row, new_seed, sample_guests
from harness.machine.machine import Machine
from harness.model.definition import load_definition
from harness.model.verdict import Finding

from .conftest import ROOT
from .ready import ready_machine

SAVE = "/var/lib/libvirt/qemu/save"
IMAGES = "/var/lib/libvirt/images"
LOGS = "/var/log/libvirt/qemu"


def guests_on(machine: Machine, *rows: Row) -> GuestsOverBoots:
    ground = ground_of(machine.definition.persistent_paths)
    return GuestsOverBoots(machine, ground, sample_guests(ground, new_seed(), rows))


def found(guests: GuestsOverBoots) -> dict[str, Finding]:
    """What is found after a power cut, by id."""
    with pytest.raises(GuestFailed):
        guests.check("after a power cut", Ending.POWER_CUT, starts_on_boot=True)
    return {finding.id: finding for finding in guests.findings}


def said(finding: Finding) -> str:
    return "\n".join((finding.what, *finding.evidence))


# ---- faults of one guest each ---------------------------------------------------------------------------------------

HOOK = """\
#!/bin/sh
if [ "$1" = fails-by-its-hook ] && [ "$2" = prepare ]; then
    echo "planted: no quota" >&2
    exit 1
fi
"""
LOSE_LOCK = """\
disk=driver=qcow2,discard=unmap,file.driver=file,file.locking=off,file.filename={disk}
{{ echo write -P 7 512k 64k; echo flush; sleep 20; echo discard 512k 64k; }} | qemu-io --image-opts $disk &
sleep 10
qemu-img snapshot --image-opts -c backup $disk
wait
"""
"""A backup makes a snapshot while another program has the disk open, which then writes back what it knew before."""
ROWS = {
    "has-no-autostart-link": Row(name="has-no-autostart-link", autostarts=True),
    "fails-by-its-hook": Row(name="fails-by-its-hook", autostarts=True, is_on_bridge=True),
    "has-its-memory-in-ram": Row(name="has-its-memory-in-ram", activity=Activity.SAVED),
    "lost-its-lock": Row(name="lost-its-lock", machine_type="pc", disk_bus="ide", autostarts=True),
    "has-no-definition": Row(name="has-no-definition"),
    "is-started-by-a-link": Row(name="is-started-by-a-link", activity=Activity.OFF),
    "has-its-log-in-ram": Row(name="has-its-log-in-ram", autostarts=True),
    "lost-its-port": Row(name="lost-its-port", autostarts=True, is_on_bridge=True),
    "lost-its-variables": Row(name="lost-its-variables", firmware="efi", memory_mib=128, nic_model="e1000e"),
    "lost-its-tpm": Row(name="lost-its-tpm", has_tpm=True),
}
PLANT = {
    "has-no-autostart-link": "rm /etc/libvirt/qemu/autostart/has-no-autostart-link.xml",
    "fails-by-its-hook": f"mkdir -p /etc/libvirt/hooks && printf %s {quote(HOOK)} >/etc/libvirt/hooks/qemu && "
    "chmod 755 /etc/libvirt/hooks/qemu",
    "lost-its-lock": LOSE_LOCK.format(disk=f"{IMAGES}/lost-its-lock.qcow2"),
    "has-no-definition": "rm /etc/libvirt/qemu/has-no-definition.xml",
    "is-started-by-a-link": "ln -s /etc/libvirt/qemu/is-started-by-a-link.xml /etc/libvirt/qemu/autostart/",
    "has-its-log-in-ram": f"rm {LOGS}/has-its-log-in-ram.log",
    "lost-its-variables": "rm /var/lib/libvirt/qemu/nvram/lost-its-variables_VARS.fd",
    "lost-its-tpm": "rm -r /var/lib/libvirt/swtpm/$(virsh -q domuuid lost-its-tpm)",
}
PLANT_AFTER_BOOT = (
    "until port=$(virsh -q domiflist lost-its-port | awk '/vnet/ { print $1 }') && [ -n \"$port\" ]; do sleep 1; done",
    'ip link set "$port" nomaster',
    "systemctl restart systemd-networkd.service",
)
"""In one shell: a card is off its bridge, and what makes the bridge starts after its guests."""
FOUND = {
    "guest-not-started": {"has-no-autostart-link": "it is shut off, not running", "fails-by-its-hook": "no quota"},
    "guest-not-resumed": {"has-its-memory-in-ram": "its memory, which was saved, is gone"},
    "guest-disk-damaged": {"lost-its-lock": "qemu-img check"},
    "guest-lost": {"has-no-definition": "libvirt does not know it any more"},
    "guest-unwanted": {"is-started-by-a-link": "it is running, and nobody started it"},
    "guest-changed": {"has-no-autostart-link": "its autostart was True, is False"},
    "guest-firmware-lost": {
        "lost-its-variables": "its UEFI variables have the word '-'",
        "lost-its-tpm": "its TPM has lost 1",
    },
    "guest-log-lost": {"has-its-log-in-ram": "its log begins"},
    "guest-cut-off": {"lost-its-port": f"not on {BRIDGE}"},
    "guest-too-early": {"lost-its-lock": "systemd-networkd.service"},
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    """Those of a host of which each guest has a fault."""
    with ready_machine(load_definition(ROOT / "images" / "kvm"), tmp_path_factory.mktemp("kvm")) as machine:
        guests = guests_on(machine, *ROWS.values())
        guests.make()
        machine.check(f"mkdir -p {SAVE} && mount -t tmpfs tmpfs {SAVE}")
        guests.leave(Ending.POWER_CUT)
        for plant in PLANT.values():
            machine.check(plant)
        machine.check("sync")
        machine.kill()
        machine.power_on()
        machine.check("\n".join(PLANT_AFTER_BOOT))
        return found(guests)


@pytest.mark.parametrize("name", FOUND)
def test_a_guest_that_is_not_as_it_was_is_found_and_named(findings: dict[str, Finding], name: str) -> None:
    for guest, words in FOUND[name].items():
        assert guest in said(findings[name])
        assert words in said(findings[name])


def test_nothing_else_is_found_and_each_names_both_versions(findings: dict[str, Finding]) -> None:
    assert set(findings) == set(FOUND)
    for finding in findings.values():
        assert any(line.startswith("the guests were made on 2026.11 (libvirt ") for line in finding.evidence)
        assert any(line.startswith("the host now has 2026.11 (libvirt ") for line in finding.evidence)


# ---- faults of a host ------------------------------------------------------------------------------------------------

HOST_ROWS = (
    Row(name="in-a-network", autostarts=True, has_pool=True),
    Row(name="on-a-bridge", machine_type="pc", disk_bus="ide", nic_model="e1000", autostarts=True, is_on_bridge=True),
)


@contextmanager
def wrong_owner(machine: Machine) -> Iterator[None]:
    """Another user has the folder of the disks, as if users' numbers had changed with the version."""
    machine.check(f"chown 4242:4242 {IMAGES} && chmod 700 {IMAGES} && sync")
    yield
    machine.check(f"chown root:root {IMAGES} && chmod 711 {IMAGES} && sync")


@contextmanager
def lost_database(machine: Machine) -> Iterator[None]:
    """The database of Open vSwitch is not kept: the host makes a new one."""
    machine.check("cp -a /etc/openvswitch/conf.db /etc/openvswitch/kept && rm /etc/openvswitch/conf.db && sync")
    yield
    machine.check(f"ovs-vsctl --may-exist add-br {BRIDGE} && sync")


_ORDERS_LATE = re.compile(r"After=(?!\S+\.socket$|dbus)").match


@contextmanager
def before_openvswitch(machine: Machine) -> Iterator[None]:
    """libvirtd is ordered after nothing but its sockets any more, and Open vSwitch starts late."""
    unit = machine.check("systemctl cat libvirtd.service")
    early = "\n".join(line for line in unit.splitlines() if not _ORDERS_LATE(line) and line[:1] != "#")
    spec, late = machine.spec, "[Service]\nExecStartPre=/bin/sleep 60\n"
    planted = {"systemd.extra-unit.libvirtd.service": early, "systemd.unit-dropin.ovs-vswitchd.service~late": late}
    machine.spec = replace(spec, credentials={**spec.credentials, **planted})
    yield
    machine.spec = spec


FAULTS: dict[str, tuple[Callable[[Machine], AbstractContextManager[None]], str, str]] = {
    "wrong-owner": (wrong_owner, "guest-not-started", "Permission denied"),
    "lost-database": (lost_database, "guest-not-started", BRIDGE),
    "before-openvswitch": (before_openvswitch, "guest-not-started", BRIDGE),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestsOverBoots]:
    definition = load_definition(ROOT / "images" / "nova-kvm")
    with ready_machine(definition, tmp_path_factory.mktemp("nova-kvm")) as machine:
        guests = guests_on(machine, *HOST_ROWS)
        guests.make()
        yield guests


def test_a_step_that_fails_or_hangs_names_guest_step_and_words(host: GuestsOverBoots) -> None:
    hypervisor = host.hypervisor
    domain = replace(host.guests[0].domain, name="on-no-bridge", uuid=uuid4(), network=Bridge(name="br-absent"))
    hypervisor.define(replace(domain, autostarts=False), hypervisor.kind())

    with pytest.raises(GuestFailed) as failed:
        hypervisor.start("on-no-bridge")
    with pytest.raises(GuestFailed) as hung:
        hypervisor.check("sleep 600", guest="on-no-bridge", step="wait", limit_s=1)
    hypervisor.machine.check("virsh undefine on-no-bridge")

    assert failed.value.finding.id == hung.value.finding.id == "guest-step-failed"
    assert failed.value.finding.what.startswith("guest on-no-bridge: start: ")
    assert "br-absent" in failed.value.finding.what
    assert "wait: sleep 600 did not answer within" in hung.value.finding.what


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_host_is_found_and_named(host: GuestsOverBoots, fault: str) -> None:
    plant, name, words = FAULTS[fault]
    machine = host.machine
    for guest in host.guests:  # what the fault before left off
        machine.check(f"virsh -q domstate {guest.name} | grep -qx running || virsh -q start {guest.name}")
    host.leave(Ending.POWER_CUT)
    host.findings.clear()

    with plant(machine):
        machine.kill()
        machine.power_on()
        findings = found(host)

    assert words in said(findings[name])
    assert "in-a-network" in said(findings[name])

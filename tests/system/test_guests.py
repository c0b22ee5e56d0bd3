"""What a hypervisor offers to guests is read whole, and what a version takes away from them is found and named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.core.deadline import Deadline
from harness.diff import Side, Weight, compare
from harness.fleet import FleetHost, ImageDrivers, predict, read_drivers
from harness.fleet.host_file import GuestsInUse, parse_host
from harness.guests.broken import broken
from harness.guests.contract import read_contract
from harness.host.guest_scan import guest_lines
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition, load_definition
from harness.model.guest_contract import GuestContract, losses
from harness.model.host_facts import HostFacts
from harness.model.verdict import Outcome
from harness.store.store import find_store

from .. import samples, small_fleet
from .conftest import ROOT, Judge, MakeImage
from .ready import Counting, ready_machine

IMAGE = "nova-kvm"
PROGRAM = "/usr/local/sbin/qemu-system-x86_64"
FILTER = r"""#!/bin/sh
/usr/bin/qemu-system-x86_64 "$@" >/run/answer || exit
exec sed -e 's/"name": "pc-q35-9.2"/"name": "pc-q35-0.1"/' -e 's/"name": "Opteron_G1"/"name": "Opteron_G0"/' \
    -e 's/"virtio-rng-pci\\"/"virtio-rng-x\\"/' /run/answer
"""
"""A QEMU that lacks a machine type, a CPU model and a device."""
GUEST = """\
<domain type='qemu'><name>secret</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-q35-9.2'>hvm</type></os>
<cpu mode='custom'><model>Opteron_G1</model></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""
"""libvirt would take the first QEMU in PATH, which may not write to /run."""


@dataclass(frozen=True)
class Planted:
    """``plant`` is a command for the machine; then guests lose ``name``."""

    plant: str
    name: str


BY_PROGRAM = f"mkdir -p {Path(PROGRAM).parent} && cat >{PROGRAM} <<'END' && chmod 755 {PROGRAM}\n{FILTER}END\n"
PLANTED = {
    "machine_types": Planted(BY_PROGRAM, "pc-q35-9.2"),
    "cpu_models": Planted(BY_PROGRAM, "Opteron_G1"),
    "devices": Planted(BY_PROGRAM, "virtio-rng-pci"),
    "firmware": Planted("rm /usr/share/seabios/vgabios-cirrus.bin", "/usr/share/seabios/vgabios-cirrus.bin"),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with ready_machine(load_definition(ROOT / "images" / IMAGE), tmp_path_factory.mktemp(IMAGE)) as machine:
        yield machine


@dataclass(frozen=True)
class Seen:
    """The contract twice, after one look at the machine each, and after `PLANTED`; the round trips of one look."""

    before: GuestContract
    again: GuestContract
    after: GuestContract
    round_trips: int


@pytest.fixture(scope="module")
def seen(machine: Machine) -> Seen:
    channel = Counting(machine.channel)
    before = read_contract(channel)
    round_trips = channel.count
    again = read_contract(channel)
    for plant in dict.fromkeys(planted.plant for planted in PLANTED.values()):
        machine.check(plant)
    return Seen(before, again, read_contract(channel), round_trips)


def test_a_hypervisor_tells_all_kinds_in_one_round_trip(seen: Seen) -> None:
    assert [field.name for field in fields(seen.before) if not getattr(seen.before, field.name)] == ["unknown"]
    assert seen.round_trips == 1
    assert {"pc", "q35", "pc-q35-9.2"} <= set(seen.before.machine_types)
    assert seen.before.machine_types["q35"].startswith("alias of pc-q35-")
    assert "tcg" in seen.before.cpu_models["qemu64"]
    assert seen.before.devices["virtio-blk-pci"] == "PCI"
    assert int(seen.before.firmware["/usr/share/seabios/bios-256k.bin"]) == 256 << 10
    assert "virtio" in seen.before.capabilities["qemu disk bus"]
    assert seen.before.capabilities["kvm mode custom models"]


def test_two_looks_at_one_machine_are_the_same_and_lose_nothing(seen: Seen) -> None:
    assert seen.again == seen.before
    assert broken(seen.before, seen.again, "2026.10", "2026.11") is None


def test_what_is_taken_away_is_found_and_nothing_else(seen: Seen) -> None:
    assert {(loss.kind, loss.name) for loss in losses(seen.before, seen.after)} == {
        (kind, planted.name) for kind, planted in PLANTED.items()
    }
    finding = broken(seen.before, seen.after, "2026.10", "2026.11")
    assert finding is not None
    assert finding.id == "guest-contract-broken"
    assert "machine type pc-q35-9.2 is gone" in finding.what


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_taken_away_is_alarming_in_the_diff(machine: Machine, seen: Seen, kind: str) -> None:
    def side(contract: GuestContract) -> Side:
        verdict = samples.verdict(())
        assert verdict.runtime_profile is not None
        profile = replace(verdict.runtime_profile, host=HostFacts(guests=contract))
        digests = {"artifacts": machine.artifacts.digest}
        return Side(artifacts=machine.artifacts, verdict=replace(verdict, digests=digests, runtime_profile=profile))

    sections = compare(side(seen.before), side(seen.after)).sections

    alarming = {entry.what for section in sections for entry in section.entries if entry.weight is Weight.ALARM}
    assert PLANTED[kind].name in alarming


def test_a_host_whose_guests_would_not_start_is_named(machine: Machine, seen: Seen, tmp_path: Path) -> None:
    """The files of a real libvirt, of a guest that runs."""
    machine.check(f"cat >/run/secret.xml <<'END'\n{GUEST}END\n")
    machine.run("virsh define /run/secret.xml && virsh start secret", Deadline(240)).checked()
    for folder in ("etc/libvirt/qemu", "run/libvirt/qemu"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "secret.xml").write_text(machine.check(f"cat /{folder}/secret.xml"))
    machine.check("virsh destroy secret")

    lines = "\n".join(guest_lines(tmp_path))
    host = parse_host(f"{small_fleet.text()}{lines}\n".encode(), "rack7")

    assert "secret" not in lines
    assert host.guests == GuestsInUse(state="whole", machine_types=("pc-q35-9.2",), cpu_models=("Opteron_G1",))
    drivers = read_drivers(machine.artifacts, find_store())
    assert predicted(drivers, seen.before, host) == set()
    assert predicted(drivers, seen.after, host) == {
        ("guest-contract-broken", "machine type pc-q35-9.2"), ("guest-contract-broken", "CPU model Opteron_G1")
    }  # fmt: skip
    assert predicted(drivers, None, host) == {("guests-not-told", "guests")}


def predicted(drivers: ImageDrivers, offered: GuestContract | None, host: FleetHost) -> set[tuple[str, str]]:
    """What is predicted about the host's guests."""
    found = predict(replace(drivers, guests=offered), replace(host, devices=()))
    return {(one.id, one.device) for one in found if one.id.startswith("guest")}


LACKS_FIRMWARE = """\
- import_playbook: base.yml
- hosts: all
  tasks:
    - name: a card that guests may have has no firmware
      ansible.builtin.file: {path: /usr/share/seabios/vgabios-cirrus.bin, state: absent}
"""


@pytest.mark.parametrize("base", [IMAGE], indirect=True)
def test_a_run_finds_what_an_upgrade_takes_away(base: ImageDefinition, judge: Judge, make_image: MakeImage) -> None:
    previous = build(base, find_store()).folder
    images = make_image(IMAGE, LACKS_FIRMWARE, ('version = "', 'version = "1.'))

    status, verdict = judge(IMAGE, "tests/image/test_guests.py", f"--previous={previous}", images=images)

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    (finding,) = verdict.findings
    assert finding.id == "guest-contract-broken"
    assert finding.evidence == ("firmware is gone: /usr/share/seabios/vgabios-cirrus.bin",)
    assert verdict.coverage.failed == ("guests",)
    assert verdict.guests is not None


@pytest.mark.parametrize("base", [IMAGE], indirect=True)
def test_a_run_finds_nothing_in_an_upgrade_that_takes_nothing_away(
    base: ImageDefinition, judge: Judge, make_image: MakeImage
) -> None:
    previous = build(base, find_store()).folder
    images = make_image(IMAGE, "- import_playbook: base.yml\n", ('version = "', 'version = "1.'))

    _, verdict = judge(IMAGE, "tests/image/test_guests.py", f"--previous={previous}", images=images)

    assert verdict.findings == ()
    assert "guests" in verdict.coverage.passed

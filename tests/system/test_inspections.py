"""On a real machine each field that an inspection can fill is filled: an empty one is a command that failed unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.diff import Side, compare
from harness.examine.facts import read_facts
from harness.guest.control_plane import read_waiting_unit
from harness.guest.health import inspect_guest
from harness.guest.runtime_profile import read_profile
from harness.guest.serial_shell import SerialChannel, takes_serial_shell
from harness.machine.machine import Machine
from harness.machine.shared import take_snapshot
from harness.model.artifacts import Artifacts
from harness.model.definition import load_definition
from harness.persistence.identity import PROBES, identity
from harness.persistence.locations import find_locations, partition_number, serials
from harness.persistence.seeded_defaults import missing

from .conftest import ROOT, Judge
from .ready import ready_machine

MAY_BE_EMPTY = {"failed_units", "tainted", "host", "begins_s", "ends_s", "after", "pulls"}
"""A good machine has no failed unit and no taint; the facts about a host have a test of their own; a unit may have
begun with the kernel, still be starting, or name no others."""


@pytest.fixture(scope="module", params=["base", "base-bookworm", "base-ubuntu", "nova-kvm"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A ready machine of that image, for looking only."""
    definition, folder = load_definition(ROOT / "images" / request.param), tmp_path_factory.mktemp(request.param)
    with ready_machine(definition, folder) as machine:
        yield machine


def empty(value: Any, name: str = "") -> Iterator[str]:
    """The names of the empty fields of a value of nested dataclasses, mappings and tuples."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.name not in MAY_BE_EMPTY:
                yield from empty(getattr(value, field.name), f"{name}.{field.name}")
    elif not value:
        yield name
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(one, int):  # root's number is 0
                yield from empty(one, f"{name}[{key}]")
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from empty(one, f"{name}[{number}]")


def test_the_guest_is_reached_as_its_systemd_allows(machine: Machine) -> None:
    systemd = machine.artifacts.manifest.systemd

    assert isinstance(machine.channel, SerialChannel) == takes_serial_shell(systemd), systemd


def test_the_health_and_the_fingerprint_of_a_guest_have_each_field(machine: Machine) -> None:
    seen = inspect_guest(machine.channel)

    assert list(empty(seen)) == []
    assert (seen.failed_units, seen.image) == ((), machine.definition.name)
    assert len(seen.starts) > 20
    assert len({one.begins_s for one in seen.starts}) > 20, "each has its own time"
    assert any(one.after for one in seen.starts)
    assert any(one.pulls for one in seen.starts)


def test_a_unit_shows_its_process_and_its_own_lines(machine: Machine) -> None:
    seen = read_waiting_unit(machine.channel, machine.unit_name("ssh.service"))

    assert (seen.load, seen.active, seen.sub) == ("loaded", "active", "running")
    assert seen.main_pid > 1
    assert seen.type
    assert any("Server listening on" in line for line in seen.said), seen.said


def test_the_runtime_profile_has_each_field(machine: Machine) -> None:
    seen = read_profile(machine.channel, machine.definition.persistent_paths)

    assert list(empty(seen)) == []
    assert len(seen.units) > 20
    assert {*machine.definition.services, *machine.definition.sockets, "-.mount"} <= set(seen.units)
    assert len({unit.ready_s for unit in seen.units.values()}) > 20, "each has its own time"
    assert all(seen.units[name].ready_s > 0 for name in machine.definition.services)
    programs = {socket.rpartition(" ")[2] for socket in seen.sockets}
    assert {"sshd", "systemd-resolve"} <= programs, programs
    assert (seen.users["root"], seen.groups["root"]) == (0, 0)
    assert set(seen.links) == set(machine.definition.persistent_paths)
    assert 30 < seen.memory_mib < machine.spec.memory_mib


def test_the_facts_about_a_host_have_each_kind(machine: Machine) -> None:
    paths, units = machine.definition.persistent_paths, ["ssh.service", "-.mount"]
    seen = read_facts(machine.channel, paths, units)

    has_guests = "/etc/libvirt" in paths
    left_out = ("profiles", "guests", *(() if has_guests else ("members", "references")))
    assert [name for name in seen.__slots__ if name not in left_out and not getattr(seen, name)] == []
    assert len(seen.sysctl) > 300
    assert seen.interfaces["lo"] == "lo"
    assert [name for place, name in seen.interfaces.items() if place.startswith("pci")]
    assert {"/", "/data"} <= set(seen.mounts)
    assert any(place.startswith("by-id/") for place in seen.disks)
    assert int(seen.limits["default LimitNOFILE"]) > 1000
    assert all(": " in times and times[:5] != "never" for times in seen.timers.values()), seen.timers
    assert seen.logins["root"].startswith("/root /")
    if has_guests:
        assert seen.references["nova"]
    again = read_facts(machine.channel, paths, units)
    changed = [name for name in seen.__slots__ if getattr(seen, name) != getattr(again, name)]
    assert changed == [], "two looks at one machine differ"


def test_a_reference_of_a_persistent_path_is_found(machine: Machine) -> None:
    (path, *_) = machine.definition.persistent_paths
    card = next(name for place, name in read_facts(machine.channel, [], []).interfaces.items() if place != name)
    plant = f"printf '[Match]\nName={card}\n' >{path}/planted; ln -s /usr/lib/systemd/system/ssh.service {path}/link"
    machine.check(plant)

    found = read_facts(machine.channel, [path], ["ssh.service"]).references

    machine.check(f"rm {path}/planted {path}/link")
    assert found[card] == (f"{path}/planted",)
    assert found["ssh.service"] == (f"{path}/link",)


def test_a_boot_has_its_memory_and_the_times_of_its_units(machine: Machine) -> None:
    (boot,) = machine.context.run.boots()
    units = json.loads((Path(boot.console).parent / "units.json").read_text("utf-8"))

    assert boot.memory_mib > 30
    assert set(machine.definition.services) <= set(units)
    assert len(units) > 20
    assert set(units) & set(inspect_guest(machine.channel).started_units)


def test_the_identity_has_each_part(machine: Machine) -> None:
    seen = identity(machine)

    assert {probe.name for probe in PROBES if probe.is_required(machine.definition)} <= set(seen)
    assert list(empty(seen)) == []
    assert len(seen["machine-id"]) == 32
    assert "SHA256:" in seen["SSH host keys"]
    if "openvswitch-switch.service" in machine.definition.services:
        assert {"Open vSwitch system id", "libvirt host UUID", "iSCSI initiator name"} <= set(seen)


def test_each_persistent_path_has_its_place_on_the_disk(machine: Machine) -> None:
    found = find_locations(machine.channel, machine.definition.persistent_paths)

    assert list(empty(found)) == []
    assert [one.path for one in found] == list(machine.definition.persistent_paths)
    assert {partition_number(machine.channel, one) for one in found} == {2}
    assert {serial for one in found for serial in serials(machine.channel, one)} == {machine.spec.data.serial}
    (elsewhere,) = find_locations(machine.channel, ["/root"])
    assert serials(machine.channel, elsewhere) == []
    # libvirt writes a UUID into each of its own defaults when it starts for the first time
    assert {text for text in missing(machine) if not text.startswith("/etc/libvirt/")} == set()


def test_a_snapshot_of_a_shared_machine_has_files_and_units(machine: Machine) -> None:
    seen = take_snapshot(machine.channel)

    assert list(empty(seen)) == []
    assert any(name.startswith("/data/") for name in seen)
    assert any(name.startswith("/etc/") for name in seen), "files in the overlay, without its folder's name"
    assert {seen[name] for name in machine.definition.services} == {"active"}


def test_the_packages_that_run_are_those_of_the_manifest(machine: Machine) -> None:
    packages = machine.artifacts.manifest.packages
    installed = machine.check("dpkg-query -W -f '${Package} ${Version}\\n'").splitlines()

    assert len(packages) > 100
    assert list(empty(packages)) == []
    assert {f"{name} {version}" for name, version in packages.items()} <= set(installed)


def test_a_run_shows_its_units_in_verdict_report_and_diff(judge: Judge, artifacts: Artifacts, tmp_path: Path) -> None:
    _, verdict = judge("base", "tests/image/test_services.py")

    profile = verdict.runtime_profile
    assert profile is not None
    assert list(empty(profile)) == []
    assert profile.host is not None
    assert len(profile.units) > 20
    failed = {**profile.units, "ssh.service": replace(profile.units["ssh.service"], state="failed")}
    other = replace(verdict, runtime_profile=replace(profile, units=failed))
    difference = compare(Side(artifacts=artifacts, verdict=verdict), Side(artifacts=artifacts, verdict=other))
    (units,) = (section for section in difference.sections if section.name == "units")
    assert [(entry.what, entry.old, entry.new) for entry in units.entries] == [("ssh.service", "active", "failed")]
    assert [boot.memory_mib for boot in verdict.boots if not boot.memory_mib] == []
    page = report.write_page(verdict, tmp_path / "latest").read_text("utf-8")
    assert "systemd-networkd.service" in page
    assert "when units start" not in " ".join(verdict.coverage.unchecked)

"""All inspections of a machine, by name: what the bench and the tests break and look at."""

from __future__ import annotations

from typing import Any

from harness.examine.defences import defences
from harness.examine.facts import read_facts
from harness.examine.host import read_host
from harness.examine.soak.ground import read_ground
from harness.examine.soak.samples import read_sample
from harness.guest.boot_profile import read_use
from harness.guest.control_plane import read_waiting_unit
from harness.guest.health import inspect_guest
from harness.guest.quiet import read_recent_use
from harness.guest.runtime_profile import read_profile
from harness.guest.unit_jobs import read_jobs
from harness.guests.contract import read_contract
from harness.machine.shared import take_snapshot, triggered_units
from harness.persistence.databases import formats
from harness.persistence.identity import identity
from harness.persistence.locations import find_locations, partition_number, serials
from harness.persistence.seeded_defaults import missing

from .broken_commands import Inspections


def inspections(machine: Any) -> Inspections:
    """The inspections of ``machine``, a `Machine` or what stands for one: it has a definition and a channel."""
    channel, paths = machine.channel, machine.definition.persistent_paths
    (place, *_) = find_locations(channel, paths)
    return {
        "health": lambda: inspect_guest(channel),
        "runtime profile": lambda: read_profile(channel, paths),
        "boot profile": lambda: read_use(channel),
        "jobs": lambda: read_jobs(channel),
        "identity": lambda: identity(machine),
        "locations": lambda: find_locations(channel, paths),
        "serial numbers": lambda: serials(channel, place),
        "partition number": lambda: partition_number(channel, place),
        "cpu use": lambda: read_recent_use(channel, window_s=0.2),
        "snapshot": lambda: take_snapshot(channel),
        "triggers": lambda: triggered_units(channel, ["ssh.service", "-.mount"]),
        "seeded defaults": lambda: missing(machine),
        "defences": lambda: defences(channel),
        "guests": lambda: read_contract(channel),
        "host facts": lambda: read_facts(channel, paths, ["ssh.service"]),
        "host": lambda: read_host(channel),
        "soak": lambda: read_sample(channel, read_ground(channel)),
        "waiting unit": lambda: read_waiting_unit(channel, "ssh.service"),
        "databases": lambda: formats(machine, paths),
    }

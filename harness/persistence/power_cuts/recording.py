"""Record all writes of a machine: first boot, write load, upgrade, shutdown."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import replace

from harness.machine.machine import Machine
from harness.machine.states import Versions
from harness.model.machine_spec import DiskSpec
from harness.persistence.locations import Location, find_locations, partition_number
from harness.persistence.power_cuts.sweep import Recording
from harness.persistence.power_cuts.writelog import count_entries, make_log
from harness.persistence.write_load import NAME, WriteLoad
from harness.qemu.disk_images import find_partition

LOAD_S = 20.0
"""How long the write load runs before the upgrade; after it, half as long."""


def recorded(disk: DiskSpec) -> DiskSpec:
    """The blank ``disk`` with a new write log in the same folder."""
    log = disk.path.with_suffix(".writes")
    make_log(log)
    return replace(disk, writes=log)


def record(machine: Machine, versions: Versions) -> Recording:
    """Run ``machine``, which is off and whose first disk is `recorded`, through all that a power cut could hit."""
    disk = machine.spec.data
    log = disk.writes
    assert log is not None
    machine.power_on(versions.old)
    ready_at = count_entries(log)
    locations = find_locations(machine.channel, machine.definition.persistent_paths)
    made = _made(machine, locations)
    file = _load_file(locations)
    load = WriteLoad(machine, file.path, secrets.token_hex(8), lambda: count_entries(log))
    load.start()
    load.go_on(LOAD_S)
    number = partition_number(machine.channel, file)
    machine.reboot(into=versions.new)
    load.start()
    load.go_on(LOAD_S / 2)
    machine.power_off()
    return Recording(
        log=log,
        disk_bytes=disk.path.stat().st_size,
        partition=find_partition(disk.path, number),
        ready_at=ready_at,
        acknowledged=load.acknowledged,
        seed=load.seed,
        load=file.inner,
        locations=tuple(location.inner for location in locations if location.device == file.device),
        made=made,
    )


def _made(machine: Machine, locations: tuple[Location, ...]) -> dict[str, str]:
    """Digests, as in `read_disk`, of the files in the guest's persistent paths."""
    found: dict[str, str] = {}
    for location in locations:
        sums = machine.check(f"cd {shlex.quote(location.path)}/. && find . -xdev -type f -exec b2sum -l 64 {{}} +")
        for line in sums.splitlines():
            digest, _, name = line.partition("  ./")
            found[f"{location.inner}/{name}"] = digest
    return found


def _load_file(locations: tuple[Location, ...]) -> Location:
    """At the top of the first location's file system, if all of it is mounted; else in the location."""
    first = locations[0]
    top, inner = (first.mount.rstrip("/"), "") if first.root == "/" else (first.path, first.inner)
    return replace(first, path=f"{top}/{NAME}", inner=f"{inner}/{NAME}")

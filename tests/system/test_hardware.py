"""Unusual machines: a watchdog that fires, too little memory, a clock and a TPM that keep their state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.hardware import apply, find_profile
from harness.model.machine_spec import MachineSpec

Booting = Callable[..., AbstractContextManager[Machine]]


def test_too_little_memory_is_found_and_named(booting: Booting, spec: MachineSpec) -> None:
    with pytest.raises(BootFailed) as failure, booting(replace(spec, memory_mib=128)):
        pass

    assert failure.value.finding.id == "out-of-memory"


def test_a_board_keeps_its_clock_and_its_tpm_and_its_watchdog_is_seen_to_fire(
    booting: Booting, spec: MachineSpec
) -> None:
    """One boot and one reboot on a machine with disks on four buses, another system's disk first."""
    spec = apply(find_profile("mixed-buses"), replace(spec, clock="2011-03-01T12:00:00"))
    with booting(replace(spec, has_tpm=True, has_watchdog=True)) as machine:
        foreign = machine.spec.disks[0].path
        written_ns = foreign.stat().st_mtime_ns
        assert machine.check("cat /sys/class/rtc/rtc0/date") == "2011-03-01"
        assert machine.check("cat /sys/class/tpm/tpm0/tpm_version_major") == "2"
        before_s = int(machine.check("cat /sys/class/rtc/rtc0/since_epoch"))
        machine.check("echo kept >/data/kept && sync")
        kept = {file.name: file.stat().st_size for file in (machine.folder / "tpm").iterdir()}

        machine.reboot()
        assert before_s < int(machine.check("cat /sys/class/rtc/rtc0/since_epoch")) < before_s + 1200
        assert machine.check("cat /data/kept") == "kept"
        assert kept
        assert foreign.stat().st_mtime_ns == written_ns

        machine.check("modprobe -r i6300esb; modprobe i6300esb heartbeat=4")
        with pytest.raises(BootFailed) as failure:
            machine.run("echo nobody feeds it >/dev/watchdog0; sleep 120")
    assert failure.value.finding.id == "watchdog-fired"

"""Several machines in one lab reach each other by name, and many boot from one web server at the same time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.lab import Lab, open_lab
from harness.machine.machine import Machine, power_on_together
from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]
RACK = 10
RACK_MIB = 1024
"""Memory in MiB: enough for base, and ten such machines fit on the host."""

PATIENT = {
    "systemd.unit-dropin.systemd-networkd-wait-online.service~bootproof": "[Service]\nTimeoutStartSec=infinity\n"
    "ExecStart=\nExecStart=/usr/lib/systemd/systemd-networkd-wait-online --timeout=0\n"
}
"""Ten machines that share two cores are five times slower each, and the image's own limit of 120 s does not adapt."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path / "lab", names={0: "left", 1: "right"}) as lab:
        yield lab


@pytest.fixture
def make(booting: Booting, spec: MachineSpec, tmp_path: Path) -> Iterator[Callable[..., list[Machine]]]:
    """``make(10)``: that many machines, powered off, each with its own number and disk."""
    with ExitStack() as stack:

        def make(count: int, **changes: Any) -> list[Machine]:
            specs = (
                replace(
                    spec, name=f"machine-{number}", number=number, uuid=uuid.uuid4(), boot_path=BootPath.IPXE_BIOS,
                    disks=(make_disk(tmp_path / f"{number}.raw"),), **changes,
                )
                for number in range(count)
            )  # fmt: skip
            return [stack.enter_context(booting(one, power=False)) for one in specs]

        yield make


def test_two_machines_reach_each_other_by_name_while_traffic_flows(
    make: Callable[..., list[Machine]], run: Run
) -> None:
    left, right = make(2)
    power_on_together([left, right])
    key = run.key.read_text("utf-8")
    left.check(f"umask 077; cat >/run/key <<'END'\n{key}END\n")
    to_right = "ssh -i /run/key -o StrictHostKeyChecking=accept-new -o BatchMode=yes root@right.lab.test"

    assert left.check("getent hosts right.lab.test").split()[0] == right.spec.address
    assert right.check("getent hosts left.lab.test").split()[0] == left.spec.address
    left.check("ping -c 3 -W 5 right.lab.test")
    assert left.check(f"head -c 33554432 /dev/zero | {to_right} 'wc -c'") == str(32 << 20)
    assert right.check("cat /proc/sys/kernel/random/boot_id") == left.check(
        f"{to_right} cat /proc/sys/kernel/random/boot_id"
    )


def test_a_rack_of_machines_that_boot_at_once_comes_up(make: Callable[..., list[Machine]], lab: Lab) -> None:
    memory_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if memory_mib < RACK * RACK_MIB:
        pytest.skip(f"this host has {memory_mib} MiB free, {RACK} machines need {RACK * RACK_MIB}")
    rack = make(RACK, memory_mib=RACK_MIB, credentials=PATIENT)
    power_on_together(rack)

    ids = {machine.check("cat /etc/machine-id") for machine in rack}
    addresses = {machine.check("hostname -I").split()[0] for machine in rack}
    fetched = [record for record in lab.http.log if record.path.endswith("rootfs.squashfs")]

    assert len(ids) == RACK
    assert addresses == {machine.spec.address for machine in rack}
    assert len({record.client for record in fetched}) == RACK

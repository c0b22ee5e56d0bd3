"""Every network fault, with the good image: the image boots in spite of it, or the finding names it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from harness.build.pipeline import build
from harness.lab import Lab
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, Firmware, MachineSpec
from harness.model.network_faults import known, needs_other_build, path_for, with_other_build
from harness.runs.folder import Run
from harness.store.store import find_store

Booting = Callable[..., AbstractContextManager[Machine]]

FOUND = {
    "dhcp-silent": "dhcp-unanswered",
    "dhcp-rogue": "dhcp-servers-disagree",
    "dhcp-no-boot-file": "dhcp-no-boot-file",
    "link-down": "no-dhcp-request",
    "http-404-kernel": "http-error",
    "http-404-initrd": "http-error",
    "http-404-rootfs": "http-error",
    "http-503-kernel": "http-error",
    "http-503-initrd": "http-error",
    "http-503-rootfs": "http-error",
    "http-refused-kernel": "ipxe-download-failed",
    "http-refused-initrd": "ipxe-download-failed",
    "http-refused-rootfs": "rootfs-download-failed",
    "http-stalls-kernel": "download-stalls",
    "http-stalls-initrd": "download-stalls",
    "http-stalls-rootfs": "download-stalls",
    "http-cut-kernel": "download-cut",
    "http-cut-initrd": "download-cut",
    "http-cut-rootfs": "download-cut",
    **{
        f"http-{fault}-{file}": "served-bytes-differ"
        for fault in ("truncated", "flipped", "noise")
        for file in ("kernel", "initrd", "rootfs")
    },
    "http-other-build-rootfs": "served-bytes-differ",
    "tftp-absent": "ipxe-download-failed",
    "http-redirect-loader": "firmware-download-failed",
    "http-no-length-loader": "firmware-download-failed",
}
"""The finding of each permanent fault; the image boots in spite of the others."""


@pytest.mark.parametrize("name", FOUND)
def test_a_fault_that_no_image_tolerates_is_named(
    name: str, booting: Booting, spec: MachineSpec, lab: Lab, base: ImageDefinition
) -> None:
    fault = known()[name]
    if needs_other_build(fault):
        other = build(base, find_store(), version=f"{base.version}+next")
        (fault,) = with_other_build([fault], [other.rootfs])
    machine = replace(spec, boot_path=path_for(fault, [BootPath.IPXE_BIOS]))
    if name.startswith("tftp"):
        machine = replace(machine, firmware=Firmware.BIOS)  # UEFI falls back to HTTP boot
    lab.inject(fault)

    with pytest.raises(BootFailed) as failure, booting(machine):
        pass

    print(failure.value)
    assert failure.value.finding.id == FOUND[name]


@pytest.mark.parametrize("name", [name for name, fault in known().items() if fault.is_transient])
def test_a_transient_fault_is_tolerated(name: str, booting: Booting, spec: MachineSpec, lab: Lab, run: Run) -> None:
    fault = known()[name]
    lab.inject(fault)

    with booting(replace(spec, boot_path=path_for(fault, [BootPath.IPXE_BIOS]))) as machine:
        assert machine.check("systemctl is-active ssh") == "active"
    assert run.findings() == ()

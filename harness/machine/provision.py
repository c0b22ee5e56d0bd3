"""What a machine finds when it is powered on: UEFI variables and boot loaders, GRUB's disk, and what the lab serves."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

from harness.core import process
from harness.lab import Lab
from harness.machine.boot_plan import BootPlan
from harness.model.machine_spec import BOOT_URL, BreakPoint, DiskSpec, mac_of
from harness.qemu import command_line, grub, ipxe


def give_firmware(plan: BootPlan, lab: Lab) -> None:
    """Provide UEFI variables as delivered by the vendor, unless the machine has its own, and iPXE if the firmware is
    to fetch it."""
    if plan.variables and not plan.variables.exists():
        process.require_file(command_line.UEFI_CODE, "ovmf")
        shutil.copyfile(process.require_file(command_line.UEFI_FACTORY_VARIABLES, "ovmf"), plan.variables)
    if plan.spec.loader:
        loader = process.require_file(plan.spec.loader, "ipxe")
        lab.serve_by_tftp(loader)
        lab.http.serve(f"/{loader.name}", loader)


def boot_disk(plan: BootPlan) -> DiskSpec | None:
    """The disk with GRUB and its menu, as a deployment leaves it; or that of the frozen machine."""
    if not plan.menu:
        return None
    if plan.frozen:
        assert plan.frozen.boot_disk is not None
        return grub.take(plan.frozen.boot_disk, plan.folder.parent)
    for offer in plan.menu:
        grub.check(offer.artifacts.manifest)
    return grub.install(plan.folder.parent, plan.menu)


def serve(plan: BootPlan, lab: Lab) -> None:
    """Publish the artifacts on the lab's HTTP server, and an iPXE script for each network card of the machine."""
    http, digest, spec = lab.http, plan.artifacts.digest, plan.spec
    for name in plan.artifacts.manifest.files:
        http.serve(f"/{digest}/{name}", plan.artifacts.folder / name)
    http.serve(urlsplit(BOOT_URL).path, ipxe.NIC_SCRIPT.encode())
    script = ipxe.boot_script(ipxe.base_url(digest), plan.arguments, has_shell=plan.stop is BreakPoint.IPXE).encode()
    for nic in range(len(spec.nics)):
        http.serve(ipxe.script_path(mac_of(spec.number, nic)), script)

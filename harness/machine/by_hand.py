"""The command with which a person boots the same artifacts."""

from __future__ import annotations

from harness.model.artifacts import Artifacts
from harness.model.machine_spec import BootPath, DiskRole, MachineSpec


def by_hand(artifacts: Artifacts, spec: MachineSpec) -> str:
    """``bootproof boot`` for ``artifacts`` on the data disk of ``spec``; by the direct path for a kexec upgrade."""
    data = [disk for disk in spec.disks if disk.role is DiskRole.DATA]
    disks = "".join(f" --disk {disk.path}" for disk in data[:1])
    hardware = f" --hardware {spec.hardware}" if spec.hardware else ""
    path = BootPath.DIRECT if spec.boot_path is BootPath.KEXEC else spec.boot_path
    return f"bootproof boot {artifacts.folder} --boot-path {path}{disks} --memory {spec.memory_mib}{hardware}"

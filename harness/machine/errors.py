"""How a boot fails, and the command with which a person repeats it."""

from __future__ import annotations

from harness.core.errors import Blame, HostError, ImageError
from harness.model.artifacts import Artifacts
from harness.model.machine_spec import BootPath, DiskRole, MachineSpec
from harness.model.verdict import Finding


class BootFailed(ImageError):
    """A boot ended, or cannot succeed: ``finding`` says why and whose fault it is; ``folder`` has its logs."""

    def __init__(self, machine: str, finding: Finding, folder: str, by_hand: str) -> None:
        super().__init__(machine, finding, folder, by_hand)
        self.machine, self.finding, self.folder, self.by_hand = machine, finding, folder, by_hand
        self.blame = finding.blame
        if self.blame is not Blame.IMAGE:
            self.exit_status = HostError.exit_status

    def __str__(self) -> str:
        evidence = "\n".join(f"    {line}" for line in self.finding.evidence)
        return (
            f"{self.machine}: {self.finding.what} [{self.finding.id}]\n{evidence}\n"
            f"  suspected cause: {self.finding.cause}\n"
            f"  all logs:        {self.folder}\n"
            f"  boot it by hand: {self.by_hand}"
        )


class EmulatorFault(HostError):
    """QEMU's emulation, not the image, broke a boot early: another boot will probably succeed."""


def by_hand(artifacts: Artifacts, spec: MachineSpec) -> str:
    """``bootproof boot`` for ``artifacts`` on the data disk of ``spec``; by the direct path for a kexec upgrade."""
    data = [disk for disk in spec.disks if disk.role is DiskRole.DATA]
    disks = "".join(f" --disk {disk.path}" for disk in data[:1])
    hardware = f" --hardware {spec.hardware}" if spec.hardware else ""
    path = BootPath.DIRECT if spec.boot_path is BootPath.KEXEC else spec.boot_path
    return f"bootproof boot {artifacts.folder} --boot-path {path}{disks} --memory {spec.memory_mib}{hardware}"

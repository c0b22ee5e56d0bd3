"""How a boot fails."""

from __future__ import annotations

from harness.core.errors import Blame, HostError, ImageError
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

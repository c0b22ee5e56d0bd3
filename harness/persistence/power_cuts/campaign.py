"""All there is to know of an image's power cuts, found out once a run, whichever worker asks first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.model.machine_spec import DiskSpec
from harness.model.verdict import Finding
from harness.persistence.power_cuts.crash_states import CrashState
from harness.persistence.power_cuts.judge import CrashResult, Expectation, Judgement, came_back, judge, sample
from harness.persistence.power_cuts.lost_writes import left_out
from harness.persistence.power_cuts.read_back import DiskContents, look
from harness.persistence.power_cuts.sweep import Recording, expectation, lay_out, sweep
from harness.qemu.ext4 import open_ext4

__all__ = ["PowerCutStudy", "examine", "lay_out", "look_at_disk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCutStudy:
    """``judged`` states of a disk, ``fates`` of them by name; ``sampled`` are those that machines boot from.

    ``twin`` is what another machine of this image has on its disk after its first boot.
    """

    recording: Recording
    awaited: Expectation
    twin: dict[str, str]
    judged: int
    fates: dict[str, int]
    sampled: list[Judgement]

    @property
    def lost(self) -> list[Judgement]:
        return [judgement for judgement in self.sampled if judgement.fate is CrashResult.LOST]

    def finding(self, judgement: Judgement, folder: Path, by_hand: str) -> Finding:
        """That ``judgement``'s cut is not survived, with the writes that it kept from the disk.

        ``by_hand`` is the command that boots this very disk.
        """
        cut = judgement.cut
        when = "after the machine had been ready" if cut.begin >= self.awaited.ready_at else "in the first boot"
        return Finding(
            id="power-cut-loses-data",
            what=f"a power cut after write {cut.begin}, {when}: {judgement.said}",
            where=f"cut {cut.begin} of {folder.name}",
            evidence=left_out(self.recording, cut, folder),
            cause=f"what these writes were for was relied on before it was on the disk; {by_hand} boots this disk",
        )

    def flaw(self, cut: CrashState, seen: DiskContents) -> str:
        """What is not as it must be on the disk of a machine that booted after ``cut`` and was shut down."""
        judgement = judge(cut, seen, self.awaited)
        if judgement.fate is CrashResult.LOST:
            return judgement.said
        return seen.problem or came_back(seen.files, self.awaited, self.twin)


def examine(
    recording: Recording,
    twin: DiskContents,
    folder: Path,
    *,
    count: int,
    boots: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> PowerCutStudy:
    """Judge ``count`` cuts and choose ``boots`` of them to boot."""
    awaited = expectation(recording, folder)
    judgements = sweep(recording, awaited, folder, count=count, seed=seed, progress=progress)
    return PowerCutStudy(
        recording=recording,
        awaited=awaited,
        twin=twin.files,
        judged=len(judgements),
        fates=dict(Counter(judgement.fate.value for judgement in judgements)),
        sampled=sample(judgements, boots, awaited.ready_at),
    )


def look_at_disk(disk: DiskSpec, number: int, folder: Path, load: str = "") -> DiskContents:
    """What is on the file system in that partition of the disk of a machine that is off."""
    with open_ext4(disk, number) as data:
        return look(data.copy, folder / "files", load)

"""The study of an image's power cuts: all crash states of one recorded machine, judged once a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.model.machine_spec import DiskSpec
from harness.model.verdict import Finding
from harness.persistence.power_cuts.crash_states import CrashState
from harness.persistence.power_cuts.judge import CrashResult, Expectation, Judgement, judge, sample, unrestored
from harness.persistence.power_cuts.lost_writes import lost_writes
from harness.persistence.power_cuts.read_back import DiskContents, read_disk
from harness.persistence.power_cuts.sweep import Recording, expectation, sweep
from harness.qemu.ext4 import open_ext4


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCutStudy:
    """``judged`` crash states, counted by result in ``results``; ``sampled`` are those that machines boot from.

    ``twin`` are the files that another machine of this image has on its disk after its first boot.
    """

    recording: Recording
    awaited: Expectation
    twin: dict[str, str]
    judged: int
    results: dict[str, int]
    sampled: list[Judgement]

    @property
    def lost(self) -> list[Judgement]:
        return [judgement for judgement in self.sampled if judgement.result is CrashResult.LOST]

    def finding(self, judgement: Judgement, folder: Path, by_hand: str) -> Finding:
        """The finding that the image does not survive this power cut, with the writes that it lost.

        ``by_hand`` is the command that boots this disk.
        """
        cut = judgement.cut
        when = "after the machine had been ready" if cut.begin >= self.awaited.ready_at else "in the first boot"
        return Finding(
            id="power-cut-loses-data",
            what=f"a power cut after write {cut.begin}, {when}: {judgement.sentence}",
            where=f"cut {cut.begin} of {folder.name}",
            evidence=lost_writes(self.recording, cut, folder),
            cause=f"a program relied on these writes before they were on the disk; {by_hand} boots this disk",
        )

    def problem(self, cut: CrashState, seen: DiskContents) -> str:
        """What is wrong on the disk of a machine that booted after ``cut`` and was shut down; empty if nothing."""
        judgement = judge(cut, seen, self.awaited)
        if judgement.result is CrashResult.LOST:
            return judgement.sentence
        return seen.problem or unrestored(seen.files, self.awaited, self.twin)


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
    """Judge ``count`` crash states and choose ``boots`` of them to boot."""
    awaited = expectation(recording, folder)
    judgements = sweep(recording, awaited, folder, count=count, seed=seed, progress=progress)
    return PowerCutStudy(
        recording=recording,
        awaited=awaited,
        twin=twin.files,
        judged=len(judgements),
        results=dict(Counter(judgement.result.value for judgement in judgements)),
        sampled=sample(judgements, boots, awaited.ready_at),
    )


def look_at_disk(disk: DiskSpec, number: int, folder: Path, load: str = "") -> DiskContents:
    """The contents of the file system in partition ``number`` of the disk of a machine that is off."""
    with open_ext4(disk, number) as data:
        return read_disk(data.copy, folder / "files", load)

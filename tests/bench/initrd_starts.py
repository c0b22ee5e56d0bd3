"""Boots from states that a power cut left, from power-on and from the initrd: equal in what they find, and the time.

Both boots of a state run at the same time, each from its own copy of the disk. What counts as found is the finding that
ended the boot, what is wrong on the disk afterwards, and the names of all files on it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.lab import open_lab
from harness.machine.errors import BootFailed
from harness.machine.initrd_templates import start_in_initrd
from harness.machine.machine import boot
from harness.machine.templates import Templates
from harness.model.definition import load_definition
from harness.model.machine_spec import DiskFormat, DiskSpec
from harness.persistence.power_cuts.campaign import PowerCutStudy, examine, look_at_disk
from harness.persistence.power_cuts.judge import Judgement
from harness.persistence.power_cuts.read_back import DiskContents
from harness.persistence.power_cuts.recording import record, recorded
from harness.persistence.power_cuts.sweep import Recording, lay_out
from harness.qemu.disk_images import DATA_SERIAL, make_disk, make_overlay
from harness.store.store import find_store

from .clones import make_templates
from .start import ROOT
from .table import Figure, Limit, compared

_STATES, _QUICK_STATES = 200, 6
_JUDGED_FOR_EACH = 100
"""States judged on the host for each that is booted: the sample is of all kinds of states."""
FROM_POWER_ON, IN_INITRD = "from power-on", "from the initrd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one boot found, and the seconds until it was ready or had failed."""

    finding: str
    problem: str
    files: frozenset[str]
    took_s: float

    def difference(self, other: Outcome) -> str:
        """How what they found differs; empty if it does not."""
        if (self.finding, self.problem) != (other.finding, other.problem):
            return f"{self.finding or 'ready'}, {self.problem!r}, or {other.finding or 'ready'}, {other.problem!r}"
        return f"files {sorted(self.files ^ other.files)}" if self.files != other.files else ""


def measure(*, quick: bool) -> list[Figure]:
    count = _QUICK_STATES if quick else _STATES
    with TemporaryDirectory(dir=find_store().folder("bench")) as name:
        folder = Path(name)
        definition = load_definition(ROOT / "images" / "base")
        templates = make_templates(definition, build(definition, find_store()), folder)
        recording = make_recording(templates, folder)
        pairs = list(both_ways(templates, recording, folder, count))
    if differences := [text for full, short in pairs if (text := full.difference(short))]:
        raise RuntimeError(f"{len(differences)} of {count} states: {'; '.join(differences)}")
    full_s, short_s = [full.took_s for full, _ in pairs], [short.took_s for _, short in pairs]
    what = f"a boot {IN_INITRD}, {count} states, all found the same"
    return [
        compared("initrd-starts", what, short_s, FROM_POWER_ON, full_s, unit="s", limit=Limit(most=0.6, binding=False))
    ]


def make_recording(templates: Templates, folder: Path) -> Recording:
    """All writes of a machine to its disk."""
    spec, disk = templates.spec, recorded(make_disk(folder / "data.raw"))
    with open_lab(folder / "recording-lab") as lab:
        machine_spec = replace(spec.machine, name="recording", disks=(disk,))
        context = templates.context_of(lab)
        with boot(machine_spec, spec.versions.under_test, spec.definition, context=context, power=False) as machine:
            return record(machine, spec.versions)


def both_ways(
    templates: Templates, recording: Recording, folder: Path, count: int
) -> Iterator[tuple[Outcome, Outcome]]:
    """The outcomes of ``count`` states, from power-on and from the initrd. The first is a blank disk, whose boot from
    power-on shows what an uninterrupted first boot creates."""
    nothing = DiskContents("", {})
    study = examine(recording, nothing, folder, count=count * _JUDGED_FOR_EACH, boots=count, seed=1,
                    progress=lambda *_: None)  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        for number, judgement in enumerate(study.sampled):
            place = folder / f"state-{number}"
            place.mkdir()
            lay_out(recording, judgement.cut, place / "cut.raw")
            boots = [pool.submit(_boot, templates, study, judgement, place, way) for way in (FROM_POWER_ON, IN_INITRD)]
            (full, its_files), (short, _) = (boot.result() for boot in boots)
            if not number:
                study = replace(study, twin=its_files)
                full, short = replace(full, problem=""), replace(short, problem="")
            yield full, short


def _boot(
    templates: Templates, study: PowerCutStudy, judgement: Judgement, folder: Path, way: str
) -> tuple[Outcome, dict[str, str]]:
    """The outcome, and the files on the disk."""
    spec, recording, name = templates.spec, study.recording, way.replace(" ", "-")
    disk = DiskSpec(path=folder / f"{name}.qcow2", serial=DATA_SERIAL, format=DiskFormat.QCOW2)
    make_overlay(disk.path, folder / "cut.raw")
    machine_spec = replace(spec.machine, name=f"{folder.name}-{name}", uuid=uuid.uuid4(), disks=(disk,))
    with ExitStack() as stack:
        lab, start = stack.enter_context(open_lab(folder / f"{name}-lab")), None
        if way == IN_INITRD:
            machine_spec, start = start_in_initrd(templates, machine_spec, lab, stack)
        context, finding = templates.context_of(lab), ""
        machine = stack.enter_context(
            boot(machine_spec, spec.versions.under_test, spec.definition, context=context, power=False, start=start)
        )
        started_s = time.monotonic()
        try:
            machine.power_on()
        except BootFailed as error:
            finding = error.finding.id
        took_s = time.monotonic() - started_s
        if not finding:
            if way == IN_INITRD and not machine.running_boot.plan.begins_in_initrd:
                raise RuntimeError(f"{machine.name} was booted from power-on; the notes of its run say why")
            machine.power_off()
    (folder / f"{name}-files").mkdir()
    seen = look_at_disk(disk, recording.partition.number, folder / f"{name}-files", recording.load)
    outcome = Outcome(
        finding=finding, problem=study.problem(judgement.cut, seen), files=frozenset(seen.files), took_s=took_s
    )
    return outcome, seen.files

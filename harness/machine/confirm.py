"""Confirmation from power-on: a boot that began in the initrd does not make a finding alone.

It shares its first half with other boots, so a failure of it may be of Bootproof's own making. The same boot from
power-on decides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.core.errors import Blame, blame_of
from harness.machine.errors import BootFailed
from harness.model.verdict import Finding
from harness.runs.folder import Run

M = TypeVar("M")
Examination = Callable[[M, Run, Path], None]
"""Boots what the first argument makes in a run, with files in a folder, and raises what is wrong."""


def confirm(examine: Examination[M], *, in_initrd: M, from_power_on: M, run: Run, folder: Path) -> None:
    """Call ``examine`` with ``in_initrd``; if that is a failure of the image, with ``from_power_on``, which counts.

    Events of the first call are in the ``run`` unless the second call decides. If that passes, the difference is a
    finding about Bootproof.
    """
    trial = run.trial(folder)
    try:
        examine(in_initrd, trial, folder)
    except BaseException as error:
        if blame_of(error) is not Blame.IMAGE:
            run.adopt(trial)
            raise
        failure = _sentence(error)
    else:
        found = [finding for finding in trial.findings() if finding.blame is Blame.IMAGE]
        if not found:
            run.adopt(trial)
            return
        failure = _named(found[0])
    run.add_note(
        f"{folder.name} failed in a boot that began in the initrd ({failure}); the same boot from power-on decides"
    )
    again = folder / "from-power-on"
    again.mkdir()
    before = run.findings()
    examine(from_power_on, run, again)
    if all(finding in before or finding.blame is not Blame.IMAGE for finding in run.findings()):
        run.add_finding(
            Finding(
                id="initrd-start-differs",
                what=f"a boot that began in the initrd failed, and the same boot from power-on did not: {failure}",
                where=folder.name,
                blame=Blame.HARNESS,
                evidence=tuple(line for finding in trial.findings()[:1] for line in finding.evidence),
                cause="Bootproof froze or continued the machine wrongly, or the image fails only sometimes",
            )
        )


def _sentence(error: BaseException) -> str:
    return _named(error.finding) if isinstance(error, BootFailed) else str(error).partition("\n")[0]


def _named(finding: Finding) -> str:
    return f"{finding.what} [{finding.id}]"

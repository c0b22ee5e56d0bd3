"""How many broken commands the inspections of a guest do not notice: none."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import boot
from harness.model.definition import load_definition
from harness.store.store import find_store

from ..broken_commands import BreakableChannel, break_each
from ..inspections import inspections
from ..machines import run_in, specify
from .start import ROOT
from .table import Figure, Limit

_QUICK = ("health", "identity")
_FOLDER = "/run/bootproof-broken"


def measure(*, quick: bool) -> list[Figure]:
    """Each program of each inspection, broken in each way, in one machine."""
    definition = load_definition(ROOT / "images" / "base")
    artifacts = build(definition, find_store())
    with TemporaryDirectory() as name:
        folder = Path(name)
        run, spec = run_in(folder), specify(definition, artifacts, folder)
        (folder / "lab").mkdir()
        with open_lab(folder / "lab") as lab:
            context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
            with boot(spec, artifacts, definition, context=context) as machine:
                channel = machine.running_boot.channel = BreakableChannel(machine.channel, _FOLDER)
                chosen = {name: one for name, one in inspections(machine).items() if not quick or name in _QUICK}
                tried = list(break_each(channel, chosen))
    unnoticed = [one for one in tried if one.problem]
    for one in unnoticed:
        print(f"not noticed: {one.inspection}, {one.program}: {one.how}: {one.problem}", file=sys.stderr)
    return [
        Figure(
            row="inspections",
            what=f"of {len(tried)} broken commands in {len(chosen)} inspections not noticed",
            value=len(unnoticed),
            unit="commands",
            limit=Limit(most=0, unit="commands"),
        )
    ]

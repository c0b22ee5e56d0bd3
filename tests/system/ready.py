"""A machine that is ready, for tests that look at it or plant faults in it while it runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from harness.build.pipeline import build
from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine, boot, power_on_together
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import NicSpec
from harness.store.store import find_store

from ..machines import run_in, specify


@contextmanager
def ready_machine(
    definition: ImageDefinition, folder: Path, *, nics: tuple[NicSpec, ...] = (NicSpec(),)
) -> Iterator[Machine]:
    """A machine of the image with a blank disk, booted by the direct path; its files are in ``folder``."""
    store = find_store()
    artifacts, run = build(definition, store), run_in(folder)
    spec = replace(specify(definition, artifacts, folder), nics=nics)
    (folder / "lab").mkdir()
    with open_lab(folder / "lab") as lab:
        context = BootContext(lab=lab, run=run, slots=store.folder("slots"))
        with boot(spec, artifacts, definition, context=context) as machine:
            yield machine


class Counting(Channel):
    """A channel that counts round trips."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.count = channel, 0

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.count += 1
        return self.channel.run(command, deadline)


@contextmanager
def ready_pair(definition: ImageDefinition, folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines of the image, "left" and "right", in one lab, booted together; their files are in ``folder``."""
    store = find_store()
    artifacts, run = build(definition, store), run_in(folder)
    (folder / "lab").mkdir()
    with ExitStack() as stack:
        lab = stack.enter_context(open_lab(folder / "lab"))
        context = BootContext(lab=lab, run=run, slots=store.folder("slots"))
        machines = []
        for number, name in enumerate(("left", "right")):
            (folder / name).mkdir()
            spec = specify(definition, artifacts, folder / name)
            spec = replace(spec, name=name, number=number, uuid=uuid.uuid4())
            machines.append(stack.enter_context(boot(spec, artifacts, definition, context=context, power=False)))
        power_on_together(machines)
        left, right = machines
        yield left, right

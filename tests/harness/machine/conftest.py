"""A boot to watch whose process, console and lab are plain objects."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.cpu_use import CpuMeter
from harness.core.deadline import Changes
from harness.core.errors import HostError
from harness.guest.pattern_watcher import PatternMatch
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.watch import BootWatch
from harness.model.definition import load_definition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.network_faults import NetworkFault
from harness.runs.folder import Run

from ... import samples

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")


class FakeConsole:
    def __init__(self) -> None:
        self.phases = {"kernel": 1.0, "userspace": 2.0}
        self.lines = ["the last line"]
        self.matches: list[PatternMatch] = []
        self.problem: HostError | None = None
        self.started_s, self.silent_s, self.awaits_registers = 0.0, 1.0, False


class FakeLab:
    has_only_transient_faults = False
    network_faults: tuple[NetworkFault, ...] = ()
    problem = ""
    trace = SimpleNamespace(events=lambda _number, _since_s: [])

    def __init__(self) -> None:
        self.http = SimpleNamespace(log=(), under_way=(), answer_to=None)


@pytest.fixture
def watch(tmp_path: Path) -> Any:
    plan = BootPlan(
        number=1,
        folder=tmp_path / "m" / "boot-1",
        spec=MachineSpec(name="m", uuid=uuid.UUID(int=0), boot_path=BootPath.DIRECT),
        artifacts=samples.artifacts(tmp_path / "artifacts", "1"),
        definition=BASE,
    )
    plan.folder.mkdir(parents=True)
    log = plan.folder / "qemu.log"
    log.write_text("qemu: killed\n")
    lab: Any = FakeLab()
    context = BootContext(lab=lab, run=Run(tmp_path, "main"), slots=tmp_path)
    child: Any = SimpleNamespace(status=None, pid=0)
    console: Any = FakeConsole()
    return BootWatch(
        plan=plan,
        context=context,
        child=child,
        console=console,
        qemu_log=log,
        changes=Changes(),
        events=[],
        meter=CpuMeter(),
    )

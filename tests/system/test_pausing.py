"""A shared machine between two tests: it uses no CPU, and its clock, timers and watchdog are right afterwards."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.lab import Lab, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.machine.states import Versions
from harness.machine.template_store import TemplateStore
from harness.machine.templates import Templates, TemplateSpec
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Resumed
from harness.model.machine_spec import MachineSpec, Network
from harness.runs.folder import Run
from harness.store.store import Store

PAUSED_S = 40
WATCHDOG_S = 30
"""Longer than systemd takes to feed it on a busy host, and shorter than the pause."""
_MANAGER = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
PREPARE = f"""
modprobe i6300esb || exit
busctl set-property {_MANAGER} RuntimeWatchdogUSec t {WATCHDOG_S}000000 || exit
systemd-run --quiet --unit=monotonic --on-active={PAUSED_S} touch /run/monotonic || exit
systemd-run --quiet --unit=calendar --on-calendar=@$(($(date +%s) + {PAUSED_S // 2})) touch /run/calendar || exit
cat /sys/class/watchdog/watchdog0/state /sys/class/watchdog/watchdog0/identity
"""


@pytest.fixture
def shared(tmp_path: Path, run: Run, spec: MachineSpec, base: ImageDefinition, artifacts: Artifacts) -> SharedMachine:
    """A worker's shared machine, with a watchdog; its template is made for it."""
    store = Store(tmp_path / "store")
    templates = Templates(
        spec=TemplateSpec(
            definition=base,
            versions=Versions(artifacts, artifacts, artifacts, artifacts),
            machine=replace(spec, uuid=uuid.uuid4(), has_watchdog=True),
            network=Network.LAB,
        ),
        store=TemplateStore(store=store, run=run),
        open_lab=open_lab,
        context_of=lambda lab: BootContext(lab=lab, run=run, slots=store.folder("slots")),
    )

    def make(name: str, lab: Lab, folder: Path) -> AbstractContextManager[Machine]:
        return templates.machine("booted", name, lab=lab, folder=folder)

    return SharedMachine("shared", run.folder, make, open_lab)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process since its start (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_machine_between_two_tests_stands_still_and_loses_nothing_but_time(shared: SharedMachine, run: Run) -> None:
    try:
        machine = shared.machine
        pid = machine.running_boot.child.pid
        assert machine.check(PREPARE).split()[0] == "active"
        up_s, began_s = float(machine.check("cut -d' ' -f1 /proc/uptime")), time.monotonic()

        shared.pause()
        used_s = cpu_s(pid)
        time.sleep(PAUSED_S)
        used_s = cpu_s(pid) - used_s

        assert used_s < 0.5
        again = shared.machine
        assert again is machine
        late_s = time.time() - float(machine.check("date +%s.%N"))
        stood_still_s = time.monotonic() - began_s - (float(machine.check("cut -d' ' -f1 /proc/uptime")) - up_s)
        assert abs(late_s) < 2
        assert stood_still_s > PAUSED_S - 2, "the guest's monotonic clock stops with the machine"
        machine.wait_for_file("/run/calendar")
        machine.wait_for_file("/run/monotonic", Deadline(PAUSED_S + 60))
        assert machine.ssh.run("true").status == 0
        names = [name for name, _ in machine.running_boot.watch.events]
        assert {"STOP", "RESUME"} <= set(names)
        assert "WATCHDOG" not in names
        (resumed,) = run.of_kind(Resumed)
        assert resumed.paused_s >= PAUSED_S
    finally:
        shared.release()

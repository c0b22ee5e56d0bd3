"""A host that keeps CPU time from a machine: nothing that follows from that is the image's fault."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.machine_spec import MachineSpec
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]

SEEDS = range(20)
_SHARE, _PERIOD_S = 0.2, 0.1
_PAUSE_S = 30.0
_FIRST_PAUSE_S, _NEXT_PAUSE_S = (5.0, 60.0), (30.0, 120.0)
"""Seconds until the first pause, and between two: from and to."""


def _pid(spec: MachineSpec) -> int | None:
    """QEMU's process, by the machine's UUID."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"\0{spec.uuid}\0".encode() in (folder / "cmdline").read_bytes():
                return int(folder.name)
    return None


@contextmanager
def starving(spec: MachineSpec, seed: int) -> Iterator[None]:
    """While the block lasts, the machine gets a fifth of a CPU, and at random moments nothing for half a minute."""
    is_over, chance = threading.Event(), random.Random(seed)

    def starve() -> None:
        while (pid := _pid(spec)) is None:
            if is_over.wait(0.2):
                return
        until_pause_s = chance.uniform(*_FIRST_PAUSE_S)
        while not is_over.is_set():
            until_pause_s -= _PERIOD_S
            is_pause = until_pause_s <= 0
            until_pause_s = chance.uniform(*_NEXT_PAUSE_S) if is_pause else until_pause_s
            try:
                _send(pid, signal.SIGSTOP)
                is_over.wait(_PAUSE_S if is_pause else _PERIOD_S * (1 - _SHARE))
            finally:
                _send(pid, signal.SIGCONT)
            is_over.wait(_PERIOD_S * _SHARE)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_starved_boot_is_never_the_images_fault(seed: int, booting: Booting, spec: MachineSpec, run: Run) -> None:
    with starving(spec, seed):
        try:
            with booting(spec):
                pass
        except BootFailed as error:
            print(error)

    assert [finding for finding in run.findings() if finding.blame is Blame.IMAGE] == []


def test_a_unit_with_a_limit_that_a_starved_machine_cannot_keep_is_the_hosts_fault(
    booting: Booting, spec: MachineSpec
) -> None:
    counts = "i=0; while [ $$i -lt 300000 ]; do i=$$((i+1)); done"
    slow = f'[Service]\nType=oneshot\nTimeoutStartSec=10\nExecStart=/bin/sh -c "{counts}"\n'
    credentials = {
        "systemd.extra-unit.slow.service": slow,
        "systemd.unit-dropin.ssh.service~slow": "[Unit]\nWants=slow.service\nAfter=slow.service\n",
    }
    with (
        starving(spec, 0),
        pytest.raises(BootFailed) as failure,
        booting(replace(spec, credentials=credentials)),
    ):
        pass

    print(failure.value)
    assert failure.value.finding.blame is Blame.HOST
    assert "starved this machine" in failure.value.finding.cause

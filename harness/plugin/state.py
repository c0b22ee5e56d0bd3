"""What changes during a run in one pytest process."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.core import serialization
from harness.core.deadline import host_speed, use_host_speed
from harness.machine.attach_server import hold_machine
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.model.prepared import PreparedImage
from harness.model.verdict import Verdict
from harness.plugin import suite
from harness.plugin.options import RunOptions, read_options
from harness.qemu import program
from harness.runs.folder import Run
from harness.runs.progress import EventFollower
from harness.verdict.causes import Cause


@dataclass(slots=True, kw_only=True)
class RunState:
    """The options and the process are known from the start, the rest once the controller has prepared the images.

    ``worker`` is xdist's name for this process, or "main"; ``controller`` the controller's process id. ``problems`` are
    sentences about why a verdict could not be written or is not complete, ``remarks`` about problems that
    leave it valid. ``signer`` signs the attestation. ``causes`` has a pair of an image and the `Cause` of each failure
    that a test reported and another could repeat, ``folded`` the ids of the others; ``described`` the folders of the
    machines that were described for a failed test. ``follower`` prints the progress of the controller's run.
    ``problem`` is a sentence if the workers refused the run.
    """

    options: RunOptions
    worker: str = "main"
    controller: int = field(default_factory=os.getpid)
    suites: tuple[Path, ...] = ()
    signer: Any = None
    suite_ids: list[str] = field(default_factory=list)
    prepared: dict[str, PreparedImage] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    shared: dict[str, SharedMachine] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    causes: set[tuple[str, Cause]] = field(default_factory=set)
    described: set[Path] = field(default_factory=set)
    folded: set[str] = field(default_factory=set)
    problem: str = ""
    is_interrupted: bool = False
    is_summarized: bool = False
    follower: EventFollower | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def is_controller(self) -> bool:
        """Of all workers, or the only process there is."""
        return self.worker == "main"

    def keep(self, machine: Machine, why: str = "its boot failed") -> None:
        """With ``--keep-failed``, wait here while somebody looks at the machine that failed."""
        if self.options.keep_failed:
            hold_machine(machine, why, for_s=60.0 * self.options.keep_minutes)

    def use(self, prepared: PreparedImage) -> None:
        self.prepared[prepared.image] = prepared
        program.use(prepared.qemu)
        use_host_speed(replace(host_speed(), emulation=max(known.slowness for known in self.prepared.values())))
        self.runs[prepared.image] = Run(prepared.run_folder, self.worker)


KEY = pytest.StashKey[RunState]()


def read_state(config: pytest.Config) -> RunState:
    """The state at the start of this process; a worker gets what the controller prepared.

    `UsageError` for options that are not valid.
    """
    given = getattr(config, "workerinput", {})
    options = read_options(config.option, suite.roots(config))
    state = RunState(
        options=options,
        worker=given.get("workerid", "main"),
        controller=given.get("bootproof_controller", os.getpid()),
        suites=suite.folders(config),
        signer=None if given else _read_signer(options),
    )
    for plain in given.get("bootproof", {}).values():
        state.use(serialization.load(PreparedImage, plain))
    return state


def _read_signer(options: RunOptions) -> Any:
    from harness.promotion.attest import read_signer  # a worker signs nothing

    return read_signer(options.sign_key)

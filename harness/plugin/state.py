"""What one pytest process knows of a run of Bootproof."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.core import digest, serialization
from harness.core.deadline import host_speed, use_host_speed
from harness.core.errors import UsageError
from harness.machine.hold import hold_machine
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.model import network_faults
from harness.model.definition import ImageDefinition, find_definition, find_images
from harness.model.hardware import HardwareProfile, find_profile, fitting, path_for, problem
from harness.model.machine_spec import BootPath, default_boot_path
from harness.model.network_faults import NetworkFault
from harness.model.prepared import PreparedImage
from harness.model.verdict import Verdict
from harness.plugin import suite
from harness.promotion.attest import read_signer
from harness.runs.folder import Run


@dataclass(slots=True, kw_only=True)
class RunState:
    """The definitions are known from the start, the rest once the controller has prepared it.

    ``problems`` are sentences about what kept a verdict from being written, or from being whole, ``remarks`` about
    less. ``signer`` signs what is attested; ``policy`` is the SHA-256 of that in force.
    """

    definitions: dict[str, ImageDefinition]
    boot_paths: tuple[BootPath, ...]
    network_faults: tuple[NetworkFault, ...] = ()
    worker: str
    controller: int
    suites: tuple[Path, ...]
    is_thorough: bool = False
    power_cuts: int = 0
    seed: int = 1
    with_artifacts: bool = False
    with_memory: bool = False
    hold_s: float = 0.0
    repeats: int = 1
    hardware: HardwareProfile | None = None
    signer: Any = None
    policy: str = ""
    suite_ids: list[str] = field(default_factory=list)
    prepared: dict[str, PreparedImage] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    shared: dict[str, SharedMachine] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_interrupted: bool = False
    is_told: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def cut_boots(self) -> int:
        """How many machines boot from what a power cut left."""
        return max(2, self.power_cuts // 1000)

    def keep(self, machine: Machine, why: str = "its boot failed") -> None:
        """Leave a machine that failed running until somebody has looked at it, with ``--keep failed``."""
        if self.hold_s:
            hold_machine(machine, why, for_s=self.hold_s)

    @property
    def is_controller(self) -> bool:
        """Of all workers, or the only process there is."""
        return self.worker == "main"

    def paths_of(self, image: str) -> tuple[BootPath, ...]:
        """The boot paths to try: the definition's that this hardware can go, or those of ``--boot-path``."""
        return self.boot_paths or fitting(self.hardware, self.definitions[image].boot_paths)

    def default_path_of(self, image: str) -> BootPath:
        """The path for tests that need just one."""
        return default_boot_path(self.paths_of(image))

    def use(self, prepared: PreparedImage) -> None:
        self.prepared[prepared.image] = prepared
        use_host_speed(replace(host_speed(), emulation=max(known.slowness for known in self.prepared.values())))
        self.runs[prepared.image] = Run(prepared.run_folder, self.worker)


KEY = pytest.StashKey[RunState]()


def read_state(config: pytest.Config) -> RunState:
    """The state at the start of this process; a worker gets what the controller prepared."""
    option = config.option
    if option.artifacts and len(set(option.image)) > 1:
        raise UsageError("--artifacts are those of one image; name one --image")
    if option.kernel_arguments is not None and not option.artifacts:
        raise UsageError("--kernel-arguments go with --artifacts; a definition has its own in [build]")
    if option.power_cuts < 1:
        raise UsageError(f"--power-cuts {option.power_cuts}: judge at least one")
    if option.keep_minutes < 1:
        raise UsageError(f"--keep-minutes {option.keep_minutes}: keep it for a minute at least")
    if option.boots < 1:
        raise UsageError(f"--boots {option.boots}: boot at least once")
    images = Path(option.images_dir).absolute() if option.images_dir else _find_images(config)
    given = getattr(config, "workerinput", {})
    is_controller = not given
    state = RunState(
        definitions={name: find_definition(name, images) for name in dict.fromkeys(option.image)},
        boot_paths=tuple(BootPath(path) for path in option.boot_path),
        network_faults=tuple(network_faults.read(name) for name in dict.fromkeys(option.network_fault)),
        worker=given.get("workerid", "main"),
        controller=given.get("bootproof_controller", os.getpid()),
        suites=suite.folders(config),
        is_thorough=option.thorough,
        power_cuts=option.power_cuts,
        seed=option.seed,
        with_artifacts=option.with_artifacts,
        with_memory=option.with_memory,
        hold_s=60.0 * option.keep_minutes if option.keep else 0.0,
        repeats=option.boots,
        hardware=find_profile(option.hardware) if option.hardware else None,
        signer=read_signer(option.sign_key) if is_controller else None,
        policy=_policy_digest(Path(option.policy) if option.policy else images / "policy.toml", option.policy),
    )
    for name in state.definitions:
        for known in state.network_faults:
            network_faults.check_shows(known, state.paths_of(name))
    if state.hardware:
        _check_hardware(state, state.hardware)
    for plain in given.get("bootproof", {}).values():
        state.use(serialization.load(PreparedImage, plain))
    return state


def _check_hardware(state: RunState, hardware: HardwareProfile) -> None:
    """Before anything starts: such machines must be able to come up, in all ways asked for and in one at least."""
    for path in state.boot_paths:
        if said := problem(hardware, path):
            raise UsageError(f"--hardware {said}; another --boot-path, or other hardware")
    for name, definition in state.definitions.items():
        if not state.paths_of(name):
            said = "; ".join(problem(hardware, path) for path in definition.boot_paths)
            raise UsageError(f"--hardware {said}; --boot-path {path_for(hardware, BootPath.IPXE_UEFI)} would do")


def _policy_digest(file: Path, given: str | None) -> str:
    """Of the policy that was in force; empty if there is none."""
    try:
        return digest.of_file(file)
    except OSError as error:
        if given:
            raise UsageError(f"the policy {file} cannot be read: {error.strerror}") from None
        return ""


def _find_images(config: pytest.Config) -> Path:
    first, second = suite.roots(config)
    try:
        return find_images(first)
    except UsageError:
        return find_images(second)

"""One try: a machine as a bundle or a pair of builds has it, brought up to see what is found."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core import process
from harness.core.errors import Blame, HarnessError
from harness.core.process import CommandFailed
from harness.guest.checks import BootFailed
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.by_hand import by_hand
from harness.machine.machine import boot
from harness.model import network_faults
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.layout import UEFI_VARIABLES
from harness.model.machine_spec import BreakPoint, DiskFormat, DiskSpec, MachineSpec, Network
from harness.model.verdict import Finding
from harness.qemu.disk_images import format_of, make_overlay
from harness.runs.folder import Run, make_key
from harness.store.store import VARIABLE, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is brought up. ``before`` is upgraded to ``artifacts`` by kexec. ``disks`` are what the spec's disks hold,
    None for one that is blank, ``variables`` those of UEFI; it waits at ``stop``. With ``test`` that test is run, which
    makes its machine itself."""

    spec: MachineSpec
    artifacts: Artifacts
    definition: ImageDefinition
    network_faults: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    before: Artifacts | None = None
    network: Network = Network.LAB
    disks: tuple[Path | None, ...] = ()
    variables: Path | None = None
    test: str = ""
    seed: int = 1
    stop: BreakPoint | None = None

    @property
    def booted(self) -> Artifacts:
        """The artifacts, with all arguments."""
        manifest = self.artifacts.manifest
        changed = replace(manifest, kernel_arguments=(*manifest.kernel_arguments, *self.arguments))
        return replace(self.artifacts, manifest=changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinding:
    """A finding: its id, whose doing it is, and the machine or test that it is about."""

    id: str
    where: str
    blame: Blame = Blame.IMAGE


def attempt(case: Case, store: Store, folder: Path, images_dir: Path | None) -> tuple[AttemptFinding, ...]:
    """What is found, its logs in ``folder``; nothing if all is well. `HarnessError` for a test that does not run."""
    return _run_test(case, store, folder, images_dir) if case.test else _boot(case, store, folder)


def _boot(case: Case, store: Store, folder: Path) -> tuple[AttemptFinding, ...]:
    run = Run(folder, "main")
    make_key(run, store)
    spec = replace(case.spec, disks=own_disks(case, folder))
    (folder / spec.name).mkdir()
    give_variables(case, folder / spec.name)
    known = [network_faults.read(name) for name in case.network_faults]
    with open_lab(folder / "lab", case.network, network_faults=known) as lab:
        context = BootContext(lab=lab, run=run, slots=store.folder("slots"), by_hand=by_hand)
        try:
            with boot(spec, case.before or case.booted, case.definition, context=context) as machine:
                if case.before:
                    machine.reboot(into=case.booted)
        except BootFailed as error:
            return (_told(error.finding),)
    return _found(run)


def _found(run: Run) -> tuple[AttemptFinding, ...]:
    return tuple(map(_told, run.findings()))


def _told(finding: Finding) -> AttemptFinding:
    return AttemptFinding(id=finding.id, where=finding.where, blame=finding.blame)


def own_disks(case: Case, folder: Path) -> tuple[DiskSpec, ...]:
    """Layers over them in ``folder`` that take what is written; blank ones for those that were."""
    made = list[DiskSpec]()
    for number, disk in enumerate(case.spec.disks):
        held = case.disks[number] if number < len(case.disks) else None
        kind = DiskFormat.QCOW2 if held else DiskFormat.RAW
        path = folder / f"disk{number}.{kind}"
        if held:
            make_overlay(path, held, base_format=format_of(held))
        made.append(replace(disk, path=path, format=kind, writes=None))
    return tuple(made)


def give_variables(case: Case, machine: Path) -> None:
    """UEFI's as they were before, into the folder of the ``machine``."""
    if case.variables:
        shutil.copyfile(case.variables, machine / UEFI_VARIABLES)


def _run_test(case: Case, store: Store, folder: Path, images_dir: Path | None) -> tuple[AttemptFinding, ...]:
    """By pytest, which makes the machine as it did then."""
    options = {
        "--image": case.artifacts.manifest.image,
        "--artifacts": case.artifacts.folder,
        "--boot-path": case.spec.boot_path,
        "--hardware": case.spec.hardware.partition(":")[0],
        "--images-dir": images_dir,
        "--seed": case.seed,
        "--run-dir": folder,
    }
    argv = [f"{name}={value}" for name, value in options.items() if value]
    argv += [f"--network-fault={name}" for name in case.network_faults]
    log = folder / "pytest.log"
    with suppress(CommandFailed):  # so it does if the test fails
        process.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *argv, case.test], log=log,
                    env=os.environ | {VARIABLE: str(store.root)})  # fmt: skip
    for verdict in folder.glob("*/verdict.json"):
        run = Run(verdict.parent, "main")
        ran = {event.data["test"] for event in run.events() if event.kind == "result"}
        if any(case.test in (test, test.partition("[")[0]) for test in ran):
            return _found(run)
    said = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
    raise HarnessError(f"{case.test} did not run here: {''.join(said)}; run this in the repository that has it")

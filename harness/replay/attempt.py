"""One try: boot the machine of a case, or run its test, and return what was found."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.core import process
from harness.core.errors import HarnessError, HostError, UsageError
from harness.core.process import CommandFailed
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import boot
from harness.model import network_faults
from harness.model.events import ReportedTest
from harness.model.layout import UEFI_VARIABLES
from harness.model.machine_spec import DiskFormat, DiskSpec, MachineSpec
from harness.model.verdict import Finding
from harness.qemu.disk_images import format_of, make_overlay
from harness.replay.case import AttemptFinding, Case
from harness.runs.folder import Run, make_key
from harness.store.store import VARIABLE, Store


def attempt(case: Case, store: Store, folder: Path, images_dir: Path | None) -> tuple[AttemptFinding, ...]:
    """The findings of one try, its logs in ``folder``; empty if it passed. `HarnessError` if a test did not run."""
    return _run_test(case, store, folder, images_dir) if case.test else _boot(case, store, folder)


def _boot(case: Case, store: Store, folder: Path) -> tuple[AttemptFinding, ...]:
    run = Run(folder, "main")
    make_key(run, store)
    (folder / case.spec.name).mkdir()
    spec = make_files(case, folder, folder / case.spec.name)
    faults = [network_faults.read(name) for name in case.network_faults]
    with open_lab(folder / "lab", case.network, network_faults=faults) as lab:
        context = BootContext(lab=lab, run=run, slots=store.folder("slots"))
        try:
            with boot(spec, case.before or case.booted, case.definition, context=context) as machine:
                if case.before:
                    machine.kexec(case.booted)
        except BootFailed as error:
            return (_summary(error.finding),)
    return tuple(map(_summary, run.findings()))


def _summary(finding: Finding) -> AttemptFinding:
    return AttemptFinding(id=finding.id, where=finding.where, blame=finding.blame)


def make_folder(folder: Path) -> Path:
    """Create ``folder``; `UsageError` if it exists or cannot be created."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{folder} exists already; choose another folder with --run-dir") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be created: {error.strerror}; choose another with --run-dir") from error
    return folder


def make_files(case: Case, folder: Path, machine: Path) -> MachineSpec:
    """The spec of the case, with its disks as files in ``folder``: an overlay over each content, blank without one.

    The UEFI variables are copied into ``machine``, the folder of its machine.
    """
    disks: list[DiskSpec] = []
    for number, (disk, content) in enumerate(zip(case.spec.disks, case.contents, strict=True)):
        kind = DiskFormat.QCOW2 if content else DiskFormat.RAW
        path = folder / f"disk{number}.{kind}"
        if content:
            make_overlay(path, content, base_format=format_of(content))
        disks.append(replace(disk, path=path, format=kind, writes=None))
    if case.variables:
        shutil.copyfile(case.variables, machine / UEFI_VARIABLES)
    return replace(case.spec, disks=tuple(disks))


def _run_test(case: Case, store: Store, folder: Path, images_dir: Path | None) -> tuple[AttemptFinding, ...]:
    """Run the test with pytest, which makes the machine as in the original run."""
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
    with suppress(CommandFailed):  # the exit status if the test fails
        process.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *argv, case.test, *case.tests],
            log=log,
            env=os.environ | {VARIABLE: str(store.root)},
        )
    for verdict in folder.glob("*/verdict.json"):
        run = Run(verdict.parent, "main")
        if has_run(case.test, run.of_kind(ReportedTest)):
            return tuple(map(_summary, run.findings()))
    last = "".join(log.read_text("utf-8", "replace").strip().splitlines()[-1:])
    raise HarnessError(f"{case.test} did not run here: {last}; run this command in the repository that has the test")


def has_run(test: str, reported: Iterable[ReportedTest]) -> bool:
    """Whether ``test``, an id with or without its parameters, ran. `HostError` if it was not applicable here."""
    parts = [part for part in reported if test in (part.test, part.test.partition("[")[0])]
    reasons = {part.test: part.not_applicable for part in parts if part.not_applicable}
    if parts and {part.test for part in parts} <= set(reasons):
        raise HostError(f"{test} is not applicable here: {next(iter(reasons.values()))}")
    return bool(parts)

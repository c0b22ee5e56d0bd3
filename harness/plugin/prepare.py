"""What the controller prepares and its workers use: definitions, artifacts and a run's folder for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness import lab
from harness.build.imported import take_in
from harness.build.pipeline import Progress, build
from harness.core.errors import UsageError
from harness.host import accelerator
from harness.model import network_faults
from harness.model.artifacts import Artifacts, Manifest
from harness.model.definition import ImageDefinition
from harness.model.hardware import HardwareProfile
from harness.model.machine_spec import Accelerator, Network
from harness.model.network_faults import NetworkFault
from harness.model.prepared import PreparedImage
from harness.qemu.devices import check_nics
from harness.runs import learned
from harness.runs.folder import Run, make_key
from harness.store.store import Store

NEXT = "+next"
"""Appended to the version of the second build that a machine is upgraded to, and again to that of the third."""


def prepare(
    definition: ImageDefinition,
    store: Store,
    run_folder: Path,
    *,
    prebuilt: Path | None = None,
    kernel_arguments: Sequence[str] | None = None,
    previous: Path | None,
    wanted_accelerator: str,
    wanted_network: str,
    wanted_faults: Sequence[NetworkFault] = (),
    progress: Progress,
    until: ExitStack,
    is_thorough: bool = False,
    hardware: HardwareProfile | None = None,
) -> PreparedImage:
    """Build what is missing, or take in what is ``prebuilt``; hold it ``until`` the run is over; find out how it runs.

    Every byte of what is booted has been compared with its manifest then; what was damaged is built again.
    With ``previous``, machines are upgraded from it to the image under test; without, from the image under test
    to a second build of the same definition that differs in its version. ``kernel_arguments`` are for prebuilt
    artifacts without a manifest. With ``is_thorough`` there is a third version, the newest; else it is the new one.
    """
    run = Run(run_folder, "main")
    make_key(run, store)
    check_nics(hardware.nics if hardware else ())
    network = lab.choose_network(wanted_network)
    if network.network is Network.USER:
        for what in lab.UNPROVEN:
            run.add_unchecked(what)
        for known in wanted_faults:
            lab.check_fault(known)

    def make(version: str | None = None) -> Artifacts:
        return store.hold(lambda: build(definition, store, version=version, verify=True, progress=progress), until)

    def take(folder: Path, arguments: Sequence[str] | None = None) -> Artifacts:
        return store.hold(lambda: take_in(folder, definition, store, kernel_arguments=arguments), until)

    under_test = take(prebuilt, kernel_arguments) if prebuilt else make()
    old, new = under_test, under_test
    if previous:
        old = take(previous)
    elif prebuilt:
        run.add_unchecked("an upgrade to other artifacts: --previous names those that --artifacts shall replace")
    else:
        new = make(definition.version + NEXT)
    for unmeant in filter(network_faults.needs_other_build, wanted_faults if old.digest == new.digest else ()):
        raise UsageError(f"network fault {unmeant.name}: there is no other build; --previous names one")
    newest = make(definition.version + 2 * NEXT) if is_thorough and not (prebuilt or previous) else new
    for what in unknown(under_test.manifest):
        run.add_unchecked(what)
    choice = accelerator.choose(wanted_accelerator, under_test.kernel, store.folder("accelerators"))
    is_emulated = choice.accelerator is Accelerator.TCG
    return PreparedImage(
        image=definition.name,
        run_folder=run_folder,
        under_test=under_test.folder,
        old=old.folder,
        new=new.folder,
        newest=newest.folder,
        accelerator=choice.accelerator,
        accelerator_reason=choice.reason,
        network=network.network,
        network_reason=network.reason,
        learned=learned.recall(store, definition.name),
        slowness=round(accelerator.emulation_slowness(under_test.kernel), 2) if is_emulated else 1.0,
        network_faults=tuple(known.name for known in wanted_faults),
        hardware=f"{hardware.name}: {hardware.description}" if hardware else "",
    )


def unknown(manifest: Manifest) -> Iterator[str]:
    """What the manifest of another builder's artifacts does not say, and so cannot be compared."""
    if not manifest.packages:
        yield "the installed packages: the manifest lists none"
    if not manifest.version:
        yield "which version runs: the image's os-release has no IMAGE_VERSION; its kernel was compared"

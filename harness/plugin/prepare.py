"""What the controller prepares before workers boot: artifacts, accelerator and network of each image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness import lab
from harness.build.imported import take_in
from harness.build.pipeline import Progress, build
from harness.core.errors import UsageError
from harness.host import accelerator
from harness.machine.states import Versions
from harness.model import network_faults
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, Network
from harness.model.prepared import PreparedImage
from harness.plugin.options import RunOptions
from harness.qemu import grub, program
from harness.qemu.devices import check_nics
from harness.runs import history
from harness.runs.folder import Run, make_key
from harness.store.store import Store

NEXT = "+next"
"""Appended to the version of the second build that a machine is upgraded to, and twice to that of the third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the artifacts of one image come from; the store holds them ``until`` the run ends."""

    definition: ImageDefinition
    store: Store
    progress: Progress
    until: ExitStack

    def build(self, version: str | None = None) -> Artifacts:
        """Build the definition, unless the store has it. Files whose bytes differ from the manifest are built again."""
        definition, store = self.definition, self.store
        return store.hold(
            lambda: build(definition, store, version=version, verify=True, progress=self.progress), self.until
        )

    def take(self, folder: Path, arguments: Sequence[str] | None = None) -> Artifacts:
        """Take in what another builder made; ``arguments`` are the kernel's, if there is no manifest."""
        definition, store = self.definition, self.store
        return store.hold(lambda: take_in(folder, definition, store, kernel_arguments=arguments), self.until)


def prepare(source: Source, options: RunOptions, run: Run) -> PreparedImage:
    """Build or take in what will be booted, and find out how this host can run it.

    Every byte to be booted has been compared with its manifest when this returns. What cannot be checked here is
    noted in ``run``. `UsageError` for options that this image or host does not support.
    """
    store, hardware = source.store, options.hardware
    make_key(run, store)
    if options.qemu:
        program.use(options.qemu)
    check_nics(hardware.nics if hardware else ())
    network = choose_network(options, run)
    versions = choose_versions(source, options, run)
    if BootPath.GRUB in options.paths_of(source.definition.name):
        for artifacts in (versions.old, versions.new, versions.newest):
            grub.check(artifacts.manifest)
    choice = accelerator.take(options.accelerator, versions.under_test, store, qemu=options.qemu)
    slowness = accelerator.slowness(choice, versions.under_test.kernel, qemu=program.in_use())
    return PreparedImage(
        image=source.definition.name,
        run_folder=run.folder,
        under_test=versions.under_test.folder,
        old=versions.old.folder,
        new=versions.new.folder,
        newest=versions.newest.folder,
        accelerator=choice.accelerator,
        accelerator_reason=choice.reason,
        qemu=program.in_use(),
        network=network.network,
        network_reason=network.reason,
        durations=history.durations(store, source.definition.name),
        slowness=round(slowness, 2),
        network_faults=tuple(fault.name for fault in options.network_faults),
        hardware=f"{hardware.name}: {hardware.description}" if hardware else "",
    )


def choose_network(options: RunOptions, run: Run) -> lab.NetworkChoice:
    """The network that this host offers; what QEMU's user network cannot prove is noted in ``run``."""
    network = lab.choose_network(options.network)
    if network.network is Network.USER:
        for what in lab.UNPROVEN:
            run.add_unchecked(what)
        for fault in options.network_faults:
            lab.check_fault(fault)
    return network


def choose_versions(source: Source, options: RunOptions, run: Run) -> Versions:
    """With ``--previous``, machines are upgraded from it to the image under test.

    Without it, they are upgraded from the image under test to a second build of the same definition with another
    version, and with ``--thorough`` to a third.
    """
    under_test = source.take(options.artifacts, options.kernel_arguments) if options.artifacts else source.build()
    old, new = under_test, under_test
    if options.previous:
        old = source.take(options.previous)
    elif options.artifacts:
        run.add_unchecked("an upgrade to other artifacts: --previous names the artifacts that --artifacts replace")
    else:
        new = source.build(source.definition.version + NEXT)
    for fault in options.network_faults if old.digest == new.digest else ():
        if network_faults.needs_other_build(fault):
            raise UsageError(f"network fault {fault.name} needs a second build; give one with --previous")
    is_third_built = options.is_thorough and not (options.artifacts or options.previous)
    newest = source.build(source.definition.version + 2 * NEXT) if is_third_built else new
    return Versions(under_test, old, new, newest)

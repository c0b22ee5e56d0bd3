"""What the controller prepares before workers boot: artifacts, accelerator and network of each image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness import lab
from harness.build.imported import take_in
from harness.build.pipeline import Progress, build
from harness.core.errors import UsageError
from harness.host import accelerator
from harness.machine.states import Versions
from harness.model import network_faults
from harness.model.artifacts import NEXT, Artifacts, InTree
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import BootPath, Network
from harness.model.prepared import PreparedImage
from harness.model.shard import ROLES, ImagePlan
from harness.plugin.options import RunOptions
from harness.promotion.bring import bring
from harness.qemu import grub, program
from harness.qemu.devices import check_nics
from harness.qemu.kernel_arguments import kernel_arguments
from harness.runs import history
from harness.runs.folder import Run, make_key
from harness.store.store import Store
from harness.verdict.coverage import NOVA, required_checks


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

    def take(
        self, place: Path | InTree, arguments: Sequence[str] | None = None, *, is_previous: bool = False
    ) -> Artifacts:
        """Take in what another builder made, or bring what a tree has; ``arguments`` are the kernel's, if a folder has
        no manifest. A folder with a previous version may be that of an image with another name."""
        definition, store = self.definition, self.store
        if isinstance(place, InTree):
            return store.hold(lambda: bring(place, definition.name, store, self.progress), self.until)
        folder = place
        return store.hold(
            lambda: take_in(folder, definition, store, kernel_arguments=arguments, is_previous=is_previous), self.until
        )

    def find(self, digest: str, tree: str) -> Artifacts | None:
        """The artifacts with that digest, brought from ``tree`` if the store lacks them; None if there is no tree."""
        if tree:
            return self.take(InTree(tree=tree, digest=digest))
        found = self.store.whole_artifacts(digest)
        return self.store.hold(lambda: self.store.artifacts(digest), self.until) if found else None


def prepare(source: Source, options: RunOptions, run: Run) -> PreparedImage:
    """Build or take in what will be booted, and find out how this host can run it.

    Every byte to be booted has been compared with its manifest when this returns. What cannot be checked here is
    noted in ``run``. `UsageError` for options that this image or host does not support.
    """
    store, hardware = source.store, options.hardware
    required = required_checks(source.definition, is_thorough=options.is_thorough)
    make_key(run, store)
    if options.qemu:
        program.use(options.qemu)
    check_nics(hardware.nics if hardware else ())
    network = choose_network(options, run)
    versions = choose_versions(source, options, run)
    for manifest in (versions.old.manifest, versions.new.manifest, versions.newest.manifest):
        for path in options.paths_of(source.definition.name):
            if path is BootPath.GRUB:
                grub.check(manifest)
            kernel_arguments(manifest.kernel_arguments, manifest.rootfs, path, "")
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
        control_plane=make_control_plane(source).folder if NOVA in required else None,
    )


def make_control_plane(source: Source) -> Artifacts:
    """Build or take in the control plane of the image that ``source`` is about."""
    named = source.definition.control_plane
    assert named is not None
    own = replace(source, definition=load_definition(source.definition.folder.parent / named.image))
    return own.take(named.artifacts) if named.artifacts else own.build()


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
    """What machines boot; `UsageError` if it is not what the plan says."""
    if planned := options.planned(source.definition.name):
        versions = _planned_versions(source, options, planned) or _own_versions(source, options)
        _check_planned(versions, planned)
    else:
        versions = _own_versions(source, options)
    has_upgrade = versions.old.digest != versions.new.digest
    if options.artifacts and not options.previous and not has_upgrade:
        run.add_unchecked("an upgrade to other artifacts: --previous names the artifacts that --artifacts replace")
    for fault in options.network_faults if not has_upgrade else ():
        if network_faults.needs_other_build(fault):
            raise UsageError(f"network fault {fault.name} needs a second build; give one with --previous")
    return versions


def _own_versions(source: Source, options: RunOptions) -> Versions:
    """With ``--previous``, machines are upgraded from it to the image under test.

    Without it, they are upgraded from the image under test to a second build of the same definition with another
    version, and with ``--thorough`` to a third.
    """
    under_test = source.take(options.artifacts, options.kernel_arguments) if options.artifacts else source.build()
    old, new = under_test, under_test
    if options.previous:
        old = source.take(options.previous, is_previous=True)
    elif not options.artifacts:
        new = source.build(source.definition.version + NEXT)
    is_third_built = options.is_thorough and not (options.artifacts or options.previous)
    newest = source.build(source.definition.version + 2 * NEXT) if is_third_built else new
    return Versions(under_test, old, new, newest)


def _planned_versions(source: Source, options: RunOptions, planned: ImagePlan) -> Versions | None:
    """Those of the plan, from the store, else from the tree that an option names.

    None if the store lacks one and no tree is named, or if an option names a folder: they are then built or taken in.
    """
    given = [place for place in (options.artifacts, options.previous) if place]
    trees = [place for place in given if isinstance(place, InTree)]
    if len(trees) < len(given):
        return None
    for place in trees:
        if not any(digest.startswith(place.digest) for digest in options.planned_artifacts):
            raise UsageError(f"--plan is not about the artifacts {place.digest[:12]}, but about {_names(planned)}")
    found = {digest: source.find(digest, trees[0].tree if trees else "") for digest in planned.artifacts}
    roles = (planned.digests["artifacts"], *(planned.versions[role] for role in ROLES))
    under_test, old, new, newest = (found[digest] for digest in roles)
    if under_test and old and new and newest:
        return Versions(under_test, old, new, newest)
    return None


def _check_planned(versions: Versions, planned: ImagePlan) -> None:
    here = (versions.under_test, versions.old, versions.new, versions.newest)
    wanted = (planned.digests["artifacts"], *(planned.versions[role] for role in ROLES))
    if other := next((pair for pair in zip(here, wanted, strict=True) if pair[0].digest != pair[1]), None):
        raise UsageError(
            f"--plan is about the artifacts {other[1][:12]} of {planned.name}, this host has {other[0].digest[:12]}; "
            f"on the host that made the plan: bootproof push {' '.join(planned.artifacts)} TREE; here: pytest "
            f"--artifacts TREE@{planned.artifacts[0]} …"
        )


def _names(planned: ImagePlan) -> str:
    return ", ".join(digest[:12] for digest in planned.artifacts)

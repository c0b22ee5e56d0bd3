"""The case of a bundle: its machine, with artifacts from wherever this host can get them."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build.pipeline import build
from harness.core import serialization
from harness.core.errors import UsageError
from harness.core.terminal import to_stderr
from harness.host import accelerator
from harness.model import network_faults
from harness.model.artifacts import MANIFEST, Artifacts, Manifest, difference, load_artifacts
from harness.model.definition import find_definition, find_images
from harness.model.layout import UEFI_VARIABLES
from harness.promotion.remote import open_tree
from harness.qemu.devices import check_nics
from harness.replay.bundle_read import Unpacked
from harness.replay.case import Case
from harness.runs.progress import BuildProgress
from harness.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSources:
    """Where artifacts may come from besides the bundle: in this order a folder that the user ``given``, the ``store``,
    a published ``tree``, a build of the definition in ``images_dir``."""

    store: Store
    given: Path | None = None
    tree: str | None = None
    images_dir: Path | None = None


def case_from_bundle(opened: Unpacked, sources: ArtifactSources, stack: ExitStack) -> Case:
    """The machine of a bundle as it was. Its artifacts are held until ``stack`` closes."""
    bundle, plan = opened.bundle, opened.bundle.plan
    before = _find(bundle.before, replace(sources, given=None), stack) if bundle.before else None
    return Case(
        spec=plan.spec,
        artifacts=_in_bundle(opened) or _find(bundle.manifest, sources, stack),
        definition=bundle.definition,
        network_faults=plan.network_faults,
        before=before,
        network=plan.network,
        disks=tuple(opened.folder / name if name else None for name in plan.disks),
        variables=opened.folder / UEFI_VARIABLES if UEFI_VARIABLES in bundle.files else None,
        test=bundle.failure.test,
        tests=bundle.failure.tests,
        seed=bundle.failure.seed,
    )


def on_this_host(case: Case, store: Store) -> Case:
    """``case`` with the accelerator of this host. `UsageError` or `HostError` if the machine cannot run here."""
    for name in case.network_faults:
        if network_faults.needs_other_build(network_faults.read(name)):
            raise UsageError(
                f"network fault {name} needs a second build, which is not in the bundle; "
                "--set network-faults= replays without it"
            )
    check_nics(case.spec.nics)
    choice = accelerator.take("auto", case.artifacts, store)
    if choice.accelerator is not case.spec.accelerator:
        to_stderr(
            f"the failure was seen with {case.spec.accelerator}; this host uses {choice.accelerator} ({choice.reason})"
        )
    return replace(case, spec=replace(case.spec, accelerator=choice.accelerator))


def _in_bundle(opened: Unpacked) -> Artifacts | None:
    manifest = opened.bundle.manifest
    if not set(manifest.files) <= set(opened.bundle.files):
        return None
    serialization.write(opened.folder / MANIFEST, manifest)
    return _intact(load_artifacts(opened.folder))


def _find(manifest: Manifest, sources: ArtifactSources, stack: ExitStack) -> Artifacts:
    """The artifacts with the digest of ``manifest``. `UsageError` if no source has them."""
    digest, store = manifest.digest, sources.store
    if sources.given:
        given = load_artifacts(sources.given.absolute())
        if given.digest != digest:
            raise UsageError(
                f"the failed artifacts have the digest {digest[:12]}; {sources.given} has {given.digest[:12]}"
            )
        return _intact(given)
    with suppress(UsageError):
        return store.hold(lambda: store.artifacts(digest), stack)
    if sources.tree and (published := _published(sources.tree, manifest, stack)):
        return published
    to_stderr(f"artifacts {digest[:12]} were not found: building {manifest.image} {manifest.version}")
    definition = find_definition(manifest.image, sources.images_dir or find_images(Path.cwd()))
    progress = BuildProgress(to_stderr, definition.name)
    built = store.hold(lambda: build(definition, store, version=manifest.version, progress=progress), stack)
    if built.digest != digest:
        raise UsageError(
            f"artifacts {digest[:12]} were not found, and the definition here builds {built.digest[:12]} of "
            f"{manifest.image} {manifest.version}; check out the commit that built them, or give --artifacts DIR"
        )
    return built


def _published(tree: str, manifest: Manifest, stack: ExitStack) -> Artifacts | None:
    """The artifacts from a published tree; None if no stream of it ever pointed to them."""
    opened = open_tree(tree, manifest.image, stack)
    opened.fetch_digest(manifest.digest)
    folder = opened.tree.artifacts(manifest.digest)
    return _intact(load_artifacts(folder)) if folder.is_dir() else None


def _intact(artifacts: Artifacts) -> Artifacts:
    if problem := difference(artifacts):
        raise UsageError(problem)
    return artifacts

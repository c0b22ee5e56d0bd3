"""``bootproof bisect``: over the versions of a stream, then over the parts of two cases."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from harness.core.errors import Blame, HostError, UsageError
from harness.core.namespaces import remove
from harness.core.terminal import to_stderr
from harness.host import accelerator
from harness.lab import choose_network
from harness.model.artifacts import Artifacts, load_artifacts
from harness.model.definition import find_definition, find_images
from harness.model.layout import BUNDLE_SUFFIX
from harness.model.machine_spec import DiskSpec, MachineSpec, default_boot_path
from harness.promotion.select import open_named_tree, select
from harness.qemu.disk_images import DATA_GIB, DATA_SERIAL
from harness.replay.attempt import attempt, make_folder
from harness.replay.bundle_read import unpack
from harness.replay.case import Case
from harness.replay.case_from_bundle import ArtifactSources, case_from_bundle, on_this_host
from harness.replay.delta import TryOutcome, neighbours
from harness.replay.tries import Tries, format_result, smallest_change
from harness.store.store import Store, find_store


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectOptions:
    """One bisection: the options of the command. ``test`` and ``stream`` may be empty."""

    good: str
    bad: str
    test: str = ""
    repeat: int = 1
    stream: str = ""
    tree: str | None = None
    images_dir: Path | None = None
    run_dir: Path | None = None


def bisect(options: BisectOptions) -> int:
    """Print the smallest change that turns GOOD into BAD. `UsageError` if GOOD fails or BAD does not."""
    if options.repeat < 1:
        raise UsageError(f"--repeat {options.repeat}: expected at least 1")
    store = find_store()
    with ExitStack() as stack:
        folder = stack.enter_context(store.workfolder(remove=remove))
        good = _case(options.good, options, store, stack, folder / "good")
        bad = _case(options.bad, options, store, stack, folder / "bad")
        good, bad = _aligned(good, bad)
        _check_comparable(good, bad)
        logs = options.run_dir.absolute() if options.run_dir else folder / "runs"
        used = Store(folder / "store") if bad.test else store  # pytest would keep the mixes in the store of this host
        numbers = count(1)

        def try_once(case: Case) -> tuple[str, ...]:
            found = attempt(case, used, make_folder(logs / f"try-{next(numbers)}"), options.images_dir)
            if others := [one for one in found if one.blame is not Blame.IMAGE]:
                raise HostError(
                    f"bisect stopped: {others[0].id} at {others[0].where} is not a problem of the image, so this try "
                    "is neither good nor bad; run `bootproof doctor`, then bisect again"
                )
            return tuple(one.id for one in found)

        tries = Tries(try_once, options.repeat, to_stderr)
        tries.confirm(good, bad)
        if options.stream:
            good, bad = _neighbours(good, bad, tries, options, stack)
        found = smallest_change(good, bad, tries, folder / "mixes")
        print("\n".join(format_result(found, tries)))
        if good.artifacts.digest != bad.artifacts.digest:
            print(f"between {_name(good.artifacts)} and {_name(bad.artifacts)}")
            print(f"to compare their contents: bootproof diff {good.artifacts.folder} {bad.artifacts.folder}")
    return 0


def _case(name: str, options: BisectOptions, store: Store, stack: ExitStack, folder: Path) -> Case:
    if name.endswith(BUNDLE_SUFFIX):
        sources = ArtifactSources(store=store, tree=options.tree, images_dir=options.images_dir)
        case = case_from_bundle(unpack(Path(name), make_folder(folder)), sources, stack)
        return on_this_host(replace(case, test=options.test or case.test, tests=()), store)
    artifacts = select(name, options.tree, stack).artifacts
    definition = find_definition(artifacts.manifest.image, options.images_dir or find_images(Path.cwd()))
    disks = (DiskSpec(path=Path("data"), serial=DATA_SERIAL, size_gib=DATA_GIB),)
    spec = MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=default_boot_path(definition.boot_paths),
        accelerator=accelerator.take("auto", artifacts, store).accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
        disks=disks if definition.persistent_paths else (),
    )
    network = choose_network("auto").network
    return Case(spec=spec, artifacts=artifacts, definition=definition, network=network, test=options.test)


def _aligned(good: Case, bad: Case) -> tuple[Case, Case]:
    """Both cases without differences that cannot be the cause: the name, number and UUID of the machine, its
    accelerator and credentials, the definition, the kind of network, the test."""
    spec = replace(
        good.spec,
        name=bad.spec.name,
        number=bad.spec.number,
        uuid=bad.spec.uuid,
        accelerator=bad.spec.accelerator,
        hardware=bad.spec.hardware,
        credentials=bad.spec.credentials,
    )
    test = bad.test or good.test
    good = replace(good, spec=spec, test=test, seed=bad.seed, network=bad.network, definition=bad.definition)
    return good, replace(bad, test=test)


def _check_comparable(good: Case, bad: Case) -> None:
    if good.artifacts.manifest.image != bad.artifacts.manifest.image:
        raise UsageError(
            f"GOOD is a build of {good.artifacts.manifest.image}, BAD of {bad.artifacts.manifest.image}; "
            "bisect compares builds of one image"
        )
    if good.before or bad.before:
        raise UsageError("bisect cannot take an upgrade by kexec apart; bisect a boot of the newer version")
    if good == bad:
        raise UsageError("GOOD and BAD are the same")


def _neighbours(good: Case, bad: Case, tries: Tries, options: BisectOptions, stack: ExitStack) -> tuple[Case, Case]:
    """The last good and the first bad version that the stream pointed to between the two."""
    image, stream = good.artifacts.manifest.image, options.stream
    opened = open_named_tree(options.tree, stack, image)
    opened.fetch_artifacts(image, stream)
    published = list(dict.fromkeys(entry.artifacts for entry in opened.tree.history(image, stream)))
    ends = [case.artifacts.digest for case in (good, bad)]
    for name, end in zip(("GOOD", "BAD"), ends, strict=True):
        if end not in published:
            raise UsageError(
                f"stream {stream} never pointed to {name} ({end[:12]}); `bootproof history {image} {stream}` lists its "
                "builds"
            )
    first, last = (published.index(end) for end in ends)
    if first > last:
        raise UsageError(f"stream {stream} pointed to BAD before GOOD; exchange the two")
    versions = [load_artifacts(opened.tree.artifacts(digest)) for digest in published[first : last + 1]]
    to_stderr(f"{len(versions)} versions in {stream}")
    has_other_machine = (good.spec, good.network_faults) != (bad.spec, bad.network_faults)
    oldest = replace(bad, artifacts=versions[0])
    if has_other_machine and tries.judge(oldest, f"{_name(versions[0])} on BAD's machine") is TryOutcome.BAD:
        return good, bad  # the version is not the cause
    pair = neighbours(len(versions), lambda at: tries.judge(replace(bad, artifacts=versions[at]), _name(versions[at])))
    return replace(good, artifacts=versions[pair[0]]), replace(bad, artifacts=versions[pair[1]])


def _name(artifacts: Artifacts) -> str:
    return f"{artifacts.manifest.image} {artifacts.manifest.version} ({artifacts.digest[:12]})"

"""``bootproof bisect``: what turned good into bad, over the versions of a stream and what two of them are made of."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
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
from harness.promotion.select import open_named_tree, select, tree_name
from harness.qemu.disk_images import DATA_GIB, DATA_SERIAL
from harness.replay.attempt import Case, attempt
from harness.replay.bundle import unpack
from harness.replay.delta import Judge, TryOutcome, narrow, neighbours, told
from harness.replay.replay import case_of, made, on_this_host
from harness.store.store import Store, find_store


def bisect(options: argparse.Namespace) -> int:
    """Print the result; `UsageError` if there is nothing to find."""
    if options.times < 1:
        raise UsageError(f"--times {options.times}: at least once")
    store = find_store()
    with ExitStack() as until:
        folder = until.enter_context(store.workfolder(remove=remove))
        logs = options.run_dir.absolute() if options.run_dir else folder / "runs"
        numbers = iter(range(1, 1 << 30))

        def try_once(case: Case) -> tuple[str, ...]:
            place = made(logs / f"try-{next(numbers)}")
            found = attempt(case, kept, place, options.images_dir)
            if others := [one for one in found if one.blame is not Blame.IMAGE]:
                raise HostError(f"this host is not well enough to tell: {others[0].id} at {others[0].where}")
            return tuple(one.id for one in found)

        judge = Judge(attempt=try_once, times=options.times, say=to_stderr)
        good = _case(options.good, options, store, until, folder / "good")
        bad = _case(options.bad, options, store, until, folder / "bad")
        good, bad = _alike(good, bad)
        kept = Store(folder / "store") if bad.test else store  # pytest keeps what it is given, and mixes are of no use
        if differs := _same(good, bad):
            raise UsageError(differs)
        judge.begin(good, bad)
        if options.stream:
            good, bad = _closest(good, bad, judge, options, until)
        found = narrow(good, bad, judge, folder / "mixes")
        print("\n".join([*told(found, judge), *_hint(good, bad)]))
    return 0


def _case(name: str, options: argparse.Namespace, store: Store, until: ExitStack, folder: Path) -> Case:
    if name.endswith(BUNDLE_SUFFIX):
        case = case_of(
            unpack(Path(name), made(folder)), until, store, tree=tree_name(options.tree), images_dir=options.images_dir
        )
        return on_this_host(replace(case, test=options.test or case.test), store)
    artifacts = select(name, options.tree, until).artifacts
    definition = find_definition(artifacts.manifest.image, options.images_dir or find_images(Path.cwd()))
    spec = MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=default_boot_path(definition.boot_paths),
        accelerator=accelerator.choose("auto", artifacts.kernel, store.folder("accelerators")).accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
        disks=(DiskSpec(path=Path("data"), serial=DATA_SERIAL, size_gib=DATA_GIB),),
    )
    network = choose_network("auto").network
    return Case(spec=spec, artifacts=artifacts, definition=definition, network=network, test=options.test)


def _alike(good: Case, bad: Case) -> tuple[Case, Case]:
    """What is no difference: the name and number of the machine, what it is told and expected, the network's kind, the
    test that fails."""
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


def _same(good: Case, bad: Case) -> str:
    """Why there is nothing to compare; empty if there is."""
    if good.artifacts.manifest.image != bad.artifacts.manifest.image:
        return f"GOOD is of {good.artifacts.manifest.image}, BAD of {bad.artifacts.manifest.image}: no smallest change"
    if good.before or bad.before:
        return "an upgrade by kexec is two versions at once, and cannot be taken apart; bisect the boot of the newer"
    return "" if good != bad else "GOOD and BAD are the same"


def _closest(good: Case, bad: Case, judge: Judge, options: argparse.Namespace, until: ExitStack) -> tuple[Case, Case]:
    """The last good and the first bad of the versions that the stream carried between the two."""
    image = good.artifacts.manifest.image
    opened = open_named_tree(options.tree, until, image)
    opened.fetch_artifacts(image, options.stream)
    carried = list(dict.fromkeys(entry.artifacts for entry in opened.tree.history(image, options.stream)))
    ends = [case.artifacts.digest for case in (good, bad)]
    for name, end in zip(("GOOD", "BAD"), ends, strict=True):
        if end not in carried:
            raise UsageError(
                f"stream {options.stream} never carried {name}, {end[:12]}: bootproof history {image} {options.stream}"
            )
    first, last = (carried.index(end) for end in ends)
    if first > last:
        raise UsageError(f"stream {options.stream} carried BAD before GOOD")
    versions = [load_artifacts(opened.tree.artifacts(name)) for name in carried[first : last + 1]]
    to_stderr(f"{len(versions)} versions in {options.stream}")
    is_elsewhere = (good.spec, good.network_faults) != (bad.spec, bad.network_faults)
    oldest = replace(bad, artifacts=versions[0])
    if is_elsewhere and judge.judge(oldest, f"{_name(versions[0])} on BAD's machine") is TryOutcome.BAD:
        return good, bad  # whatever the version
    pair = neighbours(len(versions), lambda at: judge.judge(replace(bad, artifacts=versions[at]), _name(versions[at])))
    return replace(good, artifacts=versions[pair[0]]), replace(bad, artifacts=versions[pair[1]])


def _name(artifacts: Artifacts) -> str:
    return f"{artifacts.manifest.image} {artifacts.manifest.version} ({artifacts.digest[:12]})"


def _hint(good: Case, bad: Case) -> Iterator[str]:
    if good.artifacts.digest != bad.artifacts.digest:
        yield f"between {_name(good.artifacts)} and {_name(bad.artifacts)}"
        yield f"what differs in them: bootproof diff {good.artifacts.folder} {bad.artifacts.folder}"

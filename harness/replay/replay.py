"""``bootproof replay``: the failure of a bundle, again, here."""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from harness.build.pipeline import build
from harness.core import serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.core.namespaces import remove
from harness.core.terminal import to_stderr
from harness.host import accelerator
from harness.lab import open_lab
from harness.machine.attend import AttachMode, attend
from harness.model import network_faults
from harness.model.artifacts import MANIFEST, Artifacts, Manifest, difference, load_artifacts
from harness.model.definition import find_definition, find_images
from harness.model.layout import UEFI_VARIABLES
from harness.model.machine_spec import BootPath, BreakPoint, DiskRole, NicModel
from harness.model.network_faults import adapted
from harness.promotion.remote import open_tree
from harness.promotion.select import tree_name
from harness.qemu.devices import check_nics
from harness.replay.attempt import Case, attempt, give_variables, own_disks
from harness.replay.bundle import UNFINISHED, Failure, Unpacked, unpack
from harness.runs.progress import BuildProgress
from harness.store.store import Store, find_store
from harness.verdict.coverage import share_between

_UNIT = re.compile(r"[A-Za-z0-9@_.-]+\.service")


def replay(options: argparse.Namespace) -> int:
    if options.times < 1:
        raise UsageError(f"--times {options.times}: at least once")
    store = find_store()
    with ExitStack() as stack:
        folder = stack.enter_context(store.workfolder(remove=remove))
        opened = unpack(options.bundle, made(folder / "bundle"))
        to_stderr(f"{options.bundle.name}: {opened.bundle.failure.finding.what} [{opened.bundle.failure.finding.id}]")
        case = _case(opened, options, store, stack)
        if options.way or options.at:
            way = AttachMode(options.way or AttachMode.SHELL)
            at = options.at or (BreakPoint.FIRMWARE if way is AttachMode.GDB else None)
            return _attend(_stopped(case, at), made(folder / "shell"), way)
        logs = options.run_dir or folder / "runs"
        seen = Counter[str]()
        for number in range(1, options.times + 1):
            found = _try(opened, case, store, made(logs.absolute() / f"replay-{number}"), options.images_dir)
            seen[found] += 1
            to_stderr(f"replay {number}: {found or 'nothing was found'}")
        return _tell(opened.bundle.failure, seen, options.times)


def _attend(case: Case, folder: Path, way: AttachMode) -> int:
    """Whoever sits at the terminal looks for himself."""
    spec = replace(case.spec, disks=own_disks(case, folder))
    give_variables(case, folder)
    known = [network_faults.read(name) for name in case.network_faults]
    to_stderr("Ctrl-D ends it" if way is AttachMode.MONITOR else "Ctrl-] ends it")
    with open_lab(folder / "lab", case.network, network_faults=known) as lab:
        attend(adapted(spec, known), case.before or case.booted, case.definition, lab, folder, case.stop, way)
    return 0


def _stopped(case: Case, at: str | None) -> Case:
    """``case`` so that it waits there: as `BreakPoint` says, in dracut's initrd before the root is mounted, before or
    after a unit starts."""
    if at is None:
        return case
    path = case.spec.boot_path
    if at in tuple(BreakPoint):
        stop = BreakPoint(at)
        if (stop is BreakPoint.IPXE and not path.is_netboot) or (stop is BreakPoint.GRUB and path is not BootPath.GRUB):
            raise UsageError(f"--at {at}: this machine comes up by {path}; --change boot-path=... takes another way")
        return replace(case, stop=stop)
    if at == "initrd":
        return replace(case, arguments=(*case.arguments, "rd.break=pre-mount"))
    when, _, unit = at.rpartition(":")
    if not _UNIT.fullmatch(unit) or when not in ("", *_WHEN):
        raise UsageError(
            f"--at {at}: {', '.join(BreakPoint)}, initrd, or a service: before:ssh.service, after:ssh.service"
        )
    return _with_credential(
        case, f"{unit}~bootproof-at", f"TimeoutStartSec=infinity\n{_WHEN[when or 'before']}=sleep infinity"
    )


_WHEN = {"before": "ExecStartPre", "after": "ExecStartPost"}


def _with_credential(case: Case, unit: str, lines: str) -> Case:
    more = {f"systemd.unit-dropin.{unit}": f"[Service]\n{lines}\n"}
    return replace(case, spec=replace(case.spec, credentials={**case.spec.credentials, **more}))


def _tell(failure: Failure, seen: Counter[str], times: int) -> int:
    awaited = failure.finding.id
    back = seen[awaited]
    if awaited == UNFINISHED:  # it was not seen to its end: whatever keeps it from being ready is what was wrong
        back = times - seen[""]
        print(f"not ready in {back} of {times}")
    else:
        print(f"{awaited}: came back in {back} of {times}{_rate(failure, back, times)}")
    for other, count in seen.items():
        if other != awaited:
            print(f"{other or 'no finding'}: {count} of {times}")
    return _status(failure, back, times)


def _rate(failure: Failure, back: int, times: int) -> str:
    """How often it came in its own run, if that was not each time."""
    if failure.seen == failure.tries:
        return ""
    seen, tries = failure.seen, failure.tries
    return f" ({_between(back, times)}); in its run in {seen} of {tries} ({_between(seen, tries)})"


def _between(count: int, of: int) -> str:
    low, high = share_between(count, of)
    return f"{low:.0%} to {high:.0%}"


def _status(failure: Failure, back: int, times: int) -> int:
    """Whether it came ``back``: what comes and goes does so if it comes as often as it did."""
    if back == times:
        return 1
    if failure.seen == failure.tries:
        return HostError.exit_status if back else 0
    enough = math.ceil(math.log(_MISSED_BY_CHANCE) / math.log(1 - failure.seen / failure.tries))
    if not back and times < enough:
        print(f"too few tries to say that it is gone: --times {enough}")
        return HostError.exit_status
    low, high = share_between(back, times)
    then_low, then_high = share_between(failure.seen, failure.tries)
    if back and low <= then_high and then_low <= high:
        return 1
    return HostError.exit_status if back else 0


_MISSED_BY_CHANCE = 0.05


def case_of(
    opened: Unpacked,
    until: ExitStack,
    store: Store,
    *,
    given: Path | None = None,
    tree: str | None = None,
    images_dir: Path | None = None,
) -> Case:
    """The machine of a bundle, its artifacts from wherever they are: ``given`` is a folder that has them."""
    plan, earlier = opened.bundle.plan, opened.bundle.before
    artifacts = _artifacts(opened, opened.bundle.manifest, store, until, given, tree, images_dir)
    before = _artifacts(opened, earlier, store, until, None, tree, images_dir) if earlier else None
    return Case(
        spec=plan.spec,
        artifacts=artifacts,
        definition=opened.bundle.definition,
        network_faults=plan.network_faults,
        before=before,
        network=plan.network,
        disks=tuple(opened.folder / name if name else None for name in plan.disks),
        variables=opened.folder / UEFI_VARIABLES if UEFI_VARIABLES in opened.bundle.files else None,
        test=opened.bundle.failure.test,
        seed=opened.bundle.failure.seed,
    )


def _case(opened: Unpacked, options: argparse.Namespace, store: Store, until: ExitStack) -> Case:
    case = case_of(
        opened, until, store, given=options.artifacts, tree=tree_name(options.tree), images_dir=options.images_dir
    )
    for change in options.change:
        if opened.bundle.failure.test and change.partition("=")[0] not in _OF_A_TEST:
            raise UsageError(
                f"--change {change}: a test makes its own machine, where only {', '.join(_OF_A_TEST)} can be changed"
            )
        case = _changed(case, change, store)
    return on_this_host(case, store)


def on_this_host(case: Case, store: Store) -> Case:
    """``case`` as it can be brought up here; `UsageError` or `HostError` if it cannot."""
    for name in case.network_faults:
        if network_faults.needs_other_build(network_faults.read(name)):
            raise UsageError(
                f"network fault {name}: the other build is not in the bundle; --change network_faults= leaves it out"
            )
    check_nics(case.spec.nics)
    choice = accelerator.choose("auto", case.artifacts.kernel, store.folder("accelerators"))
    if choice.accelerator is not case.spec.accelerator:
        to_stderr(f"it failed on {case.spec.accelerator}, this host runs it on {choice.accelerator} ({choice.reason})")
    return replace(case, spec=replace(case.spec, accelerator=choice.accelerator))


def _artifacts(
    opened: Unpacked,
    manifest: Manifest,
    store: Store,
    until: ExitStack,
    given: Path | None,
    tree: str | None,
    images_dir: Path | None,
) -> Artifacts:
    """Those of the ``manifest``, by digest, wherever they are."""
    awaited = manifest.digest
    if manifest is opened.bundle.manifest and set(manifest.files) <= set(opened.bundle.files):
        serialization.write(opened.folder / MANIFEST, manifest)
        return _whole(load_artifacts(opened.folder))
    if given:
        there = load_artifacts(given.absolute())
        if there.digest != awaited:
            raise UsageError(f"it failed with artifacts {awaited[:12]}; {given} has {there.digest[:12]}")
        return _whole(there)
    with suppress(UsageError):
        return store.hold(lambda: store.artifacts(awaited), until)
    if tree and (published := _published(tree, manifest, until)):
        return published
    to_stderr(f"artifacts {awaited[:12]} are not at hand: building {manifest.image} {manifest.version}")
    definition = find_definition(manifest.image, images_dir or find_images(Path.cwd()))
    made = store.hold(
        lambda: build(definition, store, version=manifest.version, progress=BuildProgress(to_stderr, definition.name)),
        until,
    )
    if made.digest != awaited:
        raise UsageError(
            f"it failed with artifacts {awaited[:12]}; the definition here makes {made.digest[:12]} of "
            f"{manifest.image} {manifest.version}: check out what made them, or name them by --artifacts"
        )
    return made


def _published(tree: str, manifest: Manifest, until: ExitStack) -> Artifacts | None:
    """Those of a published tree, if it has them: each that a stream carries or did."""
    opened = open_tree(tree, manifest.image, until)
    opened.fetch_digest(manifest.digest)
    folder = opened.tree.artifacts(manifest.digest)
    return _whole(load_artifacts(folder)) if folder.is_dir() else None


def _whole(artifacts: Artifacts) -> Artifacts:
    if said := difference(artifacts):
        raise UsageError(said)
    return artifacts


def _try(opened: Unpacked, case: Case, store: Store, folder: Path, images_dir: Path | None) -> str:
    """The id of what is found, the bundle's first; empty if nothing is."""
    awaited = opened.bundle.failure.finding
    found = attempt(case, store, folder, images_dir)
    if case.test:  # where it was counts, too: its file may have other tests that fail
        return _first(
            [one.id if one.where == awaited.where else f"{one.id} at {one.where}" for one in found], awaited.id
        )
    return _first([one.id for one in found], awaited.id)


def _first(found: list[str], awaited: str) -> str:
    return awaited if awaited in found else next(iter(found), "")


def _changed(case: Case, change: str, store: Store) -> Case:
    key, is_pair, value = change.partition("=")
    make = _CHANGES.get(key)
    if not is_pair or make is None:
        raise UsageError(f"--change {change}: KEY=VALUE with one of {', '.join(_CHANGES)}")
    try:
        return make(case, value, store)
    except (ValueError, BootproofError) as error:
        raise UsageError(f"--change {change}: {error}") from error


def _memory(case: Case, value: str, _: Store) -> Case:
    return replace(case, spec=replace(case.spec, memory_mib=_count(value)))


def _cpus(case: Case, value: str, _: Store) -> Case:
    return replace(case, spec=replace(case.spec, cpus=_count(value)))


def _nic(case: Case, value: str, _: Store) -> Case:
    model = NicModel(value)
    return replace(case, spec=replace(case.spec, nics=tuple(replace(nic, model=model) for nic in case.spec.nics)))


def _boot_path(case: Case, value: str, _: Store) -> Case:
    return replace(case, spec=replace(case.spec, boot_path=BootPath(value), firmware=None))


def _network_faults(case: Case, value: str, _: Store) -> Case:
    names = tuple(filter(None, value.split(",")))
    for name in names:
        network_faults.read(name)
    return replace(case, network_faults=names)


def _argument(case: Case, value: str, _: Store) -> Case:
    return replace(case, arguments=(*case.arguments, *value.split()))


def _disk(case: Case, value: str, _: Store) -> Case:
    """An image of a disk in place of the one with /data, which is opened and not written."""
    path = Path(value).absolute()
    if not path.is_file():
        raise UsageError("there is no such file")
    place = next((place for place, disk in enumerate(case.spec.disks) if disk.role is DiskRole.DATA), None)
    if place is None:
        raise UsageError("the machine has no disk for /data")
    disks = [*case.disks, *[None] * (len(case.spec.disks) - len(case.disks))]
    disks[place] = path
    return replace(case, disks=tuple(disks))


def _delay(case: Case, value: str, _: Store) -> Case:
    unit, _colon, seconds = value.partition(":")
    if not _UNIT.fullmatch(unit):
        raise UsageError("delay=UNIT:SECONDS, such as ssh.service:30")
    lines = f"TimeoutStartSec=infinity\nExecStartPre=sleep {_count(seconds)}"
    return _with_credential(case, f"{unit}~bootproof-delay", lines)


def _other_artifacts(case: Case, value: str, store: Store) -> Case:
    folder = Path(value)
    return replace(case, artifacts=load_artifacts(folder.absolute()) if folder.is_dir() else store.artifacts(value))


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise UsageError("a whole number goes behind the =")
    return int(value)


_OF_A_TEST = ("artifacts", "boot-path", "network-faults")
_CHANGES: dict[str, Callable[[Case, str, Store], Case]] = {
    "artifacts": _other_artifacts,
    "boot-path": _boot_path,
    "cpus": _cpus,
    "delay": _delay,
    "disk": _disk,
    "kernel-argument": _argument,
    "memory": _memory,
    "network-faults": _network_faults,
    "nic": _nic,
}


def made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{folder} is there already; name another --run-dir") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}; name another --run-dir") from error
    return folder

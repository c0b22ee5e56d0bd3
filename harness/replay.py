"""``bootproof replay``: the failure of a bundle, again, here."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness import accelerator, boards, process, record, weather
from harness.artifacts import MANIFEST, Artifacts, Manifest, difference, load_artifacts
from harness.build import build, namespace
from harness.bundle import UNFINISHED, Unpacked, unpack
from harness.checks import BootFailed
from harness.definition import find_definition, find_images
from harness.disks import copy_sparse
from harness.errors import BootproofError, HarnessError, HostError, UsageError
from harness.interactive import attend
from harness.lab import open_lab
from harness.machine import boot
from harness.plan import VARIABLES, Site
from harness.process import CommandFailed
from harness.progress import Lines
from harness.run import Run, make_key
from harness.session import by_hand
from harness.spec import BootPath, DiskFormat, DiskSpec, MachineSpec, NicModel
from harness.store import Store, find_store
from harness.weather import adapted

_UNIT = re.compile(r"[A-Za-z0-9@_.-]+\.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is brought up: a bundle's, or with a thing changed. ``before`` is upgraded to ``artifacts`` by kexec."""

    spec: MachineSpec
    artifacts: Artifacts
    weather: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    before: Artifacts | None = None


def replay(options: argparse.Namespace) -> int:
    if options.times < 1:
        raise UsageError(f"--times {options.times}: at least once")
    store = find_store()
    with ExitStack() as stack:
        folder = stack.enter_context(store.workfolder(remove=namespace.remove))
        opened = unpack(options.bundle, _made(folder / "bundle"))
        _say(f"{options.bundle.name}: {opened.bundle.finding.what} [{opened.bundle.finding.id}]")
        case = _case(opened, options, store, stack)
        if options.shell or options.at:
            return _attend(opened, _stopped(case, options.at), _made(folder / "shell"))
        logs = options.run_dir or folder / "runs"
        seen = Counter[str]()
        for number in range(1, options.times + 1):
            found = _try(opened, case, store, _made(logs.absolute() / f"replay-{number}"), options.images_dir)
            seen[found] += 1
            _say(f"replay {number}: {found or 'nothing was found'}")
        return _tell(opened.bundle.finding.id, seen, options.times)


def _attend(opened: Unpacked, case: Case, folder: Path) -> int:
    """Whoever sits at the terminal looks for himself."""
    spec = replace(case.spec, disks=_disks(opened, case.spec, folder))
    _give_variables(opened, folder)
    known = [weather.read(name) for name in case.weather]
    _say("Ctrl-] ends it")
    with open_lab(folder / "lab", opened.bundle.plan.network, weather=known) as lab:
        attend(adapted(spec, known), case.before or _with_arguments(case), opened.bundle.definition, lab, folder)
    return 0


def _stopped(case: Case, at: str | None) -> Case:
    """``case`` so that it stops there: in dracut's initrd before the root is mounted, or before a unit starts."""
    if at is None:
        return case
    if at == "initrd":
        return replace(case, arguments=(*case.arguments, "rd.break=pre-mount"))
    if not _UNIT.fullmatch(at):
        raise UsageError(f"--at {at}: initrd, or a service such as nova-compute.service")
    waits = {
        f"systemd.unit-dropin.{at}~bootproof-at": "[Service]\nTimeoutStartSec=infinity\nExecStartPre=sleep infinity\n"
    }
    return replace(case, spec=replace(case.spec, credentials={**case.spec.credentials, **waits}))


def _tell(awaited: str, seen: Counter[str], times: int) -> int:
    back = seen[awaited]
    if awaited == UNFINISHED:  # it was not seen to its end: whatever keeps it from being ready is what was wrong
        back = times - seen[""]
        print(f"not ready in {back} of {times}")
    else:
        print(f"{awaited}: came back in {back} of {times}")
    for other, count in seen.items():
        if other != awaited:
            print(f"{other or 'no finding'}: {count} of {times}")
    if back in (0, times):
        return 1 if back else 0
    return HostError.exit_status


def _case(opened: Unpacked, options: argparse.Namespace, store: Store, until: ExitStack) -> Case:
    plan, earlier = opened.bundle.plan, opened.bundle.before
    artifacts = _artifacts(opened, opened.bundle.manifest, options, store, until)
    before = _artifacts(opened, earlier, options, store, until) if earlier else None
    case = Case(spec=plan.spec, artifacts=artifacts, weather=plan.weather, before=before)
    for change in options.change:
        if opened.bundle.test and change.partition("=")[0] not in _OF_A_TEST:
            raise UsageError(
                f"--change {change}: a test makes its own machine, where only {', '.join(_OF_A_TEST)} can be changed"
            )
        case = _changed(case, change, store)
    for name in case.weather:
        if weather.needs_other(weather.read(name)):
            raise UsageError(f"weather {name}: the other build is not in the bundle; --change weather= leaves it out")
    boards.check(case.spec.nics)
    choice = accelerator.choose("auto", case.artifacts.kernel, store.folder("accelerators"))
    if choice.accelerator is not plan.spec.accelerator:
        _say(f"it failed on {plan.spec.accelerator}, this host runs it on {choice.accelerator} ({choice.reason})")
    return replace(case, spec=replace(case.spec, accelerator=choice.accelerator))


def _artifacts(
    opened: Unpacked, manifest: Manifest, options: argparse.Namespace, store: Store, until: ExitStack
) -> Artifacts:
    """Those of the ``manifest``, by digest, wherever they are."""
    awaited, name = manifest.digest, options.bundle
    if manifest is opened.bundle.manifest and set(manifest.files) <= set(opened.bundle.files):
        record.write(opened.folder / MANIFEST, manifest)
        return _whole(load_artifacts(opened.folder))
    if options.artifacts and manifest is opened.bundle.manifest:
        given = load_artifacts(options.artifacts.absolute())
        if given.digest != awaited:
            raise UsageError(
                f"{name} failed with artifacts {awaited[:12]}; {options.artifacts} has {given.digest[:12]}"
            )
        return _whole(given)
    try:
        return store.hold(lambda: store.artifacts(awaited), until)
    except UsageError:
        _say(f"artifacts {awaited[:12]} are not in the store: building {manifest.image} {manifest.version}")
    definition = find_definition(manifest.image, options.images_dir or find_images(Path.cwd()))
    made = store.hold(
        lambda: build(definition, store, version=manifest.version, progress=Lines(_say, definition.name)), until
    )
    if made.digest != awaited:
        raise UsageError(
            f"{name} failed with artifacts {awaited[:12]}; the definition here makes {made.digest[:12]} of "
            f"{manifest.image} {manifest.version}: check out what made them, or name them by --artifacts"
        )
    return made


def _whole(artifacts: Artifacts) -> Artifacts:
    if said := difference(artifacts):
        raise UsageError(said)
    return artifacts


def _try(opened: Unpacked, case: Case, store: Store, folder: Path, images_dir: Path | None) -> str:
    """The id of what is found, the bundle's first; empty if nothing is."""
    if opened.bundle.test:
        return _test_again(opened, case, folder, images_dir)
    run = Run(folder, "main")
    make_key(run, store)
    spec = replace(case.spec, disks=_disks(opened, case.spec, folder))
    _give_variables(opened, _made(folder / spec.name))
    known = [weather.read(name) for name in case.weather]
    with open_lab(folder / "lab", opened.bundle.plan.network, weather=known) as lab:
        site = Site(lab=lab, run=run, slots=store.folder("slots"), by_hand=by_hand)
        try:
            with boot(spec, case.before or _with_arguments(case), opened.bundle.definition, site=site) as machine:
                if case.before:
                    machine.reboot(into=_with_arguments(case))
        except BootFailed as error:
            return error.finding.id
    return _first([finding.id for finding in run.findings()], opened.bundle.finding.id)


def _with_arguments(case: Case) -> Artifacts:
    manifest = case.artifacts.manifest
    changed = replace(manifest, kernel_arguments=(*manifest.kernel_arguments, *case.arguments))
    return replace(case.artifacts, manifest=changed)


def _disks(opened: Unpacked, spec: MachineSpec, folder: Path) -> tuple[DiskSpec, ...]:
    """Copies of the bundle's to write to; blank ones for those that were."""
    made = list[DiskSpec]()
    for number, (disk, name) in enumerate(zip(spec.disks, opened.bundle.plan.disks, strict=True)):
        kind = DiskFormat.QCOW2 if name else DiskFormat.RAW
        path = folder / f"disk{number}.{kind}"
        if name:
            copy_sparse(opened.folder / name, path)
        made.append(
            replace(
                disk,
                path=path,
                format=kind,
                writes=None,
            )
        )
    return tuple(made)


def _give_variables(opened: Unpacked, machine: Path) -> None:
    """UEFI's as they were before, into the folder of the ``machine``."""
    if VARIABLES in opened.bundle.files:
        shutil.copyfile(opened.folder / VARIABLES, machine / VARIABLES)


def _test_again(opened: Unpacked, case: Case, folder: Path, images_dir: Path | None) -> str:
    """By pytest, which makes the machine as it did then; `HarnessError` if the test did not run."""
    bundle, hardware = opened.bundle, case.spec.hardware.partition(":")[0]
    options = {
        "--image": bundle.manifest.image,
        "--artifacts": case.artifacts.folder,
        "--boot-path": case.spec.boot_path,
        "--hardware": hardware,
        "--images-dir": images_dir,
        "--seed": bundle.seed,
        "--run-dir": folder,
    }
    argv = [f"{name}={value}" for name, value in options.items() if value]
    argv += [f"--weather={name}" for name in case.weather]
    log = folder / "pytest.log"
    with suppress(CommandFailed):  # so it does if the test fails
        process.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *argv, bundle.test], log=log)
    for verdict in folder.glob("*/verdict.json"):
        run = Run(verdict.parent, "main")
        if any(event.kind == "result" and event.data["test"] == bundle.test for event in run.events()):
            found = [
                one.id if one.where == bundle.finding.where else f"{one.id} at {one.where}" for one in run.findings()
            ]
            return _first(found, bundle.finding.id)
    said = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
    raise HarnessError(f"{bundle.test} did not run here: {''.join(said)}; replay it in the repository that has it")


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


def _weather(case: Case, value: str, _: Store) -> Case:
    names = tuple(filter(None, value.split(",")))
    for name in names:
        weather.read(name)
    return replace(case, weather=names)


def _argument(case: Case, value: str, _: Store) -> Case:
    return replace(case, arguments=(*case.arguments, *value.split()))


def _other_artifacts(case: Case, value: str, store: Store) -> Case:
    folder = Path(value)
    return replace(case, artifacts=load_artifacts(folder.absolute()) if folder.is_dir() else store.artifacts(value))


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise UsageError("a whole number goes behind the =")
    return int(value)


_OF_A_TEST = ("artifacts", "boot-path", "weather")
_CHANGES: dict[str, Callable[[Case, str, Store], Case]] = {
    "artifacts": _other_artifacts,
    "boot-path": _boot_path,
    "cpus": _cpus,
    "kernel-argument": _argument,
    "memory": _memory,
    "nic": _nic,
    "weather": _weather,
}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

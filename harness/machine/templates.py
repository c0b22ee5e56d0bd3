"""Templates and clones: ready machines, frozen once a host, and running copy-on-write copies of them.

    templates/<key>/    memory  state  disk0.raw …  boot-<n>/  template.json

The key is a digest of all that decides whether a frozen machine can go on here: the artifacts, QEMU's argv and program,
the accelerator, this boot of this host, its CPU, and what was done before freezing. So a template that no longer fits
is never found. One that was altered is known by its files' sizes and times, and made anew. The logs of the boots that
led to it are kept with it: a run that uses it has them in its own folder, whatever became of the run that made it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.core import digest, process, serialization
from harness.core.errors import Blame, BootproofError, HostError
from harness.core.host_id import boot_id, host_identity
from harness.core.locks import lock_folder
from harness.guest.readiness import wait_until_quiet
from harness.guest.serial_shell import SerialChannel
from harness.guest.testinfra_host import gather_facts
from harness.lab import Lab, OpenLab
from harness.machine import states
from harness.machine.boot_plan import FrozenMachine, do_not_hold
from harness.machine.machine import BootContext, Machine, boot, reachable, thaw
from harness.machine.states import State, Versions
from harness.model.artifacts import Artifacts, load_artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Cloned, Frozen
from harness.model.layout import CAPTURE
from harness.model.machine_spec import BootPath, DiskFormat, DiskRole, DiskSpec, MachineSpec, Network
from harness.model.verdict import BootResult, Finding
from harness.qemu import command_line, disk_images, grub
from harness.qemu.snapshot import CannotFreeze
from harness.runs.folder import Run, unwritable
from harness.store.memo import RememberedFailure
from harness.store.store import Store, note_use
from harness.store.template_record import RECORD, Template, discard, evict, stamp

MOST_BYTES = 12 << 30
"""What templates may take of the disk; the least recently used go."""
_CLONE_SHARE = 0.25
"""Of a guest's memory, what a clone takes of the host's until it is known better."""
_MIB = 1 << 20
_WARM = "date -s @$(date +%s); find /data -maxdepth 0; stat /; readlink /bin; systemctl list-units"
"""Programs that each copy needs at once: read from the image, and unpacked, before freezing."""


class StateFailed(BootproofError):
    """``state`` could not be reached before in this run, as ``said``; whose doing it was is ``blame``."""

    def __init__(self, state: str, said: str, blame: Blame) -> None:
        super().__init__(state, said, blame)
        self.state, self.said, self.blame = state, said, blame

    def __str__(self) -> str:
        return f"the state {self.state!r} was not reached, and is not tried again in this run: {self.said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """The templates of one image in one run, or in one ``repeat`` of it. ``spec`` is what all machines have in common;
    ``clone_mib``, what a clone takes of the host's memory as earlier runs saw it, may be 0."""

    definition: ImageDefinition
    versions: Versions
    spec: MachineSpec
    network: Network
    run: Run
    store: Store
    open_lab: OpenLab
    by_hand: Callable[..., str]
    keep: Callable[[Machine], None] = do_not_hold
    keeps_memory: bool = False
    network_faults: tuple[str, ...] = ()
    clone_mib: int = 0
    repeat: str = ""

    @contextmanager
    def machine(self, state: str, name: str, *, lab: Lab, folder: Path) -> Iterator[Machine]:
        """A running machine in that state: a clone or, where that is impossible, booted and brought there.

        Its disks are made in ``folder``. Raises `StateFailed` where the state was not reached before in this run.
        """
        way = states.path_to(state)
        with ExitStack() as stack:
            try:
                template = self._held(way, stack)
                machine = stack.enter_context(self._thawed(template, name, lab, folder))
            except CannotFreeze as error:
                stack.close()
                self._remember_failure(self._key(way), error, is_only_unfrozen=True)
                self.run.add_note(f"{name} is booted, not cloned: {error}")
                machine = stack.enter_context(self._booted(way, name, lab, folder))
            yield machine

    @contextmanager
    def _thawed(
        self, template: Template, name: str, lab: Lab, folder: Path, memory: Path | None = None
    ) -> Iterator[Machine]:
        started_s = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        overlays = tuple(_overlay(disk, folder / f"{disk.path.stem}.qcow2") for disk in template.spec.disks)
        spec = replace(template.spec, name=name, disks=overlays)
        host_memory_mib = self.clone_mib or int(spec.memory_mib * _CLONE_SHARE)
        frozen, artifacts = _frozen(template, host_memory_mib), load_artifacts(template.artifacts)
        context = replace(self._context(lab), doubt=template.alteration)
        with thaw(frozen, spec, artifacts, self.definition, context=context, memory=memory) as machine:
            machine.facts = template.facts
            machine.offers = tuple(map(load_artifacts, template.offers)) or machine.offers
            took_s = time.monotonic() - started_s
            try:
                yield machine
            except Exception as error:
                if said := template.alteration():
                    raise HostError(f"{said} while a clone of it ran") from error
                raise
            finally:
                self._note_clone(machine, template.state, took_s)
                self._note_alteration(template, name)

    def _note_alteration(self, template: Template, name: str) -> None:
        if said := template.alteration():
            self.run.add_finding(
                Finding(
                    id="template-altered",
                    what=f"{said} while a clone of it ran",
                    where=name,
                    blame=Blame.HOST,
                    cause="somebody else works in the store; what the clone showed may be wrong",
                )
            )

    def _note_clone(self, machine: Machine, state: str, took_s: float) -> None:
        mib = process.private_mib(machine.power.child.pid) if machine.is_on and machine.is_clone else None
        self.run.add(Cloned(machine=machine.name, state=state, took_s=round(took_s, 3), mib=mib))

    @contextmanager
    def _booted(
        self, way: tuple[State, ...], name: str, lab: Lab, folder: Path, memory: Path | None = None
    ) -> Iterator[Machine]:
        spec = replace(self.spec, name=name, uuid=uuid.uuid4(), disks=_blank(self.spec.disks, folder))
        artifacts = self._first(way[0])
        with boot(spec, artifacts, self.definition, context=self._context(lab), memory=memory) as machine:
            for state in way[1:]:
                self._reach(state, machine)
            yield machine

    def _first(self, state: State) -> Artifacts:
        return self.versions.old if state.name == states.PREVIOUS else self.versions.under_test

    def _reach(self, state: State, machine: Machine) -> None:
        assert state.reach is not None
        state.reach(machine, self.versions)

    def _context(self, lab: Lab) -> BootContext:
        slots = self.store.folder("slots")
        return BootContext(
            lab=lab, run=self.run, slots=slots, by_hand=self.by_hand, keep=self.keep, keeps_memory=self.keeps_memory
        )

    # Which template

    def _key(self, way: tuple[State, ...]) -> str:
        """All that decides whether the frozen machine fits."""
        artifacts = self._first(way[0])
        placeholders = tuple(replace(disk, path=Path(f"disk{n}")) for n, disk in enumerate(self.spec.disks))
        spec = reachable(replace(self.spec, name="", uuid=uuid.UUID(int=0), disks=placeholders), self.run)
        program = Path(process.require(command_line.PROGRAM, "qemu-system-x86"))
        wires = command_line.QemuSockets(netdevs=(self.network,) * len(spec.nics), tpm_fd=0 if spec.has_tpm else None)
        argv = command_line.command(spec, program=str(program), sockets=wires, clock=spec.clock or "utc")
        argv += [f"{disk.role} {disk.size_gib}" for disk in spec.disks]
        definition = self.definition
        surroundings = [spec.boot_path, *self.network_faults]
        steps = [[state.name, state.source, self.versions.old.digest, self.versions.new.digest] for state in way[1:]]
        demanded = [*definition.services, *definition.sockets, "", *definition.waiting]
        demanded += ["", str(self.run.folder), self.repeat] if self.repeat else []
        binary = [program.stat().st_size, program.stat().st_mtime_ns]
        return digest.of_value(
            [_own_digest(), artifacts.digest, argv, binary, host_identity(), surroundings, demanded, steps]
        )

    def _held(self, way: tuple[State, ...], until: ExitStack) -> Template:
        """The template of the last state on the way, made if there is none, and kept from eviction ``until`` then."""
        if self.spec.unfreezable:
            raise CannotFreeze(self.spec.unfreezable)
        key = self._key(way)
        while True:
            self._raise_known_failure(key, way[-1])
            if template := self._found(key, until):
                self._note_reuse(template)
                with suppress(OSError):
                    evict(self.store, MOST_BYTES)
                return template
            with self.store.locked(f"template-{key[:16]}"):
                self._raise_known_failure(key, way[-1])
                if not (self._place(key) / RECORD).exists():
                    self._try_to_make(key, way)

    def _note_reuse(self, template: Template) -> None:
        """A boot that an earlier run made, on this host and with these artifacts, counts in this run's verdict."""
        folder = self.run.folder / "states"
        try:
            folder.mkdir(exist_ok=True)
            (folder / f"{template.folder.name}.used").touch(exist_ok=False)
        except OSError:  # it is noted already, or there is no room: then the boots are missing, which never passes
            return
        if template.run != self.run.folder:
            self.run.add_note(f"state {template.state}: frozen by an earlier run, {template.run}")
            for boot in template.boots:
                self.run.add_boot(self._with_own_logs(boot, template))

    def _with_own_logs(self, boot: BootResult, template: Template) -> BootResult:
        """The boot of an earlier run, its logs in the folder of this one."""
        logs = self.run.folder / boot.machine / f"boot-{boot.number}"
        try:
            shutil.copytree(template.folder / logs.name, logs, dirs_exist_ok=True)
        except OSError as error:
            raise unwritable(self.run.folder, error) from error
        return replace(boot, run=str(template.run), console=str(logs / "console.log"))

    def _place(self, key: str) -> Path:
        return self.store.folder("templates") / key

    def _found(self, key: str, until: ExitStack) -> Template | None:
        folder = self._place(key)
        descriptor = lock_folder(folder, is_shared=True)
        if descriptor is None:
            return None
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            try:
                template = serialization.read(Template, folder / RECORD)
                flaw = template.alteration()
            except (OSError, ValueError) as error:
                flaw = str(error)
            if not flaw:
                note_use(folder)
                until.push(stack.pop_all())
                return template
        if not discard(self.store, folder):
            raise CannotFreeze(f"its template is of no use ({flaw}), but still used by another machine")
        return None

    # Making one

    def _try_to_make(self, key: str, way: tuple[State, ...]) -> None:
        try:
            self._make(key, way)
        except CannotFreeze as error:
            self._remember_failure(key, error, is_only_unfrozen=True)
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pytest.fail() in a state's function is no Exception
            self._remember_failure(key, error, is_only_unfrozen=False)
            raise

    def _make(self, key: str, way: tuple[State, ...]) -> None:
        self._check_room()
        name = "-".join(("template", way[-1].name, *filter(None, [self.repeat])))
        with self.store.workfolder() as work, ExitStack() as stack:
            folder = work / "template"
            folder.mkdir()
            lab = stack.enter_context(self.open_lab(self.run.folder / name / "lab"))
            machine = stack.enter_context(self._to_be_frozen(way, name, lab, folder))
            wait_until_quiet(machine.channel)
            machine.run(_WARM)
            facts = gather_facts(name, machine.channel)
            is_serial = isinstance(machine.channel, SerialChannel)
            started_s = time.monotonic()
            machine.freeze(folder / "state")
            is_grub = machine.spec.boot_path is BootPath.GRUB
            if is_grub:
                grub.keep(machine.folder, folder)
            self.run.add(Frozen(state=way[-1].name, took_s=round(time.monotonic() - started_s, 3)))
            template = Template(
                folder=self._place(key),
                image=self.definition.name,
                version=machine.artifacts.manifest.version,
                boot_id=boot_id(),
                state=way[-1].name,
                spec=replace(
                    machine.spec, name="", disks=tuple(_settled(disk, self._place(key)) for disk in machine.spec.disks)
                ),
                artifacts=machine.artifacts.folder,
                run=self.run.folder,
                is_serial=is_serial,
                boots=tuple(boot for boot in self.run.boots() if boot.machine == name and boot.number >= machine.first),
                facts=facts,
                files={},
                offers=tuple(offer.folder for offer in machine.offers) if is_grub else (),
            )
            for boot in template.boots:
                logs = Path(boot.console).parent
                shutil.copytree(logs, folder / logs.name, ignore=shutil.ignore_patterns(CAPTURE))
            self._publish(folder, template)

    @contextmanager
    def _to_be_frozen(self, way: tuple[State, ...], name: str, lab: Lab, folder: Path) -> Iterator[Machine]:
        """A machine in the last state on the way, which has its memory in ``folder``."""
        memory = folder / "memory"
        if len(way) == 1:
            with self._booted(way, name, lab, folder, memory) as machine:
                yield machine
            return
        with ExitStack() as stack:
            parent = self._held(way[:-1], stack)
            disk_images.copy_sparse(parent.folder / "memory", memory)
            machine = stack.enter_context(self._thawed(parent, name, lab, folder, memory))
            self._reach(way[-1], machine)
            yield machine

    def _check_room(self) -> None:
        """A machine whose memory finds no room on disk is killed by SIGBUS, which nobody would understand."""
        free_mib = shutil.disk_usage(self.store.root).free >> 20
        needed_mib = self.spec.memory_mib + 512
        if free_mib < needed_mib:
            raise CannotFreeze(f"freezing needs {needed_mib} MiB below {self.store.root}, {free_mib} MiB are free")

    def _publish(self, folder: Path, template: Template) -> None:
        """From a work folder to its place. No fsync: after a crash the host has another boot id and no key is found."""
        files = sorted(file for file in folder.iterdir() if file.is_file())
        for file in files:
            file.chmod(0o600 if file.name == "memory" else 0o400)  # QEMU 7.2 opens memory for writing, and only maps it
        template = replace(template, files={file.name: stamp(file) for file in files})
        serialization.write(folder / RECORD, template)
        folder.rename(template.folder)

    # What is remembered for the rest of the run

    def _remember_failure(self, key: str, error: BaseException, *, is_only_unfrozen: bool) -> None:
        failure = RememberedFailure.of(error, is_only_unfrozen=is_only_unfrozen)
        with suppress(OSError, HostError), self.store.locked(f"failure-{key[:16]}"):  # a full disk: it is tried again
            folder = self.run.folder / "states"
            folder.mkdir(exist_ok=True)
            serialization.write(folder / f"{key}.json", failure)

    def _raise_known_failure(self, key: str, state: State) -> None:
        try:
            failure = serialization.read(RememberedFailure, self.run.folder / "states" / f"{key}.json")
        except (FileNotFoundError, ValueError, json.JSONDecodeError):
            return
        if failure.is_only_unfrozen:
            raise CannotFreeze(failure.said)
        raise StateFailed(state.name, failure.said, failure.blame)


@cache
def _own_digest() -> str:
    """Other boot checks, another lab or another shell make another template."""
    return digest.of_package(Path(__file__).parents[1], without="suite")


def _frozen(template: Template, host_memory_mib: int) -> FrozenMachine:
    return FrozenMachine(
        memory=template.folder / "memory",
        state=template.folder / "state",
        is_serial=template.is_serial,
        host_memory_mib=host_memory_mib,
        boot_disk=template.folder if template.offers else None,
    )


def _blank(blueprint: tuple[DiskSpec, ...], folder: Path) -> tuple[DiskSpec, ...]:
    """Their images, where they are to be blank; those of others are made with the machine."""
    placed = tuple(replace(disk, path=folder / f"disk{n}.raw") for n, disk in enumerate(blueprint))
    for disk in placed:
        if disk.role is DiskRole.DATA:
            disk_images.make_disk(disk.path, disk.serial)
    return placed


def _overlay(disk: DiskSpec, path: Path) -> DiskSpec:
    disk_images.make_overlay(path, disk.path, base_format=disk.format)
    return replace(disk, path=path, format=DiskFormat.QCOW2)


def _settled(disk: DiskSpec, place: Path) -> DiskSpec:
    """A template stands on no other: what an overlay shows is written out."""
    raw = disk.path.with_suffix(".raw")
    if disk.format is not DiskFormat.RAW:
        disk_images.flatten(disk.path, raw)
        disk.path.unlink()
    return replace(disk, path=place / raw.name, format=DiskFormat.RAW)

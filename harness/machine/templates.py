"""Machines in a known state: booted once a host, frozen, and cloned for each test that asks.

The key of a template is a digest of everything that decides whether a frozen machine can continue here: the artifacts,
QEMU's program and command line, the accelerator, this boot of this host, its CPU, and what was done before freezing.
A template that no longer fits is therefore never found.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.core import digest
from harness.core.host_id import host_identity
from harness.lab import Lab, OpenLab
from harness.machine import states
from harness.machine.boot_plan import BootContext, reachable
from harness.machine.clone import clone, make_template
from harness.machine.machine import Machine, boot
from harness.machine.states import State, Versions
from harness.machine.template_store import TemplateStore
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.layout import TEMPLATE
from harness.model.machine_spec import BootPath, DiskRole, DiskSpec, MachineSpec, Network
from harness.model.qemu import Qemu
from harness.qemu import command_line, disk_images, program
from harness.qemu.snapshot import CannotFreeze
from harness.store.template_record import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSpec:
    """What the templates of one image have in common in one run.

    ``machine`` is the machine on paper, without name and with disks that have no image yet. ``repeat`` names the
    repetition of the tests (``--repeat``) that has templates of its own, empty if there is one. ``clone_mib`` is what a
    clone takes of the host's memory, as earlier runs measured; 0 if none did. ``label`` tells the machines that become
    templates from those of other `Templates` of the run.
    """

    definition: ImageDefinition
    versions: Versions
    machine: MachineSpec
    network: Network
    network_faults: tuple[str, ...] = ()
    clone_mib: int = 0
    repeat: str = ""
    label: str = ""

    def first_artifacts(self, state: State) -> Artifacts:
        """What a machine boots that begins in ``state``."""
        return self.versions.old if state.name == states.PREVIOUS else self.versions.under_test


def leave_as_it_is(_: Machine) -> None:
    """For templates whose clones are asked nothing in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Makes machines in a known state. ``context_of`` says where the machines of a lab run; ``open_lab`` opens the labs
    in which templates are made. ``warm_up`` asks a machine what each of its clones is asked, before it is frozen: a
    service that takes long for its first answer has that answer ready in every clone."""

    spec: TemplateSpec
    store: TemplateStore
    open_lab: OpenLab
    context_of: Callable[[Lab], BootContext]
    warm_up: Callable[[Machine], None] = leave_as_it_is

    def second(self, boot_path: BootPath) -> Templates:
        """Those of another machine, which can be in one lab with a machine of these and boots by ``boot_path``."""
        machine = replace(self.spec.machine, number=1, boot_path=boot_path)
        return replace(self, spec=replace(self.spec, machine=machine, label=f"second-{boot_path}"))

    @contextmanager
    def machine(self, state: str, name: str, *, lab: Lab, folder: Path) -> Iterator[Machine]:
        """A running machine in that state: a clone or, where the machine cannot be frozen, one that was booted.

        Its disks are made in ``folder``. Raises `StateFailed` if the state was not reached earlier in this run.
        """
        with ExitStack() as stack:
            try:
                template = self.hold(state, stack)
                machine = stack.enter_context(self._clone(template, name, lab, folder))
            except CannotFreeze as error:
                stack.close()
                self.store.remember_failure(self.key(state), error, is_only_unfrozen=True)
                self.store.run.add_note(f"{name} is booted, not cloned: {error}")
                machine = stack.enter_context(self._booted(states.path_to(state), name, lab, folder))
            yield machine

    def key(self, state: str) -> str:
        """The key of the template of ``state`` on this host."""
        return template_key(self.spec, states.path_to(state), self.store)

    def hold(self, state: str, until: ExitStack) -> Template:
        """The template of ``state``, made if there is none, and not evicted before ``until`` closes."""
        if self.spec.machine.unfreezable:
            raise CannotFreeze(self.spec.machine.unfreezable)
        path, key = states.path_to(state), self.key(state)
        return self.store.hold(key, state, lambda: self._make(path, key), until)

    def _make(self, path: tuple[State, ...], key: str) -> None:
        self.store.check_room(self.spec.machine.memory_mib)
        name = TEMPLATE + "-".join(filter(None, [path[-1].name, self.spec.label, self.spec.repeat]))
        with self.store.store.workfolder() as work, ExitStack() as stack:
            folder = work / "template"
            folder.mkdir()
            lab = stack.enter_context(self.open_lab(self.store.run.folder / name / "lab"))
            machine = stack.enter_context(self._freezable(path, name, lab, folder))
            self.warm_up(machine)
            template = make_template(machine, path[-1].name, folder, self.store.folder(key))
            self.store.publish(folder, template)

    @contextmanager
    def _freezable(self, path: tuple[State, ...], name: str, lab: Lab, folder: Path) -> Iterator[Machine]:
        """A machine in the last state of ``path`` whose memory is in ``folder``: booted, or a clone of the state
        before."""
        memory = folder / "memory"
        if len(path) == 1:
            with self._booted(path, name, lab, folder, memory) as machine:
                yield machine
            return
        with ExitStack() as stack:
            parent = self.hold(path[-2].name, stack)
            disk_images.copy_sparse(parent.folder / "memory", memory)
            machine = stack.enter_context(self._clone(parent, name, lab, folder, memory))
            path[-1].bring(machine, self.spec.versions)
            yield machine

    def _clone(
        self, template: Template, name: str, lab: Lab, folder: Path, memory: Path | None = None
    ) -> AbstractContextManager[Machine]:
        definition, context, host_memory_mib = self.spec.definition, self.context_of(lab), self.spec.clone_mib
        return clone(
            template, name, definition, context=context, folder=folder, memory=memory, host_memory_mib=host_memory_mib
        )

    @contextmanager
    def _booted(
        self, path: tuple[State, ...], name: str, lab: Lab, folder: Path, memory: Path | None = None
    ) -> Iterator[Machine]:
        disks = _blank(self.spec.machine.disks, folder)
        spec = replace(self.spec.machine, name=name, uuid=uuid.uuid4(), disks=disks)
        artifacts = self.spec.first_artifacts(path[0])
        with boot(spec, artifacts, self.spec.definition, context=self.context_of(lab), memory=memory) as machine:
            for state in path[1:]:
                state.bring(machine, self.spec.versions)
            yield machine


def template_key(
    spec: TemplateSpec,
    path: tuple[State, ...],
    store: TemplateStore,
    *,
    host: Sequence[str] | None = None,
    qemu: Qemu | None = None,
) -> str:
    """The key of the template at the end of ``path``.

    ``host`` stands for this boot of this host (`host_identity`), ``qemu`` for the QEMU that is used.
    """
    machine, definition, run = spec.machine, spec.definition, store.run
    placeholders = tuple(replace(disk, path=Path(f"disk{n}")) for n, disk in enumerate(machine.disks))
    machine = reachable(replace(machine, name="", uuid=uuid.UUID(int=0), disks=placeholders), run)
    qemu = qemu or program.in_use()
    binary = Path(qemu.program).stat()
    sockets = command_line.QemuSockets(
        netdevs=(spec.network,) * len(machine.nics), tpm_fd=0 if machine.has_tpm else None
    )
    argv = command_line.command(machine, qemu=qemu, sockets=sockets, clock=machine.clock or "utc")
    argv += [f"{disk.role} {disk.size_gib}" for disk in machine.disks]
    steps = [[state.name, state.source, spec.versions.old.digest, spec.versions.new.digest] for state in path[1:]]
    demanded = [*definition.services, *definition.sockets, "", *definition.waiting]
    demanded += ["", str(run.folder), spec.repeat] if spec.repeat else []
    return digest.of_value(
        [
            _own_digest(),
            spec.first_artifacts(path[0]).digest,
            argv,
            [binary.st_size, binary.st_mtime_ns],
            list(host or host_identity()),
            [machine.boot_path, *spec.network_faults],
            demanded,
            steps,
        ]
    )


@cache
def _own_digest() -> str:
    """Other boot checks, another lab or another shell make another template."""
    return digest.of_package(Path(__file__).parents[1], without="suite")


def _blank(disks: tuple[DiskSpec, ...], folder: Path) -> tuple[DiskSpec, ...]:
    """The ``disks`` with images in ``folder``: the data disk blank, the others made together with the machine."""
    placed = tuple(replace(disk, path=folder / f"disk{n}.raw") for n, disk in enumerate(disks))
    for disk in placed:
        if disk.role is DiskRole.DATA:
            disk_images.make_disk(disk.path, disk.serial)
    return placed

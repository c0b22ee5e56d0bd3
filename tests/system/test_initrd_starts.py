"""Boots that begin in the initrd, with a real machine: what they find is what a boot from power-on finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.lab import Lab, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.confirm import confirm
from harness.machine.errors import BootFailed
from harness.machine.initrd_templates import start_in_initrd
from harness.machine.machine import Machine, boot
from harness.machine.states import Versions
from harness.machine.template_store import TemplateStore
from harness.machine.templates import Templates, TemplateSpec
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.events import Note
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec, Network
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run, make_key
from harness.store.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for this module; its template is made by the first test that needs one."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def templates(
    tmp_path: Path, store: Store, spec: MachineSpec, base: ImageDefinition, artifacts: Artifacts
) -> Templates:
    run = Run(tmp_path, "main")
    make_key(run, store)

    def context_of(lab: Lab) -> BootContext:
        return BootContext(lab=lab, run=run, slots=store.folder("slots"))

    return Templates(
        spec=TemplateSpec(
            definition=base,
            versions=Versions(artifacts, artifacts, artifacts, artifacts),
            machine=replace(spec, boot_path=BootPath.IPXE_BIOS),
            network=Network.LAB,
        ),
        store=TemplateStore(store=store, run=run),
        open_lab=open_lab,
        context_of=context_of,
    )


@contextmanager
def machine_of(
    templates: Templates, name: str, *disks: DiskSpec, from_power_on: bool = False, run: Run | None = None
) -> Iterator[Machine]:
    """A machine that is off; its first boot begins in the initrd, or ``from_power_on``."""
    folder = templates.store.run.folder / f"{name}-disks"
    with ExitStack() as stack:
        lab = stack.enter_context(open_lab(folder / "lab"))
        spec = replace(templates.spec.machine, name=name, disks=disks)
        start = None
        if not from_power_on:
            spec, start = start_in_initrd(templates, spec, lab, stack)
        artifacts, context = templates.spec.versions.under_test, templates.context_of(lab)
        context = replace(context, run=run or context.run)
        yield stack.enter_context(
            boot(spec, artifacts, templates.spec.definition, context=context, power=False, start=start)
        )


def test_a_boot_begins_in_the_initrd_with_its_own_disk_and_the_next_one_at_power_on(
    templates: Templates, tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "own.raw", "OWN")
    with machine_of(templates, "machine", disk) as machine:
        machine.power_on()
        assert machine.running_boot.plan.begins_in_initrd
        assert machine.check("lsblk -dno SERIAL /dev/sda") == "OWN"
        machine.check("echo kept >/data/kept && sync /data/kept")
        assert abs(float(machine.check("date +%s")) - time.time()) < 30, "its clock is that of the freeze"
        machine.reboot()
        assert not machine.running_boot.plan.begins_in_initrd
        assert machine.check("cat /data/kept") == "kept"

    boots = [boot for boot in templates.store.run.boots() if boot.machine == "machine"]
    assert [boot.begins for boot in boots] == ["initrd", ""]
    assert next(iter(boots[0].phases)) == "initrd"
    assert [boot.is_ordinary for boot in boots] == [False, True]


def test_a_disk_that_cannot_be_used_is_found_as_from_power_on(templates: Templates, tmp_path: Path) -> None:
    seen = list[str]()
    for name, places in (("absent", ()), ("read-only", ("own.raw",))):
        disks = [replace(make_disk(tmp_path / place, "OWN"), read_only=True) for place in places]
        with machine_of(templates, name, *disks) as machine, pytest.raises(BootFailed) as caught:
            machine.power_on()
        assert machine.context.run.boots()[-1].begins == "initrd"
        seen.append(caught.value.finding.id)

    assert seen == ["persist-failed"] * 2


def test_a_template_that_cannot_be_loaded_means_a_boot_from_power_on_and_a_note(
    templates: Templates, tmp_path: Path, store: Store
) -> None:
    disk = make_disk(tmp_path / "own.raw", "OWN")
    with machine_of(templates, "machine", disk) as machine:
        (state,) = store.folder("templates").glob("*/state")
        state.chmod(0o600)
        state.write_bytes(state.read_bytes()[:1000])

        machine.power_on()

        assert not machine.running_boot.plan.begins_in_initrd
        machine.check("mountpoint /data")
    notes = [note.text for note in templates.store.run.of_kind(Note)]
    assert any(note.startswith("machine boots from power-on: ") for note in notes), notes


def test_what_fails_only_when_begun_in_the_initrd_is_not_the_images(templates: Templates, tmp_path: Path) -> None:
    def examine(make: Callable[..., AbstractContextManager[Machine]], run: Run, folder: Path) -> None:
        with make(disk := make_disk(folder / "own.raw", "OWN"), run=run) as machine:
            if machine.context.run is not templates.store.run:
                disk.path.unlink()
                disk.path.touch()  # a fault that only boots begun in the initrd have: an empty disk
            machine.power_on()

    (tmp_path / "cut").mkdir()
    run = templates.store.run
    confirm(
        examine,
        in_initrd=partial(machine_of, templates, "machine"),
        from_power_on=partial(machine_of, templates, "machine", from_power_on=True),
        run=run,
        folder=tmp_path / "cut",
    )

    assert [(finding.id, finding.blame) for finding in run.findings()] == [("initrd-start-differs", Blame.HARNESS)]
    assert [(boot.number, boot.begins) for boot in run.boots() if boot.machine == "machine"] == [(2, "")]

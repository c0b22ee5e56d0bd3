"""Templates in the store, without a machine."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import Blame, ImageError
from harness.core.host_id import boot_id
from harness.core.locks import lock_folder
from harness.machine.states import Versions, path_to
from harness.machine.template_store import StateFailed, TemplateStore
from harness.machine.templates import TemplateSpec, template_key
from harness.model.artifacts import Artifacts
from harness.model.definition import load_definition
from harness.model.machine_spec import Accelerator, BootPath, MachineSpec, Network
from harness.model.qemu import Qemu, Thread
from harness.qemu.snapshot import CannotFreeze
from harness.runs.folder import Run, make_key
from harness.store.inventory import StoreKind, survey
from harness.store.prune import Rules, prune
from harness.store.store import Store
from harness.store.template_record import RECORD, Template, evict, stamp

from ... import samples

MIB = 1 << 20
BASE = load_definition(Path(__file__).parents[3] / "images" / "base")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, name: str, *, age_s: float = 0, boot: str | None = None) -> Template:
    """A template of one MiB that was last used ``age_s`` seconds ago."""
    folder = store.folder("templates") / name
    folder.mkdir()
    (folder / "state").write_bytes(os.urandom(MIB))
    template = Template(
        folder=folder,
        image="base",
        version="1",
        boot_id=boot or boot_id(),
        state="booted",
        spec=MachineSpec(name="", uuid=uuid.uuid4(), boot_path=BootPath.DIRECT),
        artifacts=Path("/artifacts"),
        run=Path("/run"),
        is_serial=True,
        boots=(),
        facts={"uname -s": (0, "Linux\n")},
        files={"state": stamp(folder / "state")},
    )
    serialization.write(folder / RECORD, template)
    os.utime(folder, (time.time() - age_s,) * 2)
    return template


def names(store: Store) -> set[str]:
    return {folder.name for folder in (store.root / "templates").iterdir()}


def test_a_template_reads_back_equal(store: Store) -> None:
    template = add(store, "one")

    assert serialization.read(Template, template.folder / RECORD) == template


@pytest.mark.parametrize("change", ["touch", "cut", "remove"])
def test_an_alteration_of_its_files_is_seen(store: Store, change: str) -> None:
    template = add(store, "one")
    file = template.folder / "state"
    assert template.alteration() == ""

    if change == "touch":
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    elif change == "cut":
        stamp = file.stat()
        os.truncate(file, 100)
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    else:
        file.unlink()

    assert str(file) in template.alteration()


def test_the_least_recently_used_are_evicted_and_those_in_use_stay(store: Store) -> None:
    for name, age_s in (("old-but-used", 300), ("old", 200), ("older-than-new", 100), ("new", 0)):
        add(store, name, age_s=age_s)
    held = lock_folder(store.root / "templates" / "old-but-used", is_shared=True)
    assert held is not None

    evict(store, 3 * MIB + MIB // 2)

    assert names(store) == {"old-but-used", "older-than-new", "new"}
    os.close(held)


def test_the_store_lists_templates_and_prunes_those_that_no_run_will_use(store: Store) -> None:
    add(store, "good")
    add(store, "of-another-boot", boot="another")
    altered = add(store, "altered")
    (altered.folder / "state").write_bytes(b"")
    (add(store, "unreadable").folder / RECORD).write_text("{}")

    kept = [kept for kept in survey(store).items if kept.kind is StoreKind.TEMPLATE]
    prune(store, Rules())

    assert sorted(bool(one.why_stale) for one in kept) == [False, True, True, True]
    assert next(one for one in kept if not one.why_stale).name == "booted, direct"
    assert names(store) == {"good"}


@pytest.fixture
def templates(store: Store, tmp_path: Path) -> TemplateStore:
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run", "main")
    make_key(run, store)
    return TemplateStore(store=store, run=run)


def test_a_held_template_is_made_once_and_not_evicted_while_it_is_held(templates: TemplateStore) -> None:
    made = []

    def make() -> None:
        made.append(add(templates.store, "key"))

    with ExitStack() as stack:
        first = templates.hold("key", "booted", make, stack)
        second = templates.hold("key", "booted", make, stack)
        evict(templates.store, 0)

        assert first == second == made[0]
        assert names(templates.store) == {"key"}
    evict(templates.store, 0)
    assert names(templates.store) == set()


def test_templates_beyond_the_limit_are_evicted_when_one_is_held(templates: TemplateStore) -> None:
    small = TemplateStore(store=templates.store, run=templates.run, most_bytes=MIB + MIB // 2)
    add(templates.store, "old", age_s=100)

    def make() -> None:
        add(templates.store, "key")

    with ExitStack() as stack:
        small.hold("key", "booted", make, stack)

    assert names(templates.store) == {"key"}


def test_an_altered_template_is_not_found_and_is_removed(templates: TemplateStore) -> None:
    (add(templates.store, "key").folder / "state").write_bytes(b"")

    with ExitStack() as stack:
        assert templates.find("key", stack) is None
    assert names(templates.store) == set()


def test_an_altered_template_that_is_in_use_cannot_be_replaced(templates: TemplateStore) -> None:
    template = add(templates.store, "key")
    with ExitStack() as stack:
        templates.find("key", stack)
        (template.folder / "state").write_bytes(b"")

        with pytest.raises(CannotFreeze, match=r"damaged .*state was altered.*another machine still uses it"):
            templates.find("key", stack)


def test_a_state_that_failed_is_not_tried_again_in_the_run(templates: TemplateStore) -> None:
    tried = []

    def make() -> None:
        tried.append(True)
        raise ImageError("mkfs ended with status 1")

    with ExitStack() as stack:
        with pytest.raises(ImageError, match="mkfs"):
            templates.hold("key", "with-volume", make, stack)
        with pytest.raises(StateFailed, match=r"'with-volume' was not reached, and is not tried again.*mkfs") as again:
            templates.hold("key", "with-volume", make, stack)

    assert again.value.blame is Blame.IMAGE
    assert len(tried) == 1


def test_a_machine_that_cannot_be_frozen_is_remembered_as_such(templates: TemplateStore) -> None:
    def make() -> None:
        raise CannotFreeze("an NVMe disk")

    with ExitStack() as stack:
        for _ in range(2):
            with pytest.raises(CannotFreeze, match="an NVMe disk"):
                templates.hold("key", "booted", make, stack)


def test_a_store_without_room_for_a_guests_memory_freezes_nothing(templates: TemplateStore) -> None:
    templates.store.folder("templates")

    with pytest.raises(CannotFreeze, match=r"freezing needs 10737.* MiB below .*store.*, [0-9]+ MiB are free"):
        templates.check_room(1 << 30)


def test_a_published_template_is_found_with_the_stamps_of_its_files(templates: TemplateStore) -> None:
    template = add(templates.store, "work")
    (template.folder / RECORD).unlink()
    published = replace(template, folder=templates.folder("key"), files={})
    templates.publish(template.folder, published)

    with ExitStack() as stack:
        found = templates.find("key", stack)

    assert found is not None
    assert set(found.files) == {"state"}
    assert (found.folder / "state").stat().st_mode & 0o777 == 0o400


# Keys


def key_of(store: TemplateStore, artifacts: Artifacts, qemu: Qemu, accelerator: Accelerator = Accelerator.TCG) -> str:
    machine = MachineSpec(name="m", uuid=uuid.uuid4(), boot_path=BootPath.DIRECT, accelerator=accelerator)
    versions = Versions(artifacts, artifacts, artifacts, artifacts)
    spec = TemplateSpec(definition=BASE, versions=versions, machine=machine, network=Network.USER)
    return template_key(spec, path_to("booted"), store, host=["one boot"], qemu=qemu)


@pytest.fixture
def qemu(tmp_path: Path) -> Qemu:
    """The program is only looked at."""
    (tmp_path / "qemu").write_bytes(b"one")
    return Qemu(program=str(tmp_path / "qemu"), version="10.0.2", reason="the first on PATH")


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return samples.artifacts(tmp_path / "artifacts", "1", lines=10)


def test_the_same_machine_on_paper_has_the_same_key(templates: TemplateStore, artifacts: Artifacts, qemu: Qemu) -> None:
    """Whatever its name and UUID, and whatever QEMU was chosen for."""
    same = replace(qemu, reason="named by --qemu")

    assert key_of(templates, artifacts, qemu) == key_of(templates, artifacts, same)


def test_a_machine_frozen_under_one_accelerator_is_not_found_under_another(
    templates: TemplateStore, artifacts: Artifacts, qemu: Qemu
) -> None:
    keys = {
        key_of(templates, artifacts, qemu),
        key_of(templates, artifacts, replace(qemu, thread=Thread.MULTI)),
        key_of(templates, artifacts, qemu, Accelerator.KVM),
    }

    assert len(keys) == 3


def test_another_qemu_program_has_another_key(
    templates: TemplateStore, artifacts: Artifacts, qemu: Qemu, tmp_path: Path
) -> None:
    first = key_of(templates, artifacts, qemu, Accelerator.KVM)
    (tmp_path / "other").write_bytes(b"one")
    other = key_of(templates, artifacts, replace(qemu, program=str(tmp_path / "other")), Accelerator.KVM)
    Path(qemu.program).write_bytes(b"upgraded")

    assert len({first, other, key_of(templates, artifacts, qemu, Accelerator.KVM)}) == 3

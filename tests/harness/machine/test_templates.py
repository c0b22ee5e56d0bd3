"""Frozen machines as they lie in the store, without a machine."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.host_id import boot_id
from harness.core.locks import lock_folder
from harness.model.machine_spec import BootPath, MachineSpec
from harness.store.inventory import StoreKind, survey
from harness.store.prune import Rules, prune
from harness.store.store import Store
from harness.store.template_record import RECORD, Template, evict, stamp

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, name: str, *, age_s: float = 0, boot: str | None = None) -> Template:
    """A template of one MiB that was last used so long ago."""
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


def there(store: Store) -> set[str]:
    return {folder.name for folder in (store.root / "templates").iterdir()}


def test_a_template_reads_back_equal(store: Store) -> None:
    template = add(store, "one")

    assert serialization.read(Template, template.folder / RECORD) == template


@pytest.mark.parametrize("change", ["touch", "cut", "remove"])
def test_what_became_of_its_files_is_seen(store: Store, change: str) -> None:
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


def test_the_least_recently_used_go_and_what_is_used_stays(store: Store) -> None:
    for name, age_s in (("old-but-used", 300), ("old", 200), ("older-than-new", 100), ("new", 0)):
        add(store, name, age_s=age_s)
    held = lock_folder(store.root / "templates" / "old-but-used", is_shared=True)
    assert held is not None

    evict(store, 3 * MIB + MIB // 2)

    assert there(store) == {"old-but-used", "older-than-new", "new"}
    os.close(held)


def test_the_store_shows_templates_and_prunes_those_of_no_use(store: Store) -> None:
    add(store, "good")
    add(store, "of-another-boot", boot="another")
    altered = add(store, "altered")
    (altered.folder / "state").write_bytes(b"")
    (add(store, "unreadable").folder / RECORD).write_text("{}")

    kept = [kept for kept in survey(store).items if kept.kind is StoreKind.TEMPLATE]
    prune(store, Rules())

    assert sorted(bool(one.why_stale) for one in kept) == [False, True, True, True]
    assert next(one for one in kept if not one.why_stale).name == "booted, direct"
    assert there(store) == {"good"}

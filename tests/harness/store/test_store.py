"""The store: made whole, named by content, shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.core.errors import HostError, UsageError
from harness.model.artifacts import Manifest
from harness.store.store import Store, disk_full, find_store

from ... import samples


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _manifest(folder: Path, text: str) -> Manifest:
    return samples.artifacts(folder, text, lines=1).manifest


def test_naming_a_store_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "named"))

    assert find_store().root == tmp_path / "named"
    assert find_store().built("key") is None
    assert find_store().layer("key") is None
    assert not (tmp_path / "named").exists()


def test_the_store_is_in_the_cache_folder_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BOOTPROOF_STORE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert find_store().root == tmp_path / ".cache" / "bootproof"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert find_store().root == tmp_path / "caches" / "bootproof"


def test_a_store_without_a_home_says_which_variable_places_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", "~nobody-of-that-name/store")
    with pytest.raises(HostError, match=r"no place for the store: .*; set BOOTPROOF_STORE to a folder"):
        find_store()


def test_a_store_that_cannot_be_made_says_which_variable_moves_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="BOOTPROOF_STORE"):
        Store(tmp_path / "file").folder("tmp")


def test_artifacts_come_back_by_digest_and_by_its_beginning(store: Store) -> None:
    with store.workfolder() as work:
        added = store.add_artifacts(work / "out", _manifest(work / "out", "one"))

    assert store.artifacts(added.digest) == added
    assert store.artifacts(added.digest[:8]) == added
    assert {path.stat().st_mode & 0o777 for path in added.folder.iterdir()} == {0o444}


@pytest.mark.parametrize("digest", ["", "..", "0" * 64, "0" * 8, "*" * 8])
def test_unknown_artifacts_are_a_usage_error(store: Store, digest: str) -> None:
    with pytest.raises(UsageError, match="no artifacts"):
        store.artifacts(digest)


def test_adding_the_same_artifacts_twice_keeps_the_first(store: Store) -> None:
    for _ in range(2):
        with store.workfolder() as work:
            added = store.add_artifacts(work / "out", _manifest(work / "out", "same"))

    assert [path.name for path in store.folder("artifacts").iterdir()] == [added.digest]


def test_damaged_artifacts_count_as_not_built_and_are_replaced(store: Store) -> None:
    with store.workfolder() as work:
        added = store.add_artifacts(work / "out", _manifest(work / "out", "one"))
    store.remember_build("key", added)
    assert store.built("key") == added

    added.rootfs.chmod(0o644)
    added.rootfs.write_text("cut")
    assert store.built("key") is None

    with store.workfolder() as work:
        store.add_artifacts(work / "out", _manifest(work / "out", "one"))
    assert store.built("key") == added


def test_changed_bytes_are_found_by_a_full_check_reported_and_replaced(store: Store) -> None:
    with store.workfolder() as work:
        added = store.add_artifacts(work / "out", _manifest(work / "out", "one"))
    store.remember_build("key", added)
    text = added.initrd.read_text()
    added.initrd.chmod(0o644)
    added.initrd.write_text(text.swapcase())
    problems = list[str]()

    assert store.built("key") == added
    assert store.built("key", contents=True, damaged=problems.append) is None
    assert [what.split(":")[0] for what in problems] == [f"{added.initrd} was changed"]

    with store.workfolder() as work:
        store.add_artifacts(work / "out", _manifest(work / "out", "one"))
    assert store.built("key", contents=True) == added


def test_artifacts_under_the_name_of_others_count_as_not_built(store: Store) -> None:
    with store.workfolder() as work:
        one, two = (store.add_artifacts(work / name, _manifest(work / name, name)) for name in ("one", "two"))
    store.remember_build("key", one)
    for file in two.folder.iterdir():
        file.replace(one.folder / file.name)
    problems = list[str]()

    assert store.built("key", damaged=problems.append) is None
    assert "is the manifest of other artifacts" in problems[0]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"artifacts": 3}', '{"artifacts": "gone"}', "\0"])
def test_a_note_of_a_build_that_cannot_be_used_counts_as_none(store: Store, note: str) -> None:
    (store.folder("builds") / "key.json").write_text(note)

    assert store.built("key") is None


def test_a_layer_is_whole_until_a_byte_of_it_changes(store: Store) -> None:
    with store.workfolder() as work:
        (work / "layer.tar").write_text("tree")
        store.add_layer("key", work / "layer.tar", {"for": "image base"})
    assert store.is_whole_layer("key")

    tar = store.layer("key")
    assert tar is not None
    tar.write_text("treE")
    assert not store.is_whole_layer("key")

    store.remove_layer("key")
    assert store.layer("key") is None
    assert store.layer_note("key")


def test_the_layer_just_made_stays_though_the_clock_makes_it_the_oldest(store: Store) -> None:
    for key in ("future", "older", "made-in-1970"):
        with store.workfolder() as work:
            (work / "layer.tar").write_text(key)
            store.add_layer(key, work / "layer.tar", {"for": "image base"})
        if key == "future":
            os.utime(store.root / "layers" / "future.tar", (4e9, 4e9))
        if key == "older":
            os.utime(store.root / "layers" / "older.tar", (3e9, 3e9))

    assert [key for key in ("future", "older", "made-in-1970") if store.layer(key)] == ["future", "made-in-1970"]


def test_what_the_store_refuses_is_said_with_what_to_do(store: Store) -> None:
    def write() -> None:
        with store.writable():
            (store.root / "nowhere" / "file").touch()

    store.folder("tmp")
    with pytest.raises(HostError, match=r"nowhere/file: No such file or directory; .*BOOTPROOF_STORE"):
        write()


def test_a_work_folder_that_cannot_be_removed_now_does_not_hide_what_happened(store: Store) -> None:
    def refuse(_: Path) -> None:
        raise HostError("busy")

    with pytest.raises(KeyboardInterrupt), store.workfolder(remove=refuse):
        raise KeyboardInterrupt
    with store.workfolder() as work:
        assert [path.name for path in (store.root / "tmp").iterdir()] == [work.name]


def test_of_an_image_only_the_last_layers_stay_but_all_notes(store: Store) -> None:
    for key in ("a", "b", "c"):
        with store.workfolder() as work:
            (work / "layer.tar").write_text(key)
            store.add_layer(key, work / "layer.tar", {"for": "image base", "n": key}, kept=2)

    assert store.layer("a") is None
    assert store.layer("c")
    assert [store.layer_note(key)["n"] for key in ("a", "b", "c")] == ["a", "b", "c"]


def test_the_second_of_two_that_make_the_same_waits_and_says_so(store: Store) -> None:
    is_waiting, order = threading.Event(), list[str]()

    def second() -> None:
        with store.locked("key", waiting=is_waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with store.locked("key"):
        thread.start()
        assert is_waiting.wait(10)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]


def test_a_work_folder_is_gone_with_its_block_also_when_that_fails(store: Store) -> None:
    def fail() -> None:
        with store.workfolder() as work:
            (work / "tree").mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list((store.root / "tmp").iterdir())


def test_work_folders_of_the_dead_are_removed_those_of_the_living_stay(store: Store) -> None:
    for name in ("dead", "dead-before-it-locked"):
        (store.root / "tmp" / name).mkdir(parents=True)
    (store.root / "tmp" / "dead" / "lock").touch()

    with store.workfolder() as living, store.workfolder() as other:
        assert {path.name for path in (store.root / "tmp").iterdir()} == {living.name, other.name}


def test_a_full_disk_is_reported_with_its_folder_and_what_is_free(tmp_path: Path) -> None:
    message = str(disk_full(tmp_path))

    assert str(tmp_path) in message
    assert "MiB free" in message
    assert "BOOTPROOF_STORE" in message


def test_work_folders_may_end_while_others_look_for_stale_ones(tmp_path: Path) -> None:
    """Their ends meet: both remove the same folder."""
    script = (
        "import sys; from pathlib import Path; from harness.store.store import Store\n"
        "for _ in range(15):\n"
        "    with Store(Path(sys.argv[1])).workfolder() as folder:\n"
        "        [(folder / f'a{n}').touch() for n in range(60)]; [(folder / f'z{n}').touch() for n in range(60)]\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    children = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    assert [child.communicate()[1] for child in children] == [""] * 4
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_dead_process_left_and_this_user_cannot_remove_is_in_nobodys_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.folder("tmp") / "left" / "tree").mkdir(parents=True)

    def remove(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with store.workfolder(remove=remove) as work:
        (work / "file").touch()

    with store.workfolder() as work:
        assert [path.name for path in store.folder("tmp").iterdir()] == [work.name]

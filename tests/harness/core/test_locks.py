"""Locks of files and folders, between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.core.locks import is_locked, lock_folder, locked, try_lock


def test_a_locked_file_is_locked_for_others_until_the_block_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert is_locked(tmp_path / "lock")

    assert not is_locked(tmp_path / "lock")


def test_a_file_that_does_not_exist_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "missing")


def test_waiting_for_a_lock_is_reported_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "lock", list[str]()
    with path.open("wb") as file:
        assert try_lock(file)
        descriptor = os.dup(file.fileno())

    def waiting() -> None:
        calls.append("waiting")
        os.close(descriptor)  # the last of that open file: the lock is free

    with locked(path, waiting=waiting):
        assert is_locked(path)
    assert calls == ["waiting"]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from harness.core.locks import locked\n"
    script += "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        assert is_locked(tmp_path / "lock")
        child.kill()

    assert not is_locked(tmp_path / "lock")


def test_a_folder_can_be_shared_but_not_taken_alone_meanwhile(tmp_path: Path) -> None:
    first, second = lock_folder(tmp_path, is_shared=True), lock_folder(tmp_path, is_shared=True)
    assert first is not None
    assert second is not None

    assert lock_folder(tmp_path, waits=False) is None

    os.close(first)
    os.close(second)
    alone = lock_folder(tmp_path, waits=False)
    assert alone is not None
    os.close(alone)


def test_a_folder_that_was_removed_is_not_locked(tmp_path: Path) -> None:
    assert lock_folder(tmp_path / "missing") is None

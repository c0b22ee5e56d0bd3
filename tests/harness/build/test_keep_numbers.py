"""The role persist: users have the numbers that they had on the disk before, whatever a release gives them."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "images/roles/persist/files/usr/lib/persist/keep-numbers"
OLD = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nkvm-guest:x:64055:995::/x:/bin/sh\ntss:x:101:102::/:/bin/sh\n",
    "group": "root:x:0:\nkvm:x:995:kvm-guest\nresolve:x:993:\ntss:x:102:\nusers:x:1000:\n",
}
NEW = {
    "passwd": "root:x:0:0:root:/root:\nkvm-guest:x:64055:993::/x:/bin/sh\nbus:x:101:102::/:\ntss:x:990:990::/:\n",
    "group": "root:x:0:\nkvm:x:993:kvm-guest\nresolve:x:991:\nbus:x:102:a,b\ntss:x:990:\nusers:x:1000:\n",
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
Boot = Callable[[dict[str, str]], str]


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """Runs the program in a fresh root file system with these account files, over the same /data."""

    def boot(accounts: dict[str, str]) -> str:
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "data").mkdir(exist_ok=True)
        for name, text in accounts.items():
            (tmp_path / "etc" / name).write_text(text)
        done = subprocess.run([PROGRAM, tmp_path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return boot


def accounts(root: Path) -> dict[str, str]:
    return {name: (root / "etc" / name).read_text() for name in ("passwd", "group")}


def record(root: Path) -> list[str]:
    return (root / "data/etc/accounts").read_text().splitlines()


def test_the_first_boot_records_the_numbers_that_packages_got_and_changes_nothing(boot: Boot, tmp_path: Path) -> None:
    assert boot(OLD) == ""

    assert accounts(tmp_path) == OLD
    assert record(tmp_path) == ["user tss 101", "group kvm 995", "group resolve 993", "group tss 102"]


def test_another_release_gets_the_recorded_numbers_and_newcomers_free_ones(boot: Boot, tmp_path: Path) -> None:
    boot(OLD)

    assert boot(NEW).startswith("6 users and groups have the numbers")

    now = accounts(tmp_path)
    assert now["passwd"].splitlines()[1:] == [
        "kvm-guest:x:64055:995::/x:/bin/sh",
        "bus:x:999:999::/:",
        "tss:x:101:102::/:",
    ]
    assert now["group"] == "root:x:0:\nkvm:x:995:kvm-guest\nresolve:x:993:\nbus:x:999:a,b\ntss:x:102:\nusers:x:1000:\n"
    assert record(tmp_path)[4:] == ["user bus 999", "group bus 999"]
    assert boot(OLD) == ""
    assert accounts(tmp_path) == OLD, "after a rollback"
    boot(NEW)
    assert accounts(tmp_path) == now, "after another upgrade"


def test_the_files_of_the_image_follow_with_their_modes(boot: Boot, tmp_path: Path) -> None:
    boot(OLD)
    for name, user, group, mode in (
        ("tool", 0, 993, 0o2755),
        ("state", 990, 990, 0o640),
        ("data/kept", 101, 995, 0o600),
    ):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, user, group)
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("state")
    os.chown(tmp_path / "link", 990, 990, follow_symlinks=False)

    boot(NEW)

    seen = {name: (tmp_path / name).lstat() for name in ("tool", "state", "link")}
    assert {name: (one.st_uid, one.st_gid) for name, one in seen.items()} == {
        "tool": (0, 995), "state": (101, 102), "link": (101, 102),
    }  # fmt: skip
    assert [stat.S_IMODE(seen[name].st_mode) for name in ("tool", "state")] == [0o2755, 0o640]


def test_a_persistent_passwd_keeps_its_own_numbers(boot: Boot, tmp_path: Path) -> None:
    boot(OLD)
    (tmp_path / "kept").write_text(NEW["passwd"])
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to(tmp_path / "kept")

    assert boot(NEW) == ""
    assert accounts(tmp_path) == NEW

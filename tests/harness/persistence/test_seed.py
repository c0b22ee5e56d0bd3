"""A disk with files on /data before the first boot: they, and the defaults of their persistent paths, have the owners
of the image."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.debugfs import debugfs
from harness.core.errors import UsageError
from harness.core.process import CommandFailed
from harness.model.artifacts import Artifacts
from harness.model.seed_file import SeedFile, persistent_path_of
from harness.persistence.seed import DATA_TYPE, make_seeded_disk
from harness.qemu.disk_images import copy_partition, find_partition
from tests.harness.proven import Proven

PATHS = ("/etc/nova", "/var/lib/nova")
CONFIGURATION = SeedFile(path="/etc/nova/nova.conf", content=b"[DEFAULT]\nx = '1'\n", group="nova", mode=0o640)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """An image whose root file system has two defaults of /etc/nova, and a group nova."""
    tree = tmp_path / "tree"
    (tree / "usr/share/persist/etc/nova/policy.d").mkdir(parents=True)
    (tree / "usr/share/persist/etc/nova/nova.conf").write_text("[DEFAULT]\n")
    (tree / "usr/share/persist/etc/nova/rootwrap.conf").write_text("filters = /etc/nova\n")
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnova:x:64060:64060::/var/lib/nova:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nnovax:x:1:\nnova:x:64060:\n")
    made = Proven(tmp_path).artifacts()
    made.rootfs.unlink()
    subprocess.run(["mksquashfs", tree, made.rootfs, "-quiet", "-no-progress", "-all-root"], check=True)
    return made


@pytest.fixture
def data(artifacts: Artifacts, tmp_path: Path) -> Path:
    """The file system for /data of a disk with `CONFIGURATION`."""
    disk = make_seeded_disk(tmp_path / "disk.raw", artifacts, PATHS, [CONFIGURATION])
    copy_partition(disk.path, find_partition(disk.path, DATA_TYPE), tmp_path / "data")
    return tmp_path / "data"


def test_a_seeded_file_has_its_content_owner_and_mode(data: Path) -> None:
    assert debugfs(data, "cat /etc/nova/nova.conf") == CONFIGURATION.content.decode()
    assert re.search(r"Mode: +0640.*User: +0 +Group: +64060", debugfs(data, "stat /etc/nova/nova.conf"), re.DOTALL)


def test_the_other_defaults_of_its_persistent_path_are_beside_it(data: Path) -> None:
    assert debugfs(data, "cat /etc/nova/rootwrap.conf") == "filters = /etc/nova\n"


def test_a_path_without_a_seeded_file_is_left_to_the_initrd(data: Path) -> None:
    assert "var" not in debugfs(data, "ls -p /")


def test_the_file_system_is_whole(data: Path) -> None:
    subprocess.run(["e2fsck", "-fn", data], check=True, capture_output=True)


def test_the_layout_is_that_of_the_role_persist() -> None:
    files = Path(__file__).parents[3] / "images/roles/persist/files/usr/lib/persist"
    types = [re.findall(r"^Type=(\S+)", file.read_text(), re.MULTILINE) for file in sorted(files.glob("repart.d/*"))]

    assert str(DATA_TYPE) in types[1]


def test_a_user_that_the_image_lacks_is_named(artifacts: Artifacts, tmp_path: Path) -> None:
    file = replace(CONFIGURATION, owner="glance")

    with pytest.raises(CommandFailed, match="the image has no user glance"):
        make_seeded_disk(tmp_path / "disk.raw", artifacts, PATHS, [file])


def test_a_file_that_would_not_be_kept_is_refused() -> None:
    file = SeedFile(path="/etc/novax/nova.conf", content=b"")

    with pytest.raises(UsageError, match=r"/etc/novax/nova.conf is below none of the image's persistent paths"):
        persistent_path_of(file, PATHS)


@pytest.mark.parametrize("path", ["etc/nova/x", "/etc/nova/../x", "/etc/nova/", "/etc/nova/a b"])
def test_a_path_that_is_not_valid_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="is not an absolute path of a file"):
        SeedFile(path=path, content=b"")

"""Where a path is stored: the guest's script, run on this host's file systems."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.persistence.locations import Location, find_locations, place, read_mounts, serials


class Here(Channel):
    """This host's shell; ``within`` is what the command is run by."""

    def __init__(self, *within: str) -> None:
        self._within = within

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        done = subprocess.run([*self._within, "bash", "-c", command], check=False, capture_output=True)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def findmnt(what: str, path: Path) -> str:
    text = subprocess.check_output(["findmnt", "-n", "-o", what, "-T", str(path)], text=True)
    return text.splitlines()[-1].strip()


def test_a_link_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")

    (found,) = find_locations(Here(), [str(tmp_path / "link")])

    mount = findmnt("TARGET", tmp_path)
    assert found.path == str(tmp_path / "link")
    assert (found.mount, found.root) == (mount, findmnt("FSROOT", tmp_path))
    assert found.inner == f"{found.root.rstrip('/')}{str(tmp_path / 'data').removeprefix(mount.rstrip('/'))}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount without namespaces of its own")
def test_of_a_bind_mount_and_of_an_overlay_it_is_the_folder_below_that_counts(tmp_path: Path) -> None:
    for name in ("kept", "seen", "lower", "work", "over"):
        (tmp_path / name).mkdir()
    script = (
        f"cd {tmp_path} && mount -t tmpfs tmpfs kept && mkdir kept/inside kept/upper kept/work && "
        f"mount --bind {tmp_path}/kept/inside {tmp_path}/seen && "
        f"mount -t overlay overlay -o lowerdir={tmp_path}/lower,upperdir={tmp_path}/kept/upper,"
        f"workdir={tmp_path}/kept/work {tmp_path}/over && "
    )
    unshared = Here("unshare", "--mount", "sh", "-c", f'{script} exec "$@"', "sh")

    bound, over = find_locations(unshared, [f"{tmp_path}/seen", f"{tmp_path}/over"])

    assert (bound.root, bound.inner, bound.device) == ("/inside", "/inside", "tmpfs")
    assert (over.inner, over.mount, over.device) == ("/upper", f"{tmp_path}/kept", "tmpfs")


def test_a_dangling_link_is_the_images_fault(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")

    with pytest.raises(ImageError, match=r"ended with status 1: realpath: .*link: No such file"):
        find_locations(Here(), [str(tmp_path), str(tmp_path / "link")])


def test_an_answer_that_lacks_a_path_is_an_error() -> None:
    class Killed(Channel):
        def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
            return Completed(command=command, status=137, stdout=b"", stderr=b"Killed\n")

    with pytest.raises(ImageError, match=r"'real paths'.* status 137 \(SIGKILL\): Killed"):
        find_locations(Killed(), ["/etc/nova"])


class Broken(Here):
    """This host's shell, in which ``program`` is a script."""

    def __init__(self, folder: Path, program: str, script: str) -> None:
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
        super().__init__("env", f"PATH={folder}:{os.environ['PATH']}")


BREAKS = pytest.mark.parametrize("script", ["exit 0", "exit 3", "kill -9 $$"])


MOUNTS = """\
22 1 0:2 / / rw - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs,workdir=/run/ovlwork
30 22 8:2 / /data rw,relatime shared:12 - ext4 /dev/sda2 rw,errors=remount-ro
31 22 8:2 /context /srv/the\\040context rw,relatime shared:12 - ext4 /dev/sda2 rw,errors=remount-ro
32 22 0:40 / /etc/network rw - overlay overlay rw,lowerdir=/etc/network,upperdir=/data/upper,workdir=/data/work
33 22 0:41 / /etc/network rw - overlay overlay rw,lowerdir=/etc/network,upperdir=/data/last,workdir=/data/work2
"""


@pytest.mark.parametrize(
    ("real", "where"),
    [
        ("/data/etc/nova", ("/dev/sda2", "/data", "/", "/etc/nova")),
        ("/data", ("/dev/sda2", "/data", "/", "")),
        ("/database", ("LiveOS_rootfs", "/", "/", "/database")),
        ("/srv/the context/x", ("/dev/sda2", "/srv/the context", "/context", "/context/x")),
        ("/etc/network/a", "/data/last/a"),
    ],
)
def test_a_path_is_where_the_last_mount_above_it_puts_it(real: str, where: object) -> None:
    found = place("/path", real, read_mounts(MOUNTS))

    assert where == (found if isinstance(found, str) else (found.device, found.mount, found.root, found.inner))


@BREAKS
@pytest.mark.parametrize("program", ["realpath", "cat"])
def test_a_broken_program_finds_no_location(program: str, script: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        find_locations(Broken(tmp_path, program, script), ["/"])


DISK = Location(path="/data", device="/dev/vda2", mount="/data", root="/", inner="/")


def test_serial_numbers_are_those_of_all_disks_below(tmp_path: Path) -> None:
    rows = 'printf \'NAME="vda2" SERIAL=""\\nNAME="vda" SERIAL="DATA"\\n\''

    assert serials(Broken(tmp_path, "lsblk", rows), DISK) == ["DATA"]


@BREAKS
def test_a_broken_lsblk_is_not_a_disk_without_a_serial_number(script: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        serials(Broken(tmp_path, "lsblk", script), DISK)


def test_what_is_not_on_a_block_device_has_no_serial_number() -> None:
    where = Location(path="/x", device="tmpfs", mount="/", root="/", inner="/x")

    assert serials(Here("false"), where) == []

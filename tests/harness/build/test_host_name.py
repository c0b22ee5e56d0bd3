"""The role base: a host has the name that an operator or DHCP gave, and keeps it when DHCP is silent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "images/roles/base/files/usr/lib/host-name/take"
HOST = """\
set -e
now=$1 before=$2 argument=$3 kept=$4 program=$5
mount -t tmpfs tmpfs /mnt
cd /mnt
mkdir -p data etc proc dev run tmp usr sysroot/data sysroot/etc run/systemd/netif/leases
for name in bin sbin lib lib64; do [ ! -L /$name ] || cp -P /$name .; done
mount --rbind /usr usr
mount --rbind /proc proc
mount --rbind /dev dev
mount --bind "$kept" ".$argument/data"
cp "$program" take
echo "$now" >/proc/sys/kernel/hostname
chroot . sh -c "$before"
exec chroot . sh -c '/take "$@"; status=$?; cat /proc/sys/kernel/hostname; exit $status' sh $argument
"""
"""A small root file system in a mount namespace: the program's paths are absolute."""
Take = Callable[..., str]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a UTS namespace a name")


def lease(name: str, number: int = 2) -> str:
    text = f"ADDRESS=10.77.0.10\\nHOSTNAME={name}\\nDOMAINNAME=lab.test\\n"
    return f"printf '{text}' >/run/systemd/netif/leases/{number};"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The persistent disk."""
    (tmp_path / "etc").mkdir()
    return tmp_path


@pytest.fixture
def take(data: Path) -> Take:
    """Runs the program on a host called ``now``, after the shell commands ``before``, and returns the host's name."""

    def take(before: str = "true", *, now: str = "localhost", in_initrd: bool = False) -> str:
        argv = ["unshare", "--uts", "--mount", "sh", "-c", HOST, "sh"]
        given = [now, before, "/sysroot" if in_initrd else "", str(data), str(PROGRAM)]
        done = subprocess.run([*argv, *given], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()[-1]

    return take


def remembered(data: Path) -> str:
    file = data / "etc/hostname.dhcp"
    return file.read_text().strip() if file.exists() else ""


def test_the_lease_of_the_initrd_names_the_host_before_its_services_start(take: Take) -> None:
    assert take(lease("node-7"), in_initrd=True) == "node-7"


def test_a_lease_that_comes_later_names_the_host_and_is_remembered(take: Take, data: Path) -> None:
    assert take(f"(sleep 0.3; {lease('node-7')}) & true") == "node-7"

    assert remembered(data) == "node-7"


def test_a_host_that_starts_without_a_lease_has_the_name_that_dhcp_sent_last(take: Take, data: Path) -> None:
    (data / "etc/hostname.dhcp").write_text("node-7\n")

    assert take(in_initrd=True) == "node-7"
    assert take() == "node-7"


def test_a_new_name_of_dhcp_counts_and_is_remembered(take: Take, data: Path) -> None:
    (data / "etc/hostname.dhcp").write_text("node-7\n")

    assert take(lease("node-8"), now="node-7") == "node-8"
    assert remembered(data) == "node-8"


def test_the_name_of_an_operator_comes_first(take: Take, data: Path) -> None:
    own = "echo node-1 >/etc/hostname;"

    assert take(own + lease("node-7"), now="node-1") == "node-1"
    assert remembered(data) == ""


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_of_two_leases_that_of_the_present_name_counts_then_that_of_the_last(
    take: Take, data: Path, order: tuple[int, int]
) -> None:
    leases = lease("node-7", order[0]) + lease("storage-7", order[1])
    (data / "etc/hostname.dhcp").write_text("storage-7\n")

    assert take(leases, in_initrd=True) == "storage-7"
    assert take(leases, now="node-7") == "node-7"


@pytest.mark.parametrize("name", ["localhost", "localhost.localdomain", "a;b", "../x", "-x", "n" * 65])
def test_a_name_that_is_not_valid_is_not_taken(take: Take, data: Path, name: str) -> None:
    assert take(lease(name), in_initrd=True) == "localhost"
    assert take(lease(name), now="node-7") == "node-7"
    assert remembered(data) == ""


def test_dhclients_lease_gives_the_name_without_the_domain_that_dracut_adds(take: Take) -> None:
    before = "echo \"new_host_name='node-7'\" >/tmp/dhclient.eth0.dhcpopts"

    assert take(before, now="node-7.lab.test", in_initrd=True) == "node-7"
    assert take(before, now="node-6") == "node-6"  # in the running system, everybody writes to /tmp


def test_a_disk_that_takes_no_writes_does_not_keep_a_host_from_its_name(take: Take, data: Path) -> None:
    assert take(f"{lease('node-7')} mount -o remount,ro,bind /data") == "node-7"

    assert remembered(data) == ""

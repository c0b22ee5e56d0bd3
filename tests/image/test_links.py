"""Each persistent location is a link, and its target is truly on the persistent disk."""

from __future__ import annotations

import pytest

from harness.guest import Host
from harness.machine import Machine

pytestmark = pytest.mark.check("links")


def test_location_is_a_link_to_its_place_on_data(host: Host, persistent_path: str) -> None:
    """A real folder stands where the link should be: what services write there is lost at the next boot."""
    location = host.file(persistent_path)

    assert location.is_symlink, f"{persistent_path} is no link: {host.run('stat %s', persistent_path).stdout}"
    assert host.check_output("readlink %s", persistent_path) == f"/data{persistent_path}"
    assert host.file(f"/data{persistent_path}").exists, f"{persistent_path} dangles"


def test_location_is_on_the_persistent_disk(host: Host, shared_machine: Machine, persistent_path: str) -> None:
    """The location is reached, but lies in RAM or on another disk."""
    source = host.check_output("findmnt -n -o SOURCE --target %s", f"{persistent_path}/.")
    serials = host.check_output("lsblk -n -s -d -o SERIAL %s; lsblk -n -s -o SERIAL %s", source, source).split()

    assert shared_machine.spec.disks[0].serial in serials, f"{persistent_path} is on {source}"


def test_data_is_the_second_partition_of_its_disk(host: Host) -> None:
    """/data is on another partition than the layout says."""
    source = host.check_output("findmnt -n -o SOURCE /data")

    assert host.check_output("cat /sys/class/block/%s/partition", source.removeprefix("/dev/")) == "2"


def test_data_can_be_written(host: Host) -> None:
    """/data is mounted read-only."""
    assert "rw" in host.check_output("findmnt -n -o OPTIONS /data").split(",")

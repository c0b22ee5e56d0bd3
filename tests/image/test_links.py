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


def test_no_link_in_a_location_dangles(host: Host, persistent_path: str) -> None:
    """Something in the location is kept elsewhere, where it is not kept: a database behind a link without a target."""
    assert host.check_output("find -L %s -type l", f"{persistent_path}/.") == ""


def test_defaults_came_with_their_owners_and_modes(host: Host, persistent_path: str) -> None:
    """They were copied by something that does not keep owners or modes."""
    defaults = f"/usr/share/persist{persistent_path}"
    if not host.file(defaults).exists:
        return  # another mechanism than the role persist's
    listing = "cd %s && find . -printf '%%P %%u:%%g %%m\\n' | sort"

    wanted, seen = (host.check_output(listing, place).splitlines() for place in (defaults, f"{persistent_path}/."))
    assert set(wanted) <= set(seen)

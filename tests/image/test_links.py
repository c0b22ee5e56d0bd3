"""Each persistent location is truly on the persistent disk, by a link, a bind mount, an overlay or a mount above it."""

from __future__ import annotations

import shlex

import pytest

from harness.guest.testinfra_host import Host
from harness.machine.machine import Machine
from harness.persistence.locations import find_locations

pytestmark = pytest.mark.check("links")


def test_location_is_on_the_persistent_disk(shared_machine: Machine, persistent_path: str) -> None:
    """A real folder stands where a link or a mount should be, or leads into RAM or to another disk: what services write
    there is lost at the next boot."""
    (location,) = find_locations(shared_machine.channel, [persistent_path])
    device = shlex.quote(location.device)
    serials = shared_machine.run(f"lsblk -n -s -d -o SERIAL {device}; lsblk -n -s -o SERIAL {device}").text.split()

    assert shared_machine.spec.data.serial in serials, f"{persistent_path} is on {location.device}"


def test_location_that_is_a_link_leads_to_its_place_on_data(host: Host, persistent_path: str) -> None:
    """It leads to the place of another location, or to one that backups and operators do not know."""
    if host.file(persistent_path).is_symlink:
        assert host.check_output("readlink %s", persistent_path) == f"/data{persistent_path}"


def test_location_can_be_written(host: Host, persistent_path: str) -> None:
    """Its file system is mounted read-only."""
    assert "rw" in host.check_output("findmnt -n -o OPTIONS --target %s", f"{persistent_path}/.").split(",")


def test_data_is_the_second_partition_of_its_disk(host: Host) -> None:
    """/data is on another partition than the layout says."""
    source = host.run("findmnt -n -o SOURCE /data").stdout.strip()
    if not source:
        return  # another layout: what it keeps is mounted in its places

    assert host.check_output("cat /sys/class/block/%s/partition", source.removeprefix("/dev/")) == "2"


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

"""Each persistent path is on the persistent disk, through a link, a bind mount, an overlay or a mount above it."""

from __future__ import annotations

import pytest

from harness import Host, ImageDefinition, Machine, not_applicable
from harness.model.definition import KEEPS_NOTHING
from harness.persistence.locations import find_locations, serials

pytestmark = pytest.mark.check("links")


@pytest.mark.cause("a plain folder stands in place of a link or mount, or the path leads into RAM or to another disk")
def test_location_is_on_the_persistent_disk(shared_machine: Machine, persistent_path: str) -> None:
    (location,) = find_locations(shared_machine.channel, [persistent_path])
    disks = serials(shared_machine.channel, location)

    assert shared_machine.spec.data.serial in disks, f"{persistent_path} is on {location.device}"


@pytest.mark.cause("the link leads to another path, or to one that backups and operators do not know")
def test_location_that_is_a_link_leads_to_its_place_on_data(host: Host, persistent_path: str) -> None:
    if not host.file(persistent_path).is_symlink:
        not_applicable("the persistent path is not a link")

    assert host.check_output("readlink %s", persistent_path) == f"/data{persistent_path}"


@pytest.mark.cause("its file system is mounted read-only")
def test_location_can_be_written(host: Host, persistent_path: str) -> None:
    assert "rw" in host.check_output("findmnt -n -o OPTIONS --target %s", f"{persistent_path}/.").split(",")


@pytest.mark.cause("/data is on another partition than the layout says")
def test_data_is_the_second_partition_of_its_disk(host: Host, definition: ImageDefinition) -> None:
    if not definition.persistent_paths:
        not_applicable(KEEPS_NOTHING)
    mounted = host.run("findmnt -n -o SOURCE /data")
    assert mounted.rc in (0, 1), f"findmnt(8): 1 is for no mount; {mounted.stderr}"
    source = mounted.stdout.strip()
    if not source:
        not_applicable("nothing is mounted on /data: persistent paths are mounted in their places")

    assert host.check_output("cat /sys/class/block/%s/partition", source.removeprefix("/dev/")) == "2"


@pytest.mark.cause(
    "files of this path are stored elsewhere and are not persistent, such as a database behind a link without a target"
)
def test_no_link_in_a_location_dangles(host: Host, persistent_path: str) -> None:
    assert host.check_output("find -L %s -type l", f"{persistent_path}/.") == ""


@pytest.mark.cause("the defaults were copied without their owners or modes")
def test_defaults_came_with_their_owners_and_modes(host: Host, persistent_path: str) -> None:
    defaults = f"/usr/share/persist{persistent_path}"
    if not host.file(defaults).exists:
        not_applicable("the image has no defaults in /usr/share/persist: it does not use the role persist")
    listing = "cd %s && find . -printf '%%P %%u:%%g %%m\\n' | sort"
    # libvirtd of Ubuntu changes the mode of a folder of its own at each start
    begin = host.check_output("systemctl show --timestamp=unix --property UserspaceTimestamp --value")
    by_services = host.check_output(
        "cd %s && find . -newerct %s -printf '%%P\\n'", f"{persistent_path}/.", begin
    ).splitlines()  # fmt: skip

    wanted, seen = (host.check_output(listing, place).splitlines() for place in (defaults, f"{persistent_path}/."))
    missing = [line for line in wanted if line not in seen and line.rsplit(" ", 2)[0] not in by_services]
    assert missing == []

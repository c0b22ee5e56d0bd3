"""SSH accepts root's key, and the host keys are persistent."""

from __future__ import annotations

import pytest

from harness import Host, Machine, not_applicable
from harness.guest.testinfra_host import open_guest
from harness.model.definition import KEEPS_NOTHING
from harness.persistence.locations import find_locations

pytestmark = pytest.mark.check("ssh")


@pytest.mark.cause("sshd does not answer, or rejects root's key")
def test_testinfra_reaches_the_guest_over_ssh(shared_machine: Machine) -> None:
    over_ssh: Host = open_guest("ssh", shared_machine.ssh)

    assert over_ssh.check_output("cat /proc/sys/kernel/random/boot_id") == shared_machine.check(
        "cat /proc/sys/kernel/random/boot_id"
    )


@pytest.mark.cause("sshd uses keys in RAM or in the image, so all hosts share them, or each boot has new ones")
def test_the_host_keys_in_use_are_on_the_persistent_disk(host: Host, shared_machine: Machine) -> None:
    channel, kept = shared_machine.channel, shared_machine.definition.persistent_paths
    if not kept:
        not_applicable(KEEPS_NOTHING)
    settings = host.check_output("sshd -T").splitlines()
    keys = [line.split()[1] for line in settings if line.startswith("hostkey ")]

    assert keys
    assert {location.device for location in find_locations(channel, keys)} <= {
        location.device for location in find_locations(channel, kept)
    }

"""SSH lets in whoever holds the key, with the host's own persistent key."""

from __future__ import annotations

import pytest

from harness.guest.testinfra_host import Host, open_guest
from harness.machine.machine import Machine
from harness.persistence.locations import find_locations

pytestmark = pytest.mark.check("ssh")


def test_testinfra_reaches_the_guest_over_ssh(shared_machine: Machine) -> None:
    """sshd does not answer, or does not accept root's key."""
    over_ssh: Host = open_guest("ssh", shared_machine.ssh)

    assert over_ssh.check_output("cat /proc/sys/kernel/random/boot_id") == shared_machine.check(
        "cat /proc/sys/kernel/random/boot_id"
    )


def test_the_host_keys_in_use_are_on_the_persistent_disk(host: Host, shared_machine: Machine) -> None:
    """sshd uses keys that lie in RAM or in the image: every host, or every boot, has the same or another."""
    settings = host.check_output("sshd -T").splitlines()
    keys = [line.split()[1] for line in settings if line.startswith("hostkey ")]

    channel, kept = shared_machine.channel, shared_machine.definition.persistent_paths
    assert keys
    assert {location.device for location in find_locations(channel, keys)} <= {
        location.device for location in find_locations(channel, kept)
    }

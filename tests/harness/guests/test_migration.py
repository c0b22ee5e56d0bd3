"""A migration as libvirt is asked for it."""

from __future__ import annotations

import shlex
from typing import cast

import pytest

from harness.guests.hypervisor import HostVersion, Hypervisor
from harness.guests.migration import Migration
from harness.guests.peers import Peer

OLD, NEW = (
    Peer(
        hypervisor=cast(Hypervisor, None),
        name=f"machine-{number}.lab.test",
        version=HostVersion(image=f"2026.1{number}", libvirt="11.3.0", qemu="10.0.2"),
        kind="qemu",
        machine_types={},
    )
    for number in (0, 1)
)


@pytest.mark.parametrize("is_persistent", [True, False])
def test_memory_and_disk_are_encrypted_and_a_persistent_guest_moves_its_definition(is_persistent: bool) -> None:
    words = shlex.split(Migration(guest="tiny", source=OLD, target=NEW, is_persistent=is_persistent).command)

    assert words[:2] == ["virsh", "migrate"]
    assert {"--live", "--p2p", "--tls", "--copy-storage-all"} <= set(words)
    assert words[-2:] == ["tiny", "qemu+tls://machine-1.lab.test/system"]
    assert ({"--persistent", "--undefinesource"} <= set(words)) is is_persistent
    assert "--bandwidth" not in words


def test_a_slow_migration_has_a_limit() -> None:
    words = shlex.split(Migration(guest="tiny", source=OLD, target=NEW, mib_per_s=1).command)

    assert words[words.index("--bandwidth") + 1] == "1"

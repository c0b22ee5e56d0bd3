"""The output of a guest's commands becomes a runtime profile, or an error."""

from __future__ import annotations

import pytest

from harness.guest import runtime_profile
from harness.model.verdict import Unit

OUTPUT = """\
312
--
tcp 0.0.0.0:22 sshd
udp 127.0.0.54:53 systemd-resolve
--
root:0
nova:64060
--
root:0
--
/etc/nova\t/data/etc/nova
--
20000000

Id=ssh.service
ActiveState=active
InactiveExitTimestampMonotonic=25000000
ActiveEnterTimestampMonotonic=26500000

Id=dev-hugepages.mount
ActiveState=active
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=15000000
"""


def test_each_part_is_read() -> None:
    seen = runtime_profile.parse(OUTPUT)

    assert seen.memory_mib == 312
    assert seen.sockets == ("tcp 0.0.0.0:22 sshd", "udp 127.0.0.54:53 systemd-resolve")
    assert seen.users == {"root": 0, "nova": 64060}
    assert seen.groups == {"root": 0}
    assert seen.links == {"/etc/nova": "/data/etc/nova"}
    assert seen.units["ssh.service"] == Unit(state="active", begins_s=5.0, ready_s=6.5)
    assert seen.units["dev-hugepages.mount"].ready_s == -5.0


def test_an_image_without_persistent_paths_has_no_links() -> None:
    seen = runtime_profile.parse(OUTPUT.replace("/etc/nova\t/data/etc/nova\n", ""))

    assert (seen.links, seen.groups) == ({}, {"root": 0})
    assert set(seen.units) == {"ssh.service", "dev-hugepages.mount"}


@pytest.mark.parametrize("output", ["", "312\n--\n", OUTPUT.replace("312", "")])
def test_half_an_answer_is_an_error(output: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        runtime_profile.parse(output)

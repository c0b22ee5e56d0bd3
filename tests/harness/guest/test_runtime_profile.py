"""The answers of a guest's commands become a runtime profile, or an error."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.guest import runtime_profile
from harness.model.verdict import Unit

ANSWERS = {
    "memory in use": "MemTotal:        2014016 kB\nMemAvailable:    1694528 kB\nHugePages_Total:       0",
    "listening sockets": """\
Netid State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess
udp   UNCONN 0      0         127.0.0.54:53        0.0.0.0:*    users:(("systemd-resolve",pid=301,fd=20))
tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=310,fd=3),("systemd",pid=1,fd=9))
udp   UNCONN 0      0         127.0.0.54:53        0.0.0.0:*    users:(("systemd-resolve",pid=301,fd=21))
tcp   LISTEN 0      64              [::]:2049         [::]:*""",
    "users": "root:x:0:0:root:/root:/bin/bash\nnova:x:64060:64060::/var/lib/nova:/bin/sh",
    "groups": "root:x:0:\nkvm:x:107:nova",
    "persistent paths": "path=/etc/nova\n/dev/sda2\n/data/etc/nova",
    "start of user space": "20000000",
    "services": """\
Id=ssh.service
ActiveState=active
NRestarts=0
InactiveExitTimestampMonotonic=25000000
ActiveEnterTimestampMonotonic=26500000""",
    "other units": """\
Id=-.mount
ActiveState=active
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=15000000""",
}
PATHS = ["/etc/nova"]


def test_each_answer_is_read() -> None:
    seen = runtime_profile.parse(ANSWERS, PATHS)

    assert seen.memory_mib == 312
    assert seen.sockets == ("tcp 0.0.0.0:22 sshd", "tcp [::]:2049 -", "udp 127.0.0.54:53 systemd-resolve")
    assert seen.users == {"root": 0, "nova": 64060}
    assert seen.groups == {"root": 0, "kvm": 107}
    assert seen.links == {"/etc/nova": "/data/etc/nova"}
    assert seen.units["ssh.service"] == Unit(state="active", begins_s=5.0, ready_s=6.5)
    assert seen.units["-.mount"].ready_s == -5.0


def test_an_image_without_persistent_paths_is_not_asked_for_them() -> None:
    assert {probe.name for probe in runtime_profile.probes(PATHS)} == set(ANSWERS)
    assert {probe.name for probe in runtime_profile.probes([])} == set(ANSWERS) - {"persistent paths"}
    assert runtime_profile.parse(ANSWERS, []).links == {}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("memory in use", "MemTotal: 2014016 kB"),
        ("listening sockets", "tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*"),
        ("users", "root:x"),
        ("groups", "root:x:zero:"),
        ("persistent paths", "path=/etc/nova"),
        ("persistent paths", "path=/etc/other\n/data/other"),
        ("start of user space", "n/a"),
        ("services", "Id=ssh.service\nActiveState=active"),
        ("other units", "Failed to connect to bus"),
    ],
)
def test_an_answer_that_lacks_something_is_an_error(name: str, answer: str) -> None:
    with pytest.raises(ImageError, match=f"answer to '{name}', from .*, cannot be read"):
        runtime_profile.parse({**ANSWERS, name: answer}, PATHS)

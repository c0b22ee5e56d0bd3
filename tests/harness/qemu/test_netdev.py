"""QEMU's ``-netdev`` values."""

from __future__ import annotations

import shlex
from uuid import UUID

from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu.netdev import forwarded_port, user_netdev


def test_the_user_network_looks_like_the_lab_and_leads_nowhere_else() -> None:
    relay = ["/opt/a, b/python", "relay.py", "/run/machine-3.http"]
    spec = MachineSpec(name="test-0", uuid=UUID(int=1), number=3, boot_path=BootPath.DIRECT)

    netdev = user_netdev(spec, name="compute", relay=relay)

    kind, *words = netdev.replace(",,", "\0").split(",")
    options = {name: value.replace("\0", ",") for name, _, value in (word.partition("=") for word in words)}
    assert (kind, options["restrict"], options["dhcpstart"]) == ("user", "on", "10.77.0.13")
    assert options["bootfile"] == "http://10.77.0.1/boot.ipxe"
    assert options["hostfwd"] == "tcp:127.0.0.1:0-10.77.0.13:22"
    target, _, command = options["guestfwd"].partition("-cmd:")
    assert (target, shlex.split(command)) == ("tcp:10.77.0.1:80", relay)
    assert "10.77.0.1" not in (options["host"], options["dns"])


def test_the_port_that_leads_to_sshd_is_read_from_the_monitor() -> None:
    seen = """Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   19       127.0.0.1 50182       10.77.0.13    22     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1 38541       10.77.0.13    22     0     0
"""
    assert forwarded_port(seen) == 38541
    assert forwarded_port("") is None

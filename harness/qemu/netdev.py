"""QEMU's ``-netdev`` values: a tap of a lab, or QEMU's user network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.model.machine_spec import BOOT_URL, GATEWAY, PREFIX_LENGTH, MachineSpec

_SLIRP_HOST, _SLIRP_DNS = "10.77.0.2", "10.77.0.3"
SSH_PORT = 22


def tap_netdev(nic: int, tap: str) -> str:
    """Connect network card ``nic`` to ``tap``."""
    return f"tap,id=net{nic},ifname={tap},script=no,downscript=no"


def user_netdev(spec: MachineSpec, *, name: str, relay: Sequence[str]) -> str:
    """QEMU's user network with the addresses and URLs of a lab, and without access to the host's network.

    QEMU leases the machine its address and ``name``. Each connection to the lab's web server becomes standard input and
    output of a new process, ``relay``. A port of 127.0.0.1, chosen by the kernel, is forwarded to the guest's sshd
    (`forwarded_port`). ``restrict`` drops everything else.
    """
    options = {
        "restrict": "on",
        "net": f"{GATEWAY}/{PREFIX_LENGTH}",
        "host": _SLIRP_HOST,  # answers DHCP; the lab's own address must stay free for guestfwd
        "dns": _SLIRP_DNS,
        "dhcpstart": spec.address,
        "bootfile": BOOT_URL,
        "hostname": name,
        "hostfwd": f"tcp:127.0.0.1:0-{spec.address}:{SSH_PORT}",
        "guestfwd": f"tcp:{GATEWAY}:80-cmd:{shlex.join(relay)}",
    }
    return ",".join(["user,id=net0", *(f"{key}={escaped(value)}" for key, value in options.items())])


def forwarded_port(usernet: str) -> int | None:
    """The port of 127.0.0.1 that is forwarded to the guest's sshd, from the output of the monitor's ``info
    usernet``."""
    rows = (line.split() for line in usernet.splitlines() if "[HOST_FORWARD]" in line)
    return next((int(row[3]) for row in rows if row[5] == str(SSH_PORT)), None)


def escaped(value: str) -> str:
    """``value`` inside a QEMU option, where a comma is written twice."""
    return value.replace(",", ",,")

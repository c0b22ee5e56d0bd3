"""A lab on QEMU's user network, for hosts without namespaces, without /dev/net/tun, without root.

Each machine is alone on a network inside its own QEMU, with the addresses and URLs of a lab. QEMU passes connections to
the lab's web server to this process, through `relay`. Nothing reaches the host's network.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError
from harness.lab import relay
from harness.lab.base import Lab, lacks
from harness.lab.http import HttpServer, serving_relayed
from harness.lab.start_supervisor import running_supervisor
from harness.lab.supervisor_client import SupervisorClient
from harness.lab.trace import Trace
from harness.model.machine_spec import MachineSpec, Network
from harness.model.network_faults import HttpFault, LinkFault, NetworkFault
from harness.qemu.netdev import forwarded_port, user_netdev

UNPROVEN = (
    "how machines on one network reach each other: on the user network each is alone",
    "packets other than HTTP: the user network has no capture, and QEMU does not report the addresses it gives",
    "a router, DNS and faults of DHCP: on the user network QEMU gives only an address, a name and a boot file",
)
"""What a verdict must list as unchecked."""


class UserLab(Lab):
    """Machines reach the lab's web server, and nothing else."""

    network = Network.USER

    def __init__(self, workdir: Path, control: SupervisorClient, names: dict[int, str], stack: ExitStack) -> None:
        super().__init__(workdir, control, HttpServer(), Trace())
        self._names, self._stack = names, stack
        self._entrances: dict[int, Path] = {}

    def netdevs(self, spec: MachineSpec) -> tuple[str, ...]:
        if len(spec.nics) != 1:
            raise lacks(self.network, f"{len(spec.nics)} network cards")
        if spec.number not in self._entrances:
            entrance = self._entrances[spec.number] = self.workdir / f"machine-{spec.number}.http"
            self._stack.callback(entrance.unlink, missing_ok=True)
            self._stack.enter_context(serving_relayed(self.http, _bound(entrance), spec.address))
        argv = [sys.executable, "-I", "-S", relay.__file__, str(self._entrances[spec.number])]
        return (user_netdev(spec, name=self._names.get(spec.number, f"machine-{spec.number}"), relay=argv),)

    def ssh_options(self, spec: MachineSpec, ask: Callable[[str], str]) -> dict[str, str]:
        port = forwarded_port(answer := ask("info usernet"))
        if port is None:
            raise HostError(f"{spec.name}: QEMU forwards no port to its sshd; info usernet printed:\n{answer}")
        return {"HostName": "127.0.0.1", "Port": str(port), "HostKeyAlias": spec.address}

    def _apply_faults(self, faults: Sequence[NetworkFault]) -> None:
        for fault in faults:
            check_fault(fault)

    def _contained(self, argv: Sequence[str]) -> Sequence[str]:
        """There is no PID namespace here: the kernel ends ``argv`` when the supervisor is gone."""
        if process.find(argv[0]) is None:
            raise HostError(f"{argv[0]} is not installed (PATH was searched)")
        return process.tied_to_us(argv)


def check_fault(fault: NetworkFault) -> None:
    """`HostError` for a fault that the user network cannot make."""
    if fault.needs_packets or not isinstance(fault, HttpFault | LinkFault):
        raise lacks(Network.USER, f"the fault {fault.name}")


@contextmanager
def open_user_lab(workdir: Path, names: dict[int, str]) -> Iterator[UserLab]:
    """A lab while the block lasts; any user can open it on any host."""
    with running_supervisor([], workdir / "lab.log") as control, ExitStack() as stack:
        yield UserLab(workdir, control, names, stack)


def _bound(path: Path) -> socket.socket:
    """A datagram socket at ``path``, which may be longer than the 108 bytes of unix(7): its folder is a descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path.unlink(missing_ok=True)  # left by a lab that was killed
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    return sock

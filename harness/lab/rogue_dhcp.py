"""A second DHCP server on a lab's bridge, over a veth pair of its own: two on one interface would share a socket."""

from __future__ import annotations

from pathlib import Path

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.lab import dnsmasq
from harness.lab.start_supervisor import START_S
from harness.lab.supervisor_client import LabProcess, SupervisorClient
from harness.model.machine_spec import PREFIX_LENGTH

_INTERFACE = "rogue"
_SCRIPT = f"""\
until ip link set {_INTERFACE} up 2>/dev/null; do sleep 0.02; done
ip link set lo up || exit
ip addr add {dnsmasq.ROGUE_ADDRESS}/{PREFIX_LENGTH} dev {_INTERFACE} || exit
exec dnsmasq "$@"
"""
"""Run in a network namespace, to which the interface is moved a moment later."""


def start(control: SupervisorClient, log: Path, bridge: str) -> LabProcess:
    """Start the server and wait until it answers; it runs until the lab ends."""
    with log.open("wb") as output:
        argv = ["unshare", "--net", "sh", "-c", _SCRIPT, "sh", *dnsmasq.rogue_options(_INTERFACE)]
        child = control.spawn(argv, {1: output.fileno(), 2: output.fileno()})
    pair = f"""\
link add {_INTERFACE} type veth peer name {_INTERFACE} netns {child.pid_inside}
link set {_INTERFACE} addrgenmode none master {bridge} up
"""
    with control.log.open("ab") as errors:
        status = poll(lambda: control.run(["ip", "-batch", "-"], pair, errors.fileno()) == 0, Deadline(5), every_s=0.1)
    poll(lambda: dnsmasq.READY_MESSAGE in log.read_bytes() or child.status is not None, Deadline(START_S), every_s=0.01)
    if not status or child.status is not None:
        child.end(0.0)
        raise HostError(f"the lab's second DHCP server did not start; see {log} and {control.log}")
    return child

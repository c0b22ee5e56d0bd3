"""A second DHCP server on a lab's segment, by a cable of its own: two on one interface would share a socket."""

from __future__ import annotations

from pathlib import Path

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.lab import dnsmasq
from harness.lab.start_supervisor import START_S
from harness.lab.supervisor_client import LabProcess, SupervisorClient
from harness.model.machine_spec import PREFIX_LENGTH

_INTERFACE = "rival"
_SCRIPT = f"""\
until ip link set {_INTERFACE} up 2>/dev/null; do sleep 0.02; done
ip link set lo up
ip addr add {dnsmasq.RIVAL_ADDRESS}/{PREFIX_LENGTH} dev {_INTERFACE}
exec dnsmasq "$@"
"""
"""Run in a network namespace, to which the cable comes a moment later."""


def start(control: SupervisorClient, log: Path, bridge: str) -> LabProcess:
    """The server, ready to answer; it lives as long as the lab does."""
    with log.open("wb") as output:
        argv = ["unshare", "--net", "sh", "-c", _SCRIPT, "sh", *dnsmasq.rival_options(_INTERFACE)]
        child = control.spawn(argv, {1: output.fileno(), 2: output.fileno()})
    cable = f"""\
link add {_INTERFACE} type veth peer name {_INTERFACE} netns {child.pid_inside}
link set {_INTERFACE} addrgenmode none master {bridge} up
"""
    with control.log.open("ab") as said:
        status = poll(lambda: control.run(["ip", "-batch", "-"], cable, said.fileno()) == 0, Deadline(5), every_s=0.1)
    poll(lambda: dnsmasq.READY_SIGN in log.read_bytes() or child.status is not None, Deadline(START_S), every_s=0.01)
    if not status or child.status is not None:
        child.end(0.0)
        raise HostError(f"the lab has no second DHCP server: see {log} and {control.log}")
    return child

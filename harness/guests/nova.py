"""What nova, placement and neutron know of a host, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read

if TYPE_CHECKING:
    from openstack.connection import Connection

UP_S = 600.0
"""For a service of a host to be up, on the reference machine, once the host is ready: nova-compute asks libvirt, which
takes 40 s of an emulated CPU."""
_EVERY_S = 5.0
_COMPUTE = "nova-compute"
INSTANCES = "/var/lib/nova/instances"
"""The disks of guests, of which nova's inventory tells the size."""
_FACTS = Probe("size of the host", "nproc && grep MemTotal /proc/meminfo && df -BG --output=size /var/lib/nova")
_NAME = Probe("name of the host", "cat /proc/sys/kernel/hostname")
_JOURNAL = Probe("journal of nova-compute", f"journalctl -b -q -u {_COMPUTE} --no-pager --no-hostname -n 200")
CAUSES = {
    r"ACCESS_REFUSED": "RabbitMQ refuses the user or the password of transport_url in /etc/nova/nova.conf",
    r"No local node identity found": "/var/lib/nova/compute_id is lost: nova-compute does not start without it again",
    r"libvirt-sock'?: Permission denied": "libvirt refuses nova-compute: is the user nova in the group libvirt?",
}
"""A regular expression for a line of nova-compute's journal, and what it means: nothing that passes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSize:
    """What a host has, as it says itself."""

    cpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a control plane knows of the host ``name``.

    ``services`` are the states of the host's services nova-compute, ``hypervisors`` and ``providers`` the names of all
    hypervisors and resource providers of the control plane, ``inventory`` what the host's provider offers.
    """

    name: str
    services: tuple[str, ...] = ()
    hypervisors: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    inventory: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return "up" in self.services and bool(self.hypervisors) and bool(self.inventory)


def read_host(channel: Channel) -> tuple[str, HostSize]:
    """The name and the size of a host; `ImageError` if it does not say."""
    answers = ask(channel, (_NAME, _FACTS))
    return read(answers, _NAME, str.strip), read(answers, _FACTS, _size)


def _size(text: str) -> HostSize:
    cpus, memory, _, disk = text.splitlines()
    return HostSize(cpus=int(cpus), memory_mib=int(memory.split()[1]) >> 10, disk_gib=int(disk.strip().rstrip("G")))


def read_registration(cloud: Connection, name: str) -> Registration:
    """What the control plane knows of the host ``name`` now."""
    services = (one for one in cloud.compute.services(binary=_COMPUTE) if one.host == name)
    providers = list(cloud.placement.resource_providers())
    own = next((one for one in providers if one.name == name), None)
    return Registration(
        name=name,
        services=tuple(str(one.state) for one in services),
        hypervisors=tuple(str(one.name) for one in cloud.compute.hypervisors()),
        providers=tuple(str(one.name) for one in providers),
        inventory=_inventory(cloud, own),
    )


def _inventory(cloud: Connection, provider: Any) -> dict[str, int]:
    if provider is None:
        return {}
    return {one.resource_class: one.total for one in cloud.placement.resource_provider_inventories(provider)}


def wait_until_registered(
    cloud: Connection, channel: Channel, name: str, deadline: Deadline | None = None
) -> Registration:
    """What the control plane knows of the host once it knows all, once the host says why not (`read_causes`), or at
    the deadline. `HostError` if the control plane does not answer any more."""
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    last, problem, deadline = Registration(name=name), "", deadline or Deadline(UP_S)

    def is_settled() -> bool:
        nonlocal last, problem
        try:
            last, problem = read_registration(cloud, name), ""
        except (ClientException, SDKException) as error:  # one is late; the next may be in time
            problem = f"{type(error).__name__}: {error}"
        return last.is_complete or bool(read_causes(channel))

    if not poll(is_settled, deadline, every_s=_EVERY_S) and problem:
        raise HostError(f"the control plane does not answer after {deadline.passed_s:.0f} s: {problem}")
    return last


def read_causes(channel: Channel) -> tuple[str, ...]:
    """What keeps nova-compute from work, as far as its journal of this boot has one of `CAUSES`."""
    return read(ask(channel, [_JOURNAL]), _JOURNAL, lambda text: causes(text.splitlines()))


def causes(lines: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each of `CAUSES` in ``lines``, with the last line that says so: pure."""
    seen = {words: line for line in lines for words in CAUSES if re.search(words, line)}
    return tuple(f"{CAUSES[words]}: {line.strip()}" for words, line in seen.items())


def wrong(registration: Registration, size: HostSize) -> Iterator[str]:
    """A sentence for each thing that is wrong about the only host of a control plane: pure."""
    name = registration.name
    if registration.services != ("up",):
        seen = ", ".join(registration.services) or "not registered"
        yield f"{_COMPUTE} of {name} is {seen}; expected: registered once, and up"
    for what, names in (("hypervisor", registration.hypervisors), ("resource provider", registration.providers)):
        if names != (name,):
            yield f"the only host is {name}, but as {what} there is: {', '.join(names) or 'none'}"
    offered = {"VCPU": size.cpus, "MEMORY_MB": size.memory_mib, "DISK_GB": size.disk_gib}
    for kind, wanted in offered.items():
        found = registration.inventory.get(kind, 0)
        if abs(found - wanted) > 1:  # sizes in GiB and MiB are rounded up by one program and down by the other
            yield f"the inventory of {name} has {kind} {found}, the host has {wanted}"

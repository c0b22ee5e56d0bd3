"""Workloads that an operator puts on a host: how each is made, and how a later boot shows that it still works."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.guest.waiting import WaitFailed
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``make`` and ``verify`` are shell commands; ``needs`` are persistent paths that an image must have for it.

    ``starts`` is a command that succeeds once the workload runs, within ``starts_within_s`` after a boot on the
    reference machine. Before a machine is shut down, `failures` must have been called in each boot after that of
    ``make``.
    """

    name: str
    needs: tuple[str, ...]
    make: str
    verify: str
    starts: str = "true"
    starts_within_s: float = 60.0


_IMAGES = "/var/lib/libvirt/images"
_DOMAIN = f"""<domain type='qemu'><name>bootproof</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{_IMAGES}/bootproof.raw'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""
_DISK = "{ printf '\\372\\364\\353\\375'; head -c 506 /dev/zero; printf '\\125\\252'; head -c 1M /dev/urandom; }"
"""A boot sector that disables interrupts and halts (cli; hlt; jmp), so that the domain is idle; then random bytes."""
_DESTROY = "virsh destroy bootproof"
"""The domain ignores a shutdown request, for which libvirt-guests.service would wait five minutes."""
_NETDEV = "[NetDev]\nName=bootproof0\nKind=dummy\n"
_NETWORK = """[Match]
Name=bootproof0
[Link]
RequiredForOnline=no
[Network]
Address=192.0.2.1/24
LinkLocalAddressing=no
"""
_NETWORKD = "/etc/systemd/network"
_AS_SECRET = f"chgrp systemd-network {_NETWORKD}/10-bootproof.netdev && chmod 640 {_NETWORKD}/10-bootproof.netdev"
"""As systemd.netdev(5) says for files with keys: whether networkd may read it depends on the number of its group."""

WORKLOADS = (
    Workload(
        name="a libvirt domain that starts by itself, and its disk",
        needs=("/etc/libvirt", "/var/lib/libvirt"),
        make=f"mkdir -p {_IMAGES} && cd {_IMAGES} && {_DISK} >bootproof.raw && sha256sum bootproof.raw >sum && "
        f"echo {shlex.quote(_DOMAIN)} >/run/domain.xml && virsh define /run/domain.xml && virsh autostart bootproof && "
        f"virsh start bootproof && virsh domstate bootproof | grep -q running && {_DESTROY} && sync",
        starts="virsh domstate bootproof | grep -q running",
        verify=f"{_DESTROY} && cd {_IMAGES} && sha256sum --quiet -c sum",
    ),
    Workload(
        name="an Open vSwitch bridge with a port",
        needs=("/etc/openvswitch",),
        make="ovs-vsctl add-br br-proof -- set bridge br-proof external-ids:proof=kept "
        "-- add-port br-proof proof0 -- set interface proof0 type=internal && ip link show proof0",
        verify='test "$(ovs-vsctl br-get-external-id br-proof proof)" = kept && '
        "ovs-vsctl list-ports br-proof | grep -qx proof0 && ip link show br-proof && ip link show proof0",
    ),
    Workload(
        name="a network that systemd-networkd makes at boot",
        needs=(_NETWORKD,),
        make=f"printf %s {shlex.quote(_NETDEV)} >{_NETWORKD}/10-bootproof.netdev && {_AS_SECRET} && "
        f"printf %s {shlex.quote(_NETWORK)} >{_NETWORKD}/10-bootproof.network && sync",
        starts="ip -4 -br address show bootproof0 | grep -q 192.0.2.1",
        starts_within_s=20.0,
        verify="ip -4 -br address show bootproof0 | grep -q 192.0.2.1",
    ),
)


def workloads_of(definition: ImageDefinition) -> list[Workload]:
    """The workloads whose persistent paths the image has."""
    return [workload for workload in WORKLOADS if set(workload.needs) <= set(definition.persistent_paths)]


def make_workloads(machine: Machine, workloads: Iterable[Workload]) -> None:
    """Put the ``workloads`` on ``machine``; `ImageError` if one cannot be made."""
    with machine.boot_slot():  # it keeps the guest's CPU busy, as a boot does
        for workload in workloads:
            machine.check(workload.make)


def failures(machine: Machine, workloads: Iterable[Workload]) -> list[str]:
    """A sentence for each of the ``workloads`` that does not work any more."""
    with machine.boot_slot():
        return [f"{one.name} is lost: {problem}" for one in workloads if (problem := _problem(machine, one))]


def _problem(machine: Machine, workload: Workload) -> str:
    try:
        machine.wait_until_succeeds(workload.starts, Deadline(workload.starts_within_s))
    except WaitFailed as error:
        return f"it did not start within {error.waited_s:.0f} s (seen last: {error.seen})"
    done = machine.run(workload.verify)
    return f"{workload.verify!r} {done.ending}: {done.errors or done.text}" if done.status else ""

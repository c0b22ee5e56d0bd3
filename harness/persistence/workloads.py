"""What an operator makes of a host besides files: how it is made, and how it is seen on a later boot that it works."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from harness.model.definition import ImageDefinition


@dataclass(frozen=True, slots=True)
class Workload:
    """``make`` and ``seen`` are shell commands; ``needs`` are persistent paths that an image must have for it.

    Before a machine is shut down, ``seen`` must have been run in each boot after that of ``make``.
    """

    name: str
    needs: tuple[str, ...]
    make: str
    seen: str


_IMAGES = "/var/lib/libvirt/images"
_DOMAIN = f"""<domain type='qemu'><name>bootproof</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{_IMAGES}/bootproof.raw'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""
_DISK = "{ printf '\\372\\364\\353\\375'; head -c 506 /dev/zero; printf '\\125\\252'; head -c 1M /dev/urandom; }"
"""A boot sector that disables interrupts and halts (cli; hlt; jmp), so that the domain is idle; then noise."""
_END = "virsh destroy bootproof"
"""It hears nothing of a shutdown, for which libvirt-guests.service would wait five minutes."""
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

FEATURES = (
    Workload(
        "a libvirt domain that starts by itself, and its disk",
        ("/etc/libvirt", "/var/lib/libvirt"),
        f"mkdir -p {_IMAGES} && cd {_IMAGES} && {_DISK} >bootproof.raw && sha256sum bootproof.raw >sum && "
        f"echo {shlex.quote(_DOMAIN)} >/run/domain.xml && virsh define /run/domain.xml && virsh autostart bootproof && "
        f"virsh start bootproof && virsh domstate bootproof | grep -q running && {_END} && sync",
        "for second in $(seq 60); do virsh domstate bootproof | grep -q running && break; sleep 1; done; "
        f"virsh domstate bootproof | grep -q running && {_END} && cd {_IMAGES} && sha256sum --quiet -c sum",
    ),
    Workload(
        "an Open vSwitch bridge with a port",
        ("/etc/openvswitch",),
        "ovs-vsctl add-br br-proof -- set bridge br-proof external-ids:proof=kept "
        "-- add-port br-proof proof0 -- set interface proof0 type=internal && ip link show proof0",
        'test "$(ovs-vsctl br-get-external-id br-proof proof)" = kept && '
        "ovs-vsctl list-ports br-proof | grep -qx proof0 && ip link show br-proof && ip link show proof0",
    ),
    Workload(
        "a network that systemd-networkd makes at boot",
        (_NETWORKD,),
        f"printf %s {shlex.quote(_NETDEV)} >{_NETWORKD}/10-bootproof.netdev && "
        f"printf %s {shlex.quote(_NETWORK)} >{_NETWORKD}/10-bootproof.network && sync",
        "for second in $(seq 20); do ip -4 -br address show bootproof0 | grep -q 192.0.2.1 && break; sleep 1; done; "
        "ip -4 -br address show bootproof0 | grep -q 192.0.2.1",
    ),
)


def features_of(definition: ImageDefinition) -> Iterator[Workload]:
    return (feature for feature in FEATURES if set(feature.needs) <= set(definition.persistent_paths))

"""A tiny guest that is migrated: its disk is large enough for a migration to be interrupted in the middle of it."""

from __future__ import annotations

import gzip
import hashlib
import re
import shlex
from base64 import b64encode
from uuid import uuid4

from harness.guests.domains import Domain, Kind, domain_xml
from harness.guests.migration_words import HARMED
from harness.guests.peers import FOLDER, NETWORK, Peer
from harness.guests.tiny_guest import DISK_BYTES, TinyGuest, disk_content

MAC, ADDRESS = "52:54:00:00:25:03", "192.0.2.7"
BALLAST_MIB = 16
"""Behind what the guest uses, never written again: at 1 MiB/s a migration copies it for so many seconds."""
_LINE = "bootproof\n"
_BALLAST = f"yes bootproof | head -c {BALLAST_MIB}M"
"""Its content, as a shell command: not zeros, which are not copied."""


def make_guest(
    peer: Peer, name: str, kind: Kind, machine_type: str, *, is_persistent: bool = True, cpu_model: str = ""
) -> Domain:
    """Start a guest on ``peer``; returns once it answers. `GuestFailed` if it does not start."""
    domain = Domain(
        name=name, uuid=uuid4(), mac=MAC, disk=f"{FOLDER}/{name}.qcow2", network=NETWORK, machine_type=machine_type
    )
    _put_disk(peer, domain)
    xml = domain_xml(domain, kind)
    if cpu_model:
        cpu = f"<cpu mode='custom' match='exact'><model fallback='forbid'>{cpu_model}</model></cpu>"
        xml = xml.replace("<devices>", f"{cpu}<devices>")
    peer.hypervisor.define_xml("define" if is_persistent else "create", xml, guest=name)
    if is_persistent:
        peer.hypervisor.start(name)
    peer.hypervisor.ask(name, step="its first answer")
    return domain


def _put_disk(peer: Peer, domain: Domain) -> None:
    tiny = disk_content(TinyGuest(nonce=domain.name, addresses={MAC: ADDRESS}))
    packed, disk = b64encode(gzip.compress(tiny)).decode(), shlex.quote(domain.disk)
    peer.machine.check(
        f"{{ base64 -d <<'END' | gzip -d; {_BALLAST}; }} >{disk}.raw || exit\n{packed}\nEND\n"
        f"qemu-img convert -f raw -O qcow2 {disk}.raw {disk} && rm {disk}.raw && sync {disk}"
    )


def end_guest(peer: Peer, domain: Domain) -> None:
    """Shut the guest down on ``peer``, and remove it. `ImageError` if it stays, or its disk is not whole."""
    hypervisor = peer.hypervisor
    hypervisor.virsh(f"shutdown {domain.name}", guest=domain.name, step="shut down")
    peer.machine.wait_until_fails(f"virsh -q domstate {domain.name} 2>/dev/null | grep -q running")
    for problem in disk_problems(peer, domain):
        hypervisor.fail(HARMED, domain.name, problem)
    peer.machine.check(f"virsh -q undefine {domain.name} 2>/dev/null; rm {domain.disk}")


def disk_problems(peer: Peer, domain: Domain) -> list[str]:
    """What is wrong with the disk of a guest that is off."""
    disk = shlex.quote(domain.disk)
    checked = peer.machine.run(f"qemu-img check {disk}")
    if checked.status:
        return [f"qemu-img check {checked.ending}: {checked.errors or checked.text}"]
    raw = f"{disk}.raw"
    sums = peer.machine.check(
        f"qemu-img convert -O raw {disk} {raw} && tail -c +{DISK_BYTES + 1} {raw} | sha256sum && rm {raw}"
    )
    size = BALLAST_MIB << 20
    good = hashlib.sha256((_LINE * (size // len(_LINE) + 1)).encode()[:size]).hexdigest()
    return [] if sums.startswith(good) else ["the part of its disk that it never writes has changed"]


def newest_common_type(board: str, old: Peer, new: Peer) -> str:
    """The newest machine type of ``board`` ("q35" or "pc") that both hosts have; empty if there is none."""
    both = old.machine_types.keys() & new.machine_types.keys()
    return newest(board, both)


def newest(board: str, types: set[str]) -> str:
    """The machine type with the highest version, as "pc-q35-10.0", of those of ``board``: pure."""
    kind = {"q35": "q35", "pc": "i440fx"}[board]
    found = {
        tuple(map(int, match.groups())): name
        for name in types
        if (match := re.fullmatch(rf"pc-{kind}-(\d+)\.(\d+)", name))
    }
    return found[max(found)] if found else ""

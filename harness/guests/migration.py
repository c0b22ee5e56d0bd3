"""Live migration of a tiny guest between two hosts, which copies its disk, as hosts without shared storage do.

with a writer on its serial port, the guest counts and writes all the time:
begin → wait_until_ended → check_arrived, or check_stayed if the migration failed or was cancelled
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from harness.core.deadline import Deadline, poll
from harness.core.errors import BootproofError
from harness.guests.hypervisor import GuestFailed
from harness.guests.migration_words import CANNOT_MIGRATE, HARMED, Ending, cause_of, changes
from harness.guests.peers import FOLDER, HOST_ADDRESS, POOL, Peer
from harness.guests.tiny_guest import Answer
from harness.model.verdict import Finding
from harness.verdict.attribution import doubted

MIGRATION_S = 240.0
"""How long a migration may take on the reference machine, where both hosts are emulated."""
CLEAN_UP_S = 120.0
"""How long a host may take to notice that the other is gone, and to clean up. libvirt's keepalive takes 30 s."""
_STEP_S = 60.0
_FILES = "/run/bootproof-migration"


class MigrationFailed(GuestFailed):
    """A guest cannot migrate, or is not as it was after it: ``finding``, which the run has, says how and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The migration of ``guest`` from ``source`` to ``target``; with ``mib_per_s``, no faster than that."""

    guest: str
    source: Peer
    target: Peer
    is_persistent: bool = True
    mib_per_s: int = 0

    @property
    def command(self) -> str:
        """As nova does it: the hosts talk to each other (``--p2p``), and memory and disk are encrypted (``--tls``)."""
        words = ["virsh", "migrate", "--live", "--p2p", "--tls", "--copy-storage-all"]
        words += ["--persistent", "--undefinesource"] if self.is_persistent else []
        words += ["--bandwidth", str(self.mib_per_s)] if self.mib_per_s else []
        words += ["--migrateuri", f"tcp://{self.target.name}"]
        return shlex.join([*words, self.guest, f"qemu+tls://{self.target.name}/system"])

    @property
    def disk(self) -> str:
        return f"{FOLDER}/{self.guest}.qcow2"


_WRITER = f"""\
exec 3<>"$1" || exit
while [ ! -e {_FILES}.stop ] && printf 'write %d\\n' $((++number)) >&3 && read -r -t 60 line <&3; do
    printf '%s\\n' "$line" >>{_FILES}.written
    sleep 0.2
done
"""
"""It ends with QEMU, whose terminal it reads. A guest's answer is one line."""
_MIGRATE = f"""\
timeout -k 10 {{limit_s}} {{command}} >{_FILES}.said 2>&1
echo $? >{_FILES}.ending && mv {_FILES}.ending {_FILES}.status
"""
_BEGIN = f"""\
systemctl stop bootproof-writer.service bootproof-migration.service 2>/dev/null
rm -f {_FILES}.*
printf %s {{writer}} >{_FILES}.writer && printf %s {{migrate}} >{_FILES}.migrate || exit
tty=$(virsh -q ttyconsole {{guest}}) || exit
systemd-run -q --collect --unit=bootproof-writer bash {_FILES}.writer "$tty" &&
systemd-run -q --collect --unit=bootproof-migration sh {_FILES}.migrate
"""
_COPYING = f"""\
end=$(($(date +%s) + 100))
while [ ! -e {_FILES}.status ] && [ "$(date +%s)" -lt $end ]; do
    virsh -q domjobinfo {{guest}} 2>/dev/null | grep -E '^File total: +[1-9]' && exit
    sleep 0.2
done
exit 1
"""
_END_WRITER = f"""\
touch {_FILES}.stop
for _ in $(seq 300); do systemctl is-active -q bootproof-writer.service || break; sleep 0.2; done
cat {_FILES}.written 2>/dev/null | grep -c '^written '
rm -f {_FILES}.written
"""
"""How many writes the guest acknowledged since the migration began, once."""
_RESYNCHRONIZE = """\
tty=$(virsh -q ttyconsole {guest}) && exec 3<>"$tty" || exit
for _ in 1 2 3 4 5; do
    printf 'status\\n' >&3
    while read -r -t 20 line <&3; do
        case $line in 'status nonce='*) exit 0 ;; esac
    done
done
exit 1
"""
"""A guest that has moved may have half a command of the writer, and its first answer may be lost: a serial port that
was sending when QEMU saved its state does not go on before the guest gives up (seen with 7.2 and 10.0)."""
_LEFT = """\
virsh -q list --all --name | grep -qx {guest} && echo "the guest itself, $(virsh -q domstate {guest})"
grep -lsa 'gues[t]={guest},' /proc/[0-9]*/cmdline | sed 's/^/a QEMU for it: /'
[ ! -e {disk} ] || echo "its disk {disk}"
:"""


def begin(migration: Migration) -> Answer:
    """Start it, while the guest writes its disk all the time; the guest's status before that."""
    source, guest = migration.source, migration.guest
    before = source.hypervisor.ask(guest, step="before the migration")
    limit_s = math.ceil(Deadline(MIGRATION_S).length_s)
    migrate = shlex.quote(_MIGRATE.format(limit_s=limit_s, command=migration.command))
    source.machine.check(_BEGIN.format(writer=shlex.quote(_WRITER), migrate=migrate, guest=guest))
    return before


def wait_until_copying(migration: Migration) -> None:
    """Wait until it is in the middle: part of the disk is copied. `MigrationFailed` if it ends before."""
    if migration.source.machine.run(_COPYING.format(guest=migration.guest), Deadline(2 * _STEP_S)).status:
        ending = ending_of(migration)
        fail(migration, CANNOT_MIGRATE, f"it ended too soon: {ending}" if ending else "it does not begin to copy")


def cancel(migration: Migration) -> None:
    """As an operator does, or nova; `GuestFailed` if libvirt refuses."""
    migration.source.hypervisor.virsh(f"domjobabort {migration.guest}", guest=migration.guest, step="domjobabort")


def wait_until_ended(migration: Migration) -> Ending:
    """How it ended. `MigrationFailed` if it hangs."""
    deadline = Deadline(MIGRATION_S + CLEAN_UP_S)
    ending = poll(lambda: ending_of(migration), deadline, every_s=1.0)
    if ending is None or ending.is_time_out:
        fail(
            migration, CANNOT_MIGRATE, f"it has not ended after {deadline.passed_s:.0f} s, and does not answer", ending
        )
    return ending


def ending_of(migration: Migration) -> Ending | None:
    """How it ended; None if it has not."""
    text = migration.source.machine.check(f"[ ! -e {_FILES}.status ] || cat {_FILES}.status {_FILES}.said")
    status, _, said = text.partition("\n")
    return Ending(status=int(status), said=" ".join(said.split())) if status else None


def check_arrived(migration: Migration, before: Answer, ending: Ending) -> None:
    """The migration succeeded: the guest went on at the target, with all that it wrote, and is no longer at the source,
    from which its disk is removed then. `MigrationFailed` otherwise."""
    if ending.status:
        fail(migration, CANNOT_MIGRATE, f"libvirt says: {ending.said}", ending)
    _check_goes_on(migration, migration.target, before)
    left = [one for one in leftovers(migration, migration.source) if not one.startswith("its disk")]
    if left:
        fail(migration, HARMED, f"after it, the source still has {'; '.join(left)}")
    persistent = migration.target.hypervisor.virsh(
        f"dominfo {migration.guest}", guest=migration.guest, step="dominfo after the migration"
    )
    if ("Persistent:     yes" in persistent) != migration.is_persistent:
        fail(migration, HARMED, f"it is {'not ' * migration.is_persistent}defined at the destination")
    migration.source.machine.check(_remove(migration.disk))


def check_stayed(migration: Migration, before: Answer, *, clean_up_s: float = CLEAN_UP_S) -> None:
    """The migration failed or was cancelled: the guest went on at the source, and the target does not have it, at once
    or when that has cleaned up. `MigrationFailed` otherwise.

    libvirt leaves the disk that it made at the target, and nova, or the operator, removes it: it must
    not be in use. It is removed here, and the run says so.
    """
    _check_goes_on(migration, migration.source, before)
    disk = f"its disk {migration.disk}"
    left: list[str] = []

    def is_clean() -> bool:
        left[:] = leftovers(migration, migration.target)
        return left in ([], [disk])

    if not poll(is_clean, Deadline(clean_up_s), every_s=2.0):
        fail(migration, HARMED, f"it was not migrated, and the destination has {'; '.join(left)}")
    if left:
        locked = migration.target.machine.run(f"qemu-img info {migration.disk} && {_remove(migration.disk)}")
        if locked.status:
            fail(migration, HARMED, f"it was not migrated, and the destination uses its disk: {locked.errors}")
        version = migration.target.version
        migration.target.machine.context.run.add_note(
            f"a migration that does not succeed leaves the disk that libvirt {version.libvirt} made at the destination"
        )


def _remove(disk: str) -> str:
    """Shell: libvirt does not make a disk anew that its pool has listed, even if the file is gone."""
    return f"rm {disk} && virsh -q pool-refresh {POOL}"


def leftovers(migration: Migration, peer: Peer) -> list[str]:
    """What ``peer`` has of the guest."""
    return peer.machine.check(_LEFT.format(guest=migration.guest, disk=migration.disk)).splitlines()


def _check_goes_on(migration: Migration, peer: Peer, before: Answer) -> None:
    acknowledged = int(migration.source.machine.check(_END_WRITER, Deadline(_STEP_S + 60)))
    peer.hypervisor.wait_for_state(migration.guest, "running", step="after the migration")
    if peer.machine.run(_RESYNCHRONIZE.format(guest=migration.guest), Deadline(2 * _STEP_S)).status:
        fail(migration, HARMED, f"its serial port on {peer.name} does not answer after it")
    after = peer.hypervisor.ask(migration.guest, step="after the migration")
    if changed := "; ".join(changes(before, after, acknowledged)):
        fail(migration, HARMED, changed)
    for problem in _stands_still(migration, peer, after):
        fail(migration, HARMED, problem)


def _stands_still(migration: Migration, peer: Peer, after: Answer) -> Iterator[str]:
    """What the guest does not do any more."""
    ask, guest = peer.hypervisor.ask, migration.guest
    if ask(guest, "write later").fields.get("word") != "later":
        yield "it cannot write its disk after it"
    counted = poll(lambda: ask(guest).number("counter") > after.number("counter"), Deadline(_STEP_S), every_s=1.0)
    if not counted:
        yield "it does not count any more after it"
    address = after.fields["address"]
    if peer.machine.run(f"ping -c 10 -i 0.5 -W 5 -I {HOST_ADDRESS} {address} | grep -q 'bytes from'").status:
        yield f"it does not answer ping at {address} after it"


def fail(migration: Migration, finding: str, problem: str, ending: Ending | None = None) -> NoReturn:
    """Raise the finding of this id, which the run has then; it is not about the image if a machine is in doubt."""
    found = describe(migration, finding, problem, ending)
    for peer in (migration.source, migration.target):
        found = doubted(found, peer.machine.doubt())
    migration.target.machine.context.run.add_finding(found)
    raise MigrationFailed(found)


def describe(migration: Migration, finding: str, problem: str, ending: Ending | None = None) -> Finding:
    """The finding: libvirt's words, those of both hosts about the guest, and both versions."""
    words = {peer.name: _words(peer, migration.guest) for peer in (migration.source, migration.target)}
    return Finding(
        id=finding,
        what=f"guest {migration.guest} and its live migration from {migration.source.version.image} to "
        f"{migration.target.version.image}: {problem}",
        where=f"{migration.source.version} → {migration.target.version}",
        evidence=(
            *([f"virsh migrate: {ending.said}"] if ending and ending.said else []),
            *(f"{name}: {line}" for name, lines in words.items() for line in lines),
        ),
        cause=cause_of(ending.said) if ending else "",
    )


def _words(peer: Peer, guest: str) -> tuple[str, ...]:
    try:
        return peer.hypervisor.words(guest)
    except BootproofError:
        return ()

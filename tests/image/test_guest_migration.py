"""Guests migrate live between a host of the version before and one of this version, in both directions, while they
write memory and disk; where a migration fails or is cancelled, they go on where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness import Deadline, ImageDefinition, Lab, not_applicable
from harness.core.deadline import poll
from harness.fixtures.migration import OpenPeers
from harness.guest.serial_shell import takes_serial_shell
from harness.guests import migration as live
from harness.guests.domains import Kind
from harness.guests.migrating_guest import end_guest, make_guest, newest, newest_common_type
from harness.guests.migration import Migration
from harness.guests.migration_words import CANNOT_MIGRATE, LACKS_MACHINE_TYPE
from harness.guests.peers import Peer
from harness.model.machine_spec import Network
from harness.qemu import command_line
from harness.runs.folder import Run
from harness.verdict.coverage import GUESTS_MIGRATE, required_checks

pytestmark = [pytest.mark.thorough, pytest.mark.check(GUESTS_MIGRATE)]
SLOW_MIB_PER_S = 1
CUT_S = 60.0
"""Twice what libvirt's keepalive needs, which does not follow the host. libvirt 9 gives up then, but QEMU waits for its
connection: here until the link is back, else until TCP gives up, after a quarter of an hour."""


def has_guests(definition: ImageDefinition, lab: Lab) -> bool:
    """Whether guests can migrate here; the test is not applicable where the hosts have no network."""
    if GUESTS_MIGRATE not in required_checks(definition, is_thorough=True):
        return False
    if lab.network is Network.USER:
        not_applicable("on the user network, hosts do not reach each other")
    return True


def kind_of(old: Peer, new: Peer) -> Kind:
    """How both hosts run guests."""
    return old.kind if old.kind == new.kind else "qemu"


def common_type(board: str, old: Peer, new: Peer) -> str:
    """The newest machine type that both have: what a guest needs that shall move in both directions."""
    machine_type = newest_common_type(board, old, new)
    assert machine_type, f"{old.version} and {new.version} have no machine type of {board} in common"
    return machine_type


@pytest.mark.cause("the versions differ in what libvirt or QEMU understand of each other, or the hosts cannot connect")
@pytest.mark.parametrize(("board", "is_persistent"), [("q35", True), ("pc", False)], ids=["q35", "transient-pc"])
def test_a_guest_migrates_to_this_version_and_back(
    open_peers: OpenPeers, definition: ImageDefinition, lab: Lab, board: str, is_persistent: bool
) -> None:
    if not has_guests(definition, lab):
        return
    with open_peers() as (old, new):
        name = f"to-and-fro-{board}"
        machine_type = common_type(board, old, new)
        guest = make_guest(old, name, kind_of(old, new), machine_type, is_persistent=is_persistent)
        for source, target in ((old, new), (new, old)):
            migration = Migration(guest=name, source=source, target=target, is_persistent=is_persistent)
            before = live.begin(migration)
            live.check_arrived(migration, before, live.wait_until_ended(migration))
        end_guest(old, guest)


@pytest.mark.cause("libvirt does not clean up after a migration that was cancelled or failed")
def test_a_guest_stays_if_its_migration_is_cancelled_or_the_link_is_cut_and_migrates_over_a_lossy_one(
    open_peers: OpenPeers, definition: ImageDefinition, lab: Lab, run: Run, inject_faults: Callable[..., None]
) -> None:
    if not has_guests(definition, lab):
        return
    with open_peers() as (old, new):
        guest = make_guest(old, "stays", kind_of(old, new), common_type("q35", old, new))
        slowly = Migration(guest="stays", source=old, target=new, mib_per_s=SLOW_MIB_PER_S)

        before = live.begin(slowly)
        live.wait_until_copying(slowly)
        live.cancel(slowly)
        assert live.wait_until_ended(slowly).status, "it was cancelled, and libvirt says that it has succeeded"
        live.check_stayed(slowly, before)

        if has_serial := [peer for peer in (new, old) if takes_serial_shell(peer.machine.artifacts.manifest.systemd)]:
            before = live.begin(slowly)
            live.wait_until_copying(slowly)
            with cut(has_serial[0]):
                poll(lambda: live.ending_of(slowly), Deadline(CUT_S, scaled=False), every_s=5)
            assert live.wait_until_ended(slowly).status, "its link was cut, and libvirt says that it has succeeded"
            live.check_stayed(slowly, before)
        else:
            run.add_unchecked("a migration whose link is cut: both hosts are reached over the network alone")

        inject_faults("link-lossy")
        before = live.begin(Migration(guest="stays", source=old, target=new))
        live.check_arrived(slowly, before, live.wait_until_ended(slowly))
        inject_faults()
        end_guest(new, guest)


@contextmanager
def cut(peer: Peer) -> Iterator[None]:
    """While the block lasts, the cable of the host is unplugged: it must not be reached over the network."""

    def set_link(*, is_up: bool) -> None:
        qmp = peer.machine.running_boot.qmp
        qmp.execute("set_link", {"name": command_line.nic_id(0), "up": is_up}, deadline=Deadline(10))

    set_link(is_up=False)
    try:
        yield
    finally:
        set_link(is_up=True)


@pytest.mark.cause("libvirt does not look before it migrates, or does not clean up")
def test_a_guest_that_only_this_version_can_run_is_refused_by_the_version_before(
    open_peers: OpenPeers, definition: ImageDefinition, lab: Lab, run: Run
) -> None:
    if not has_guests(definition, lab):
        return
    with open_peers() as (old, new):
        machine_type = newest("q35", set(new.machine_types) - set(old.machine_types))
        if not machine_type:
            not_applicable(f"{new.version} has no machine type that {old.version} lacks")
        guest = make_guest(new, "too-new", kind_of(old, new), machine_type)
        migration = Migration(guest="too-new", source=new, target=old)

        before = live.begin(migration)
        ending = live.wait_until_ended(migration)

        assert ending.status, f"a guest with {machine_type} runs on {old.version}, which does not have it"
        finding = live.describe(migration, CANNOT_MIGRATE, f"refused, as it has {machine_type}", ending)
        assert (finding.cause, machine_type in ending.said) == (LACKS_MACHINE_TYPE, True), ending.said
        run.add_note(f"no way back: {finding.what}; virsh says: {ending.said}")
        live.check_stayed(migration, before)
        end_guest(new, guest)

"""What keeps a guest from migrating between two real hosts is found and named, and so is what harms it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.guests import migration as live
from harness.guests.domains import Domain
from harness.guests.migrating_guest import end_guest, make_guest
from harness.guests.migration import Migration, MigrationFailed
from harness.guests.migration_words import CLOSED, LACKS_CPU, LACKS_MACHINE_TYPE
from harness.guests.peers import Peer, make_peers
from harness.model.definition import load_definition
from harness.store.store import find_store

from .conftest import ROOT, Judge
from .ready import ready_pair

IMAGE, PREVIOUS = "kvm", "kvm-bookworm"
CPU_MODEL = "Opteron_G1"
QEMU = "/usr/bin/qemu-system-x86_64"
REJECT = "iptables -{{}} INPUT -p tcp --dport {} -j REJECT --reject-with tcp-reset"


# Whole runs come first, before machines that the other tests share.
def test_a_guest_moves_from_debian_12_to_13_and_back_but_not_with_a_machine_type_of_13(
    judge: Judge, tmp_path: Path
) -> None:
    previous = build(load_definition(ROOT / "images" / PREVIOUS), find_store()).folder

    _, verdict = judge(IMAGE, "--thorough", f"--previous={previous}", "tests/image/test_guest_migration.py")

    assert verdict.findings == ()
    assert "guests-migrate" in verdict.coverage.passed
    notes = [
        line for line in (tmp_path / "latest" / "events.jsonl").read_text("utf-8").splitlines() if "no way" in line
    ]
    assert len(notes) == 1
    assert "pc-q35-10.0" in notes[0]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    """Two hosts of the image, ready to migrate guests to each other."""
    folder = tmp_path_factory.mktemp("pair")
    with ready_pair(load_definition(ROOT / "images" / IMAGE), folder) as machines:
        left, right = make_peers(machines, folder / "keys")
        yield left, right


@contextmanager
def guest_on(
    peer: Peer, name: str, machine_type: str = "q35", cpu_model: str = "", start_on: Peer | None = None
) -> Iterator[Domain]:
    """An emulated guest that must be on ``peer``, and whole, when the block ends; started there or on ``start_on``."""
    domain = make_guest(start_on or peer, name, "qemu", machine_type, cpu_model=cpu_model)
    yield domain
    end_guest(peer, domain)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """``plant`` and ``undo`` are commands for the destination; ``said`` is in what virsh says then."""

    plant: str
    undo: str
    cause: str
    said: str


def edited(old: str, new: str) -> tuple[str, str]:
    """Commands that take a name away from QEMU, and give it back."""
    plant = f"cp -a {QEMU} {QEMU}.good && sed 's/{old}/{new}/g' {QEMU}.good >{QEMU}.bad && chmod 755 {QEMU}.bad"
    return f"{plant} && mv {QEMU}.bad {QEMU}", f"mv {QEMU}.good {QEMU} && touch {QEMU}"


def closed(ports: str) -> tuple[str, str]:
    rule = REJECT.format(ports)
    return rule.format("I"), rule.format("D")


def planted(commands: tuple[str, str], cause: str, said: str) -> Planted:
    return Planted(plant=commands[0], undo=commands[1], cause=cause, said=said)


PLANTED = {
    "libvirt's port is closed": planted(closed("16514"), CLOSED, ":16514"),
    "QEMU's ports are closed": planted(closed("49152:49215"), CLOSED, ":4915"),
    "no machine type": planted(edited("pc-q35-9\\.2", "pc-q35-0.2"), LACKS_MACHINE_TYPE, "pc-q35-9.2"),
    "no CPU model": planted(edited(CPU_MODEL, "Opteron_G0"), LACKS_CPU, CPU_MODEL),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_keeps_a_guest_from_migrating_is_named_and_the_guest_goes_on(peers: tuple[Peer, Peer], name: str) -> None:
    left, right = peers
    fault = PLANTED[name]
    with guest_on(left, "refused", "pc-q35-9.2", CPU_MODEL):
        migration = Migration(guest="refused", source=left, target=right)
        right.machine.check(fault.plant)
        before = live.begin(migration)
        ending = live.wait_until_ended(migration)
        with pytest.raises(MigrationFailed) as failure:
            live.check_arrived(migration, before, ending)
        live.check_stayed(migration, before)
        right.machine.check(fault.undo)

    finding = failure.value.finding
    assert (finding.id, finding.cause) == ("guest-cannot-migrate", fault.cause)
    assert fault.said in finding.what
    assert "guest refused" in finding.what
    assert finding.where == f"{left.version} → {right.version}"
    assert any("QEMU" in line or "libvirt" in line for line in finding.evidence)


def test_a_guest_that_was_started_anew_is_not_taken_for_one_that_went_on(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    with guest_on(right, "reset", start_on=left):
        migration = Migration(guest="reset", source=left, target=right)
        before = live.begin(migration)
        ending = live.wait_until_ended(migration)
        right.hypervisor.virsh("reset reset", guest="reset", step="reset")
        with pytest.raises(MigrationFailed) as failure:
            live.check_arrived(migration, before, ending)

    assert failure.value.finding.id == "migration-harms-guest"
    assert "it was started anew: boots=2, and was 1" in failure.value.finding.what


def test_what_is_left_at_the_destination_is_named(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    with guest_on(left, "leaves") as domain:
        migration = Migration(guest="leaves", source=left, target=right)
        right.hypervisor.define(domain, right.kind)
        before = left.hypervisor.ask("leaves")
        with pytest.raises(MigrationFailed) as failure:
            live.check_stayed(migration, before, clean_up_s=1)
        right.machine.check("virsh -q undefine leaves")

    assert failure.value.finding.id == "migration-harms-guest"
    assert "the destination has the guest itself, shut off" in failure.value.finding.what


def test_a_migration_without_tls_is_refused(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    with guest_on(left, "plain"):
        done = left.machine.run(Migration(guest="plain", source=left, target=right).command.replace("--tls ", ""))

    assert done.status != 0
    assert "VIR_MIGRATE_TLS" in done.errors

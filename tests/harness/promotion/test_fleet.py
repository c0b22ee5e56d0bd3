"""A fleet in a policy: what hosts lose refuses a promotion, what no host has is a note, what cannot be read has not
passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.fleet import Effect, FleetChange, ImageDrivers, Reason
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.promotion.policy import ProvenBuild, StreamRules, refusals
from harness.promotion.promote import NotPromoted, promote

from ... import small_fleet
from ...small_fleet import ALIASES, BNX2X, MODULES, NIC, RAID, drivers, module, text
from ..proven import NOW, Proven

OTHER = replace(NIC, id="14e4:168e", driver="bnx2x", module="bnx2x", modalias=BNX2X.modalias)
LOSS = Reason(
    id="boot-nic-undriven", effect=Effect.WILL_NOT_BOOT, device="pci 14e4:168e (bnx2x)", what="no driver",
    evidence=(), cause="", next="add the driver", hosts=3, names=("a", "b", "c"),
)  # fmt: skip


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proven:
    """A policy with a fleet of one host by each of two cards; the store is empty."""
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    made = Proven(tmp_path)
    made.demand('fleet = "fleet/"')
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "dell.toml").write_text(text(NIC, RAID))
    (tmp_path / "fleet" / "hpe.toml").write_text(text(OTHER, RAID))
    return made


def know(proven: Proven, version: str, value: ImageDrivers) -> None:
    """Let the store know what the build's files say."""
    folder = proven.folder / "store" / "drivers"
    folder.mkdir(parents=True, exist_ok=True)
    serialization.write(folder / f"{proven.artifacts(version).digest}.json", value)


def promoted(
    proven: Proven, version: str, notes: list[str] | None = None, *, offers: GuestContract | None = None
) -> str:
    artifacts = proven.artifacts(version)
    verdict = proven.verdict(artifacts)
    if offers and verdict.runtime_profile:
        profile = replace(verdict.runtime_profile, host=HostFacts(guests=offers))
        verdict = replace(verdict, runtime_profile=profile)
    proof = proven.proof(artifacts, verdict)
    note = (notes if notes is not None else []).append
    return promote(proven.tree, "site", "stable", artifacts, [proof], proven.promoter(), note).entry.version


def test_a_driver_that_a_host_needs_and_the_new_build_lacks_refuses_it(proven: Proven) -> None:
    know(proven, "1", drivers())
    know(proven, "2", drivers(initrd={f"{MODULES}/kernel/drivers/bnx2x.ko": None}))
    assert promoted(proven, "1") == "1"

    with pytest.raises(NotPromoted) as error:
        promoted(proven, "2")

    said = str(error.value)
    assert "1 host of the fleet: pci 14e4:168e (bnx2x): the initrd has no driver for it" in said
    assert said.count("[boot-nic-undriven]") == 1
    assert "fleet/hpe" in said
    current = proven.tree.current("site", "stable")
    assert current is not None
    assert current.entry.version == "1"


def test_a_build_that_never_drove_a_host_may_go_on_without(proven: Proven) -> None:
    for version in ("1", "2"):
        know(proven, version, drivers(initrd={f"{MODULES}/kernel/drivers/bnx2x.ko": None}))

    assert [promoted(proven, "1"), promoted(proven, "2")] == ["1", "2"]


def test_a_machine_type_that_guests_have_and_the_new_build_lacks_refuses_it(proven: Proven) -> None:
    guests = '\n[seen.guests]\nstate = "whole"\nmachine_types = {"pc-q35-9.2" = 3, "pc-own" = 1}\n'
    (proven.folder / "fleet" / "dell.toml").write_text(text(NIC, RAID) + guests)
    for version in ("1", "2"):
        know(proven, version, drivers())
    assert promoted(proven, "1", offers=GuestContract(machine_types={"pc-q35-9.2": "", "q35": ""})) == "1"

    with pytest.raises(NotPromoted) as error:
        promoted(proven, "2", offers=GuestContract(machine_types={"q35": ""}))

    assert "1 host of the fleet: machine type pc-q35-9.2: guests have it" in str(error.value)
    assert "pc-own" not in str(error.value), "the published build lacks it too"


def test_a_dropped_driver_that_no_host_has_is_a_note(proven: Proven) -> None:
    aliases = ALIASES + small_fleet.alias(0x1924, 0x0A03, "sfc")
    know(proven, "1", drivers(both={f"{MODULES}/kernel/drivers/sfc.ko": module(), f"{MODULES}/modules.alias": aliases}))
    know(proven, "2", drivers())
    notes = list[str]()
    promoted(proven, "1", notes)
    assert notes == []

    assert promoted(proven, "2", notes) == "2"

    assert notes == ["dropped, and used by no host of the fleet: sfc"]


@pytest.mark.parametrize("fault", ["missing", "empty", "unreadable", "image"])
def test_a_fleet_that_is_not_judged_refuses_also_the_first_build(proven: Proven, fault: str) -> None:
    if fault != "image":
        know(proven, "1", drivers())
    folder = proven.folder / "fleet"
    if fault in ("missing", "empty"):
        for file in folder.iterdir():
            file.unlink()
    if fault == "missing":
        folder.rmdir()
    if fault == "unreadable":
        (folder / "x.toml").write_bytes(b"\xff")

    with pytest.raises(NotPromoted) as error:
        promoted(proven, "1")

    wanted = {
        "missing": "is not a folder",
        "empty": "has no file *.toml",
        "unreadable": "is not a text",
        "image": "file by file",
    }
    assert wanted[fault] in str(error.value)


# The decision alone


def said(proven: Proven, rules: StreamRules, fleet: FleetChange | None) -> list[str]:
    verdict = proven.verdict(proven.artifacts())
    new = ProvenBuild(verdict=verdict, runs=(verdict,), sizes={}, packages=1)
    return [refusal.why for refusal in refusals(rules, new, None, NOW, fleet)]


def test_the_decision_needs_no_file(proven: Proven) -> None:
    rules = StreamRules(fleet="fleet/")

    assert said(proven, rules, FleetChange(hosts=3)) == []
    assert said(proven, rules, FleetChange(hosts=3, unused=("sfc",))) == []
    assert said(proven, rules, FleetChange(hosts=9, losses=(LOSS,))) == [
        "3 hosts of the fleet: pci 14e4:168e (bnx2x): no driver [boot-nic-undriven]: a, b and 1 more"
    ]
    assert said(proven, rules, FleetChange(problem="it is empty")) == ["it is empty"]
    assert said(proven, rules, None) == ["the fleet was not judged"]
    assert said(proven, StreamRules(), None) == []


def test_a_loss_can_be_waived_by_its_device(proven: Proven) -> None:
    waiver = (
        'fleet = "fleet/"\n[[streams.stable.waive]]\nfinding = "boot-nic-undriven"\nwhere = "14e4:168e"\n'
        'by = "ann"\nreason = "retired"\nuntil = 2026-12-31\n'
    )
    know(proven, "1", drivers())
    know(proven, "2", drivers(initrd={f"{MODULES}/kernel/drivers/bnx2x.ko": None}))
    proven.demand(waiver)

    assert [promoted(proven, "1"), promoted(proven, "2")] == ["1", "2"]

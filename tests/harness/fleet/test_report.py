"""One image against a fleet: counts by model, each reason once, losses against another version, bad files at the
end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.fleet import Effect, compare, judge
from harness.fleet import report as reports

from ...small_fleet import ALIASES, BNX2X, MODULES, NIC, RAID, alias, drivers, module, text
from ...small_image import Content

KO = f"{MODULES}/kernel/drivers"
OTHER = replace(NIC, id="14e4:168e", driver="bnx2x", module="bnx2x", modalias=BNX2X.modalias)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Three hosts of one model, two of another."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    for number in range(3):
        (folder / f"dell{number}.toml").write_text(text(NIC, RAID))
    for number in range(2):
        (folder / f"hpe{number}.toml").write_text(text(OTHER, RAID, model="HPE DL380", level=1))
    return folder


def test_hosts_are_counted_by_model_and_reasons_once(fleet: Path) -> None:
    report = judge([fleet], drivers(initrd={f"{KO}/bnx2x.ko": None}))

    assert [(row.model, row.hosts, row.boot, row.will_not_boot) for row in report.models] == [
        ("Dell R730", 3, 3, 0),
        ("HPE DL380", 2, 0, 2),
    ]
    assert [(one.id, one.hosts, len(one.names)) for one in report.reasons] == [("boot-nic-undriven", 2, 2)]
    assert report.reasons[0].names[0].endswith("fleet/hpe0")
    assert report.count(Effect.WILL_NOT_BOOT) == 2
    assert report.losses == report.reasons


def test_bad_files_are_sentences_and_the_others_are_judged(fleet: Path) -> None:
    (fleet / "bad.toml").write_bytes(b"\xff")

    report = judge([fleet, fleet.parent / "none.toml"], drivers())

    assert report.hosts == 5
    assert [sentence.rpartition("/")[2] for sentence in report.unread] == [
        "bad.toml is not a text",
        "none.toml cannot be read: No such file or directory",
    ]


def test_only_what_is_lost_is_shown_against_another_version(fleet: Path) -> None:
    old = drivers(initrd={f"{KO}/bnx2x.ko": None})
    new = drivers(initrd={f"{KO}/bnx2x.ko": None, f"{KO}/megaraid_sas.ko": None})

    report = judge([fleet], new, old)

    assert [(one.id, one.hosts) for one in report.reasons] == [("boot-disk-undriven", 5)]
    assert judge([fleet], old, new).reasons == ()


def test_reasons_beyond_the_bound_are_counted(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_MOST_REASONS", 1)

    report = judge([fleet], drivers(initrd={f"{KO}/bnx2x.ko": None, f"{KO}/e1000e.ko": None}))

    assert (len(report.reasons), report.not_shown) == (1, 2)


def test_a_dropped_driver_that_a_host_uses_is_a_loss_and_another_is_none(fleet: Path) -> None:
    more: dict[str, Content] = {
        f"{KO}/sfc.ko": module(), f"{MODULES}/modules.alias": ALIASES + alias(0x1924, 0x0A03, "sfc"),
    }  # fmt: skip
    old = drivers(both=more)
    gone = drivers(both={f"{MODULES}/modules.alias": ALIASES.replace("bnx2x", "bnx2x_gone")})

    change = compare(fleet, gone, old)

    assert [(one.id, one.hosts) for one in change.losses] == [("boot-nic-undriven", 2)]
    assert change.unused == ("sfc",)
    assert compare(fleet, old, drivers()).losses == ()
    assert compare(fleet, drivers(), None) == reports.FleetChange(hosts=5)


@pytest.mark.parametrize("kind", ["missing", "empty", "a bad file"])
def test_a_fleet_that_is_not_read_is_a_problem(kind: str, fleet: Path, tmp_path: Path) -> None:
    folder = fleet if kind == "a bad file" else tmp_path / "other"
    if kind == "empty":
        folder.mkdir()
    if kind == "a bad file":
        (folder / "x.toml").write_text("a = ")

    assert compare(folder, drivers(), None).problem

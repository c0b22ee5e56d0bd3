"""`bootproof fits`: a table by model, each reason once, JSON, and the exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core import serialization
from harness.fleet import ImageDrivers
from harness.model.artifacts import MANIFEST, Manifest, load_artifacts
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.model.verdict import RuntimeProfile
from harness.runs import history
from harness.store.store import find_store

from ...small_fleet import MODULES, NIC, RAID, drivers, text
from ...small_image import record
from ..proven import Proven


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Artifacts whose drivers are in the store already: the initrd lacks megaraid_sas."""
    return known(tmp_path, monkeypatch, "bad", drivers(initrd={f"{MODULES}/kernel/drivers/megaraid_sas.ko": None}))


def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: ImageDrivers) -> Path:
    from ...small_image import image

    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    folder = tmp_path / name
    folder.mkdir()
    files = {}
    for file in ("vmlinuz", "initrd.img", "rootfs.squashfs"):
        (folder / file).write_bytes(b"x")
        files[file] = record(1)
    manifest: Manifest = replace(image().manifest, version=name, files=files)
    serialization.write(folder / MANIFEST, manifest)
    (tmp_path / "store" / "drivers").mkdir(parents=True, exist_ok=True)
    serialization.write(tmp_path / "store" / "drivers" / f"{manifest.digest}.json", replace(value, version=name))
    return folder


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    folder = tmp_path / "fleet"
    folder.mkdir()
    for number in range(5):
        (folder / f"r{number}.toml").write_text(text(NIC, RAID))
    (folder / "hpe.toml").write_text(text(NIC, model="HPE DL380"))
    return folder


def test_a_table_by_model_and_each_reason_once(build: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fits", str(build), str(fleet)]) == 1

    printed = capsys.readouterr().out
    print(printed)
    rows = [line.split() for line in printed.splitlines()]
    assert ["Dell", "R730", "5", "0", "5", "0", "0", "0"] in rows
    assert ["HPE", "DL380", "1", "1", "0", "0", "0", "1"] in rows
    assert printed.count("[boot-disk-undriven]") == 1
    assert "will not boot, 5 hosts: pci 1000:005d (megaraid_sas): the initrd has no driver for it" in printed
    assert "    | the root file system has megaraid_sas\n" in printed
    assert f"    hosts: {fleet}/r0, {fleet}/r1, {fleet}/r2 and 2 more\n" in printed
    assert printed.splitlines()[-1].endswith("6 hosts: 5 will not boot, 1 not told")


def test_json_has_all_hosts(build: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fits", str(build), str(fleet / "r0.toml"), str(fleet / "r1.toml"), "--json"]) == 1

    report = json.loads(capsys.readouterr().out)
    assert report["hosts"] == 2
    assert [(one["id"], one["effect"], one["names"]) for one in report["reasons"]] == [
        ("boot-disk-undriven", "will not boot", [f"{fleet}/r0", f"{fleet}/r1"])
    ]


def test_hosts_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = known(tmp_path, monkeypatch, "good", drivers())

    assert main(["fits", str(good), str(fleet / "r0.toml")]) == 0

    assert capsys.readouterr().out.splitlines()[-1].endswith("1 host: all fit")


def test_only_losses_against_a_previous_build(
    build: Path, fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = known(tmp_path, monkeypatch, "good", drivers())

    assert main(["fits", str(build), str(fleet), "--previous", str(good)]) == 1
    printed = capsys.readouterr().out
    assert "[boot-disk-undriven]" in printed
    assert "not told" not in printed.splitlines()[-1]
    assert main(["fits", str(build), str(fleet), "--previous", str(build)]) == 0
    assert main(["fits", str(good), str(fleet), "--previous", str(build)]) == 0


@pytest.mark.parametrize("place", ["bad.toml", "none"])
def test_bad_input_is_a_sentence_each_and_the_others_are_judged(
    place: str, build: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fleet / "bad.toml").write_text("schema = 9\n")

    assert main(["fits", str(build), str(fleet / "r0.toml"), str(fleet / place)]) == 4

    printed = capsys.readouterr()
    assert "[boot-disk-undriven]" in printed.out
    assert printed.err.startswith(f"bootproof: {fleet / place}")
    assert len(printed.err.splitlines()) == 1


def test_a_build_that_is_not_there_is_a_sentence(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))

    assert main(["fits", "none", str(fleet)]) == 4
    assert capsys.readouterr().err.startswith("bootproof: no artifacts of none")


def test_what_a_run_of_the_build_offered_to_guests_is_compared_with_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = known(tmp_path, monkeypatch, "good", drivers())
    for number in range(5):
        (fleet / f"r{number}.toml").write_text(text(NIC, RAID) + '[seen.guests]\nmachine_types = {"pc-q35-9.2" = 2}\n')
    assert main(["fits", str(good), str(fleet)]) == 0
    assert "whether guests start: no run of the image is known here [guests-not-told]" in capsys.readouterr().out

    proven = Proven(tmp_path)
    offered = GuestContract(programs={"QEMU": "11.0.0"}, machine_types={"q35": "alias of pc-q35-11.0"})
    verdict = proven.verdict(load_artifacts(good))
    profile = RuntimeProfile(memory_mib=1, sockets=(), users={}, groups={}, links={}, units={})
    seen = replace(profile, host=HostFacts(guests=offered))
    run = tmp_path / "run"
    run.mkdir()
    serialization.write(run / "verdict.json", replace(verdict, runtime_profile=seen))
    history.keep(find_store(), verdict, run)

    assert main(["fits", str(good), str(fleet)]) == 1
    printed = capsys.readouterr().out
    assert (
        "missing, 5 hosts: machine type pc-q35-9.2: guests have it, and QEMU 11.0.0 of the image does not: "
        "they neither start nor migrate [guest-contract-broken]"
    ) in printed
    assert f"    hosts: {fleet}/r0, {fleet}/r1, {fleet}/r2 and 2 more\n" in printed

"""diff: which builds it finds, and which boots it counts for them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.core import serialization
from harness.model.verdict import RuntimeProfile, Unit
from harness.promotion.select import TREE_VARIABLE
from harness.runs import history
from harness.store.store import find_store

from ..proven import Proven

NEXT = "1+next"


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proven:
    """A store with both versions of an image, and a tree that has version 1."""
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    monkeypatch.setenv(TREE_VARIABLE, str(tmp_path / "tree"))
    made = Proven(tmp_path)
    made.demand()
    for version in ("1", NEXT):
        artifacts = made.artifacts(version)
        shutil.copytree(artifacts.folder, tmp_path / "store" / "artifacts" / artifacts.digest)
    made.promote("1")
    return made


def compared(capsys: pytest.CaptureFixture[str], old: str, new: str) -> dict[str, Any]:
    """What ``bootproof diff`` prints: its sections by name."""
    assert main(["diff", old, new, "--json"]) == 0
    return {section["name"]: section for section in json.loads(capsys.readouterr().out)["sections"]}


@pytest.mark.parametrize("version", ["1+next", "1~rc1", "1^git20261129"])
def test_every_version_of_a_definition_is_found_also_with_a_tree(
    proven: Proven, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    artifacts = proven.artifacts(version)
    place = find_store().root / "artifacts" / artifacts.digest
    if not place.exists():
        shutil.copytree(artifacts.folder, place)

    assert main(["diff", "site@stable", f"site@{version}"]) == 0
    assert version in capsys.readouterr().out
    assert main(["diff", "site@stable", f"site@{version}.2"]) == 4
    assert f"no artifacts of site@{version}.2 in" in capsys.readouterr().err


def test_boots_of_an_upgrade_count_for_the_version_that_they_ran(
    proven: Proven, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = proven.artifacts("1"), proven.artifacts(NEXT)
    before, after = proven.verdict(old), proven.verdict(new, boots=2, slower=2.0)
    units = {"ssh.service": Unit(state="active", begins_s=1.0, ready_s=2.0)}
    seen = RuntimeProfile(memory_mib=300, sockets=(), users={}, groups={}, links={}, units=units)
    verdict = replace(before, boots=(*before.boots, *after.boots), runtime_profile=seen)
    folder = proven.folder / "run"
    folder.mkdir()
    serialization.write(folder / "verdict.json", verdict)
    assert compared(capsys, "site@1", f"site@{NEXT}")["boot phases"]["unknown"] == "no boot of OLD or NEW is known"

    assert history.keep(find_store(), verdict, folder) == ""

    found = compared(capsys, old.digest, f"site@{NEXT}")
    assert found["boot phases"]["unknown"] == ""
    assert "OLD booted 3 times, NEW 2" in found["boot phases"]["notes"]
    ready = next(entry for entry in found["boot phases"]["entries"] if entry["what"] == "direct, until ready")
    assert (ready["old"], ready["new"]) == ("54.0 s (54.0 to 54.0, 3 boots)", "108.0 s (108.0 to 108.0, 2 boots)")
    place = find_store().root / "artifacts" / new.digest
    command = f"run pytest --image site --artifacts {place}"
    assert found["units"]["unknown"] == f"no known run of NEW recorded them; {command}"


@pytest.mark.usefixtures("proven")
def test_only_what_hosts_show_is_printed_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "site@1", f"site@{NEXT}", "--on-hosts"]) == 0
    printed = capsys.readouterr().out
    assert "sysctl" in printed
    assert "packages" not in printed


@pytest.mark.usefixtures("proven")
def test_data_that_is_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "site@1", f"site@{NEXT}", "--data", "nowhere"]) == 4
    assert "nowhere is not a folder; --data names a copy of a host's /data" in capsys.readouterr().err

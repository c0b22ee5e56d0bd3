"""``bootproof history IMAGE``: the runs of this host by version."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.runs import history
from harness.store.store import Store

from ..runs.test_history import boot, run_folder, verdict


def test_the_newest_version_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    for hour, version in enumerate(["1", "2"]):
        seen = verdict(boot(80.0, digest=version * 64), version=version, digest=version * 64, hour=hour)
        history.keep(Store(tmp_path / "store"), seen, run_folder(tmp_path, version, seen))

    assert main(["history", "base"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["version", "2", "1"]
    assert "1 of 1" in lines[1]
    assert "ipxe-bios tcg 80 s" in lines[1]

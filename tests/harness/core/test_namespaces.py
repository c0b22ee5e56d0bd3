"""Programs in namespaces of their own."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from harness.core import namespaces


@pytest.mark.parametrize(
    ("line", "is_enough"),
    [("{user}:100000:65536", True), ("{uid}:100000:65536", True), ("{user}:100000:1000", False),
     ("somebody:100000:65536", False), ("", False)],
)  # fmt: skip
def test_65536_subordinate_ids_are_needed(line: str, is_enough: bool, tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(f"# ids\n{line.format(user=getpass.getuser(), uid=os.getuid())}\n")

    assert namespaces.has_ids(file, getpass.getuser()) is is_enough


def test_a_missing_file_gives_no_ids(tmp_path: Path) -> None:
    assert not namespaces.has_ids(tmp_path / "missing", "root")


def test_a_build_sees_no_variables_of_its_user_but_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "xx_XX")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")

    environment = namespaces.environment(MORE="1")

    assert "LANG" not in environment
    assert (environment["https_proxy"], environment["MORE"], environment["HOME"]) == ("http://proxy:3128", "1", "/root")

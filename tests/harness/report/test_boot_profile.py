"""The profile of a boot on the terminal and as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.tables import show
from harness.model.boot_profile import Slice, UnitUse
from harness.report.boot_profile import boxes, tables, write_page

from ..model.test_boot_profile import PROFILE


def test_the_tables_name_phases_units_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for table in tables(PROFILE):
        show(table)

    text = re.sub(" +", " ", capsys.readouterr().out)
    assert "user space 30.0 20.0" in text
    assert "all 52.0 31.0" in text
    assert "2.0 1.2 [ 1.2] RAS: initialized." in text
    assert "nova-compute.service 30.0 user space" in text
    assert "nova-compute 25.0 5.0 nova-compute.service" in text


def test_the_picture_stacks_each_part_under_its_whole_and_leaves_out_what_nobody_sees() -> None:
    tiny = Slice(name="tiny", cpu_s=0.001, kind="kernel")
    inner = Slice(name="inner", cpu_s=5.0, kind="kernel")
    root = Slice(
        name="boot",
        cpu_s=20.0,
        kind="boot",
        parts=(
            Slice(name="a", cpu_s=10.0, kind="kernel"),
            Slice(name="b", cpu_s=10.0, kind="kernel", parts=(tiny, inner)),
        ),
    )

    drawn = [(box.name, box.left, box.width, box.depth) for box in boxes(root)]

    assert drawn == [("boot", 0.0, 100.0, 0), ("a", 0.0, 50.0, 1), ("b", 50.0, 50.0, 1), ("inner", 50.0, 25.0, 2)]


def test_the_page_is_one_file_without_scripts_and_escapes_names(tmp_path: Path) -> None:
    profile = replace(PROFILE, units=(UnitUse(unit="<b>.service", phase="userspace", cpu_s=3.0),))

    write_page(profile, tmp_path / "profile.html")

    page = (tmp_path / "profile.html").read_text("utf-8")
    assert "<script" not in page
    assert "http:" not in page
    assert "&lt;b&gt;.service: 3.0 s, 9.7 %" in page


def test_a_page_that_cannot_be_written_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_page(PROFILE, tmp_path / "missing" / "profile.html")

"""The packages of a tree are read from its own database."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.pack import packages
from harness.packages.dpkg import Dpkg

STATUS = "Package: bash\nStatus: install ok installed\nVersion: 5.2.37-2\n"


@pytest.mark.parametrize("is_link", [False, True])
def test_the_database_is_read_also_through_links_inside_of_the_tree(tmp_path: Path, *, is_link: bool) -> None:
    place = tmp_path / "tree" / ("usr/state" if is_link else "var/lib/dpkg")
    place.mkdir(parents=True)
    (place / "status").write_text(STATUS)
    if is_link:
        (tmp_path / "tree/var/lib").mkdir(parents=True)
        (tmp_path / "tree/var/lib/dpkg").symlink_to("../../usr/state")

    assert packages(tmp_path / "tree", Dpkg()) == {"bash": "5.2.37-2"}


def test_a_link_does_not_lead_to_the_hosts_database(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/status").write_text(STATUS)
    (tmp_path / "tree/var/lib").mkdir(parents=True)
    (tmp_path / "tree/var/lib/dpkg").symlink_to(tmp_path / "host")

    assert packages(tmp_path / "tree", Dpkg()) == {}

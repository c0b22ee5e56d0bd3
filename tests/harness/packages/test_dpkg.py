"""What dpkg's database says of a tree, of an image and of a guest."""

from __future__ import annotations

import pytest

from harness.packages import DATABASES, database_of, installed_by, owners
from harness.packages.dpkg import Dpkg

STATUS = b"""Package: bash
Status: install ok installed
Version: 5.2.37-2

Package: nano
Status: deinstall ok config-files
Version: 8.4-1

Package: dpkg
Status: hold ok installed
Version: 1.22.21
"""


def test_only_installed_packages_are_in_a_list() -> None:
    printed = "installed bash 5.2.37-2\nconfig-files nano 8.4-1\ninstalled dpkg 1.22.21\n"

    assert Dpkg().read_list(printed) == {"bash": "5.2.37-2", "dpkg": "1.22.21"}
    assert installed_by({"var/lib/dpkg/status": STATUS}) == {"bash": "5.2.37-2", "dpkg": "1.22.21"}


def test_a_tree_without_a_database_has_no_packages() -> None:
    assert installed_by({}) == {}
    assert owners({}, {}) == {}


def test_the_database_is_that_of_the_package_manager_in_the_image() -> None:
    assert isinstance(database_of({"bash": "1", "dpkg": "1"}), Dpkg)
    assert database_of({"bash": "1"}) is None
    assert len({database.manager for database in DATABASES}) == len(DATABASES)


@pytest.mark.parametrize(("base_files", "vendor"), [("13.8+deb13u1", "debian"), ("14ubuntu3", "ubuntu")])
def test_the_vendor_is_that_of_the_packages(base_files: str, vendor: str) -> None:
    assert Dpkg().vendor({"base-files": base_files}) == vendor


def test_a_path_has_the_package_that_lists_it_and_none_if_two_do() -> None:
    lists = {
        "var/lib/dpkg/info/tool.list": b"/.\n/bin\n/bin/tool\n/usr/share/both\n",
        "var/lib/dpkg/info/lib:amd64.list": b"/usr/lib/lib.so\n/usr/share/both\n",
        "etc/passwd": b"root:x:0:0\n",
    }

    found = owners(lists, {"bin": "usr/bin"})

    assert found["usr/bin/tool"] == "tool"
    assert found["usr/lib/lib.so"] == "lib"
    assert found["usr/share/both"] == ""
    assert found["bin"] == "tool"

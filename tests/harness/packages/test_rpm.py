"""What rpm's database says of a tree, of an image and of a guest.

``rpmdb.sqlite.gz`` was made by ``rpm --import`` and ``rpm -i --justdb`` of rpm 4.18, with setup, dash and zlib1g
of ``tests/system/rpm_repository.py``; ``Packages.db.gz`` is the same in ndb, by ``rpm --rebuilddb`` of rpm 4.20.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.core.errors import ImageError
from harness.packages import installed_by, owners
from harness.packages.rpm import Rpm

INSTALLED = {"dash": "0.5.12-12", "setup": "1-1", "zlib1g": "1:1.3.dfsg+really1.3.1-1+deb13u1"}


def recorded(name: str) -> bytes:
    return gzip.decompress((Path(__file__).parent / f"{name}.gz").read_bytes())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("rpmdb.sqlite", "usr/lib/sysimage/rpm"),
        ("rpmdb.sqlite", "var/lib/rpm"),
        ("Packages.db", "usr/lib/sysimage/rpm"),
    ],
)
def test_packages_and_owners_are_read_from_both_formats(name: str, place: str) -> None:
    files = {f"{place}/{name}": recorded(name)}

    found = owners(files, {"lib": "usr/lib"})

    assert installed_by(files) == INSTALLED
    assert found["etc/passwd"] == "setup"
    assert found["usr/bin/sh"] == "dash"
    assert found["usr/lib/x86_64-linux-gnu/libz.so.1"] == "zlib1g"


def test_the_query_in_a_guest_gives_the_same_without_the_keys() -> None:
    printed = "gpg-pubkey 2545dad7-6b0cb6c1\nzlib1g 1:1.3.dfsg+really1.3.1-1+deb13u1\ndash 0.5.12-12\nsetup 1-1\n"

    assert Rpm().read_list(printed) == INSTALLED


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" + bytes(100), b"RpmP" + bytes(8) + b"\1\0\0\0", b"\0\1\2\3\4"]
)
def test_a_damaged_or_unknown_database_is_an_error_and_not_empty(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"/var/lib/rpm/Packages\.db: rpm's database is damaged"):
        installed_by({"var/lib/rpm/Packages.db": content})


@pytest.mark.parametrize(
    ("package", "vendor"),
    [
        ("fedora-release-common", "fedora"),
        ("centos-stream-release", "centos"),
        ("openSUSE-release", "opensuse"),
        ("Leap-release", "opensuse"),
        ("lsb-release", ""),
    ],
)
def test_the_vendor_is_that_of_the_release(package: str, vendor: str) -> None:
    assert Rpm().vendor({"bash": "5.2", package: "42-1"}) == vendor


def test_the_epoch_is_a_qualifier_of_a_package_url() -> None:
    assert Rpm().purl_version("1:5.46-5") == ("5.46-5", {"epoch": "1"})
    assert Rpm().purl_version("5.46-5") == ("5.46-5", {})

"""What apk's database says of an image and of a guest; the format is that of apk-tools 2 (doc/apk-v2.5.scd)."""

from __future__ import annotations

import pytest

from harness.packages import database_of, installed_by, owners, sum_algorithm, sums
from harness.packages.apk import Apk

DATABASE = b"""C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:alpine-baselayout
V:3.6.5-r0
A:x86_64
F:etc
F:etc/profile.d
R:README
Z:Q135OWsCzzvnB2fmFx62kbqm1Ax1k=

C:Q1BTtF5526tETKfL+lnigzIDvm+2o=
P:apk-tools
V:2.14.4-r1
F:sbin
R:apk
a:0:0:755
"""
INSTALLED = {"alpine-baselayout": "3.6.5-r0", "apk-tools": "2.14.4-r1"}


@pytest.mark.parametrize("file", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_packages_and_owners_are_read_from_an_image(file: str) -> None:
    found = owners({file: DATABASE}, {"sbin": "usr/sbin"})

    assert installed_by({file: DATABASE}) == INSTALLED
    assert found["etc/profile.d/README"] == "alpine-baselayout"
    assert found["usr/sbin/apk"] == "apk-tools"


def test_the_list_of_a_guest_is_the_same() -> None:
    assert Apk().read_list("alpine-baselayout-3.6.5-r0\napk-tools-2.14.4-r1\n") == INSTALLED
    assert isinstance(database_of(INSTALLED), Apk)


def test_digests_are_those_of_the_files() -> None:
    file = "lib/apk/db/installed"

    assert sum_algorithm([file]) == "sha1"
    assert sums({file: DATABASE}, {}, "sha1") == {"etc/profile.d/README": "df9396b02cf3be70767e6171eb691baa6d40c759"}

"""What pacman's database says of an image and of a guest; as pacman 6.0.2 wrote and printed it."""

from __future__ import annotations

import gzip

import pytest

from harness.core.errors import ImageError
from harness.packages import database_of, installed_by, owners, sum_algorithm, sums
from harness.packages.pacman import Pacman

LOCAL = "var/lib/pacman/local"
FILES = {
    f"{LOCAL}/ALPM_DB_VERSION": b"9\n",
    f"{LOCAL}/pacman-6.0.2-9/desc": b"%NAME%\npacman\n\n%VERSION%\n6.0.2-9\n\n%BASE%\npacman\n\n%DESC%\nA pacman\n\n",
    f"{LOCAL}/pacman-6.0.2-9/files": b"%FILES%\nusr/\nusr/share/\nusr/share/pacman/\nusr/share/pacman/x\n\n",
    f"{LOCAL}/my-tool-1:2.0.1-3/desc": b"%NAME%\nmy-tool\n\n%VERSION%\n1:2.0.1-3\n\n%DEPENDS%\npacman\n\n",
    f"{LOCAL}/my-tool-1:2.0.1-3/files": b"%FILES%\nusr/\nusr/bin/\nusr/bin/tool\n\n",
}
INSTALLED = {"pacman": "6.0.2-9", "my-tool": "1:2.0.1-3"}


def test_packages_are_read_from_an_image_and_from_a_guest() -> None:
    assert installed_by(FILES) == INSTALLED
    assert Pacman().read_list("pacman 6.0.2-9\nmy-tool 1:2.0.1-3\n") == INSTALLED
    assert isinstance(database_of(INSTALLED), Pacman)


def test_a_path_has_the_package_that_lists_it_and_none_if_two_do() -> None:
    found = owners(FILES, {})

    assert found["usr/bin/tool"] == "my-tool"
    assert found["usr/share/pacman"] == "pacman"
    assert found["usr"] == ""


MTREE = f"{LOCAL}/my-tool-1:2.0.1-3/mtree"


def test_digests_are_in_a_compressed_list() -> None:
    text = (
        "#mtree\n/set type=file uid=0 gid=0 mode=644\n"
        f"./.PKGINFO time=1.0 size=3 md5digest={'0' * 32} sha256digest={'1' * 64}\n"
        f"./usr/bin/a\\040tool time=1.0 mode=755 size=3 md5digest={'0' * 32} sha256digest={'2' * 64}\n"
        f"./bin/tool time=1.0 mode=755 size=3 sha256digest={'3' * 64}\n./usr/lib time=1.0 mode=755 type=dir\n"
    )

    found = sums({MTREE: gzip.compress(text.encode(), mtime=0)}, {"bin": "usr/bin"}, "sha256")

    assert sum_algorithm([*FILES, MTREE]) == "sha256"
    assert found == {"usr/bin/a tool": "2" * 64, "usr/bin/tool": "3" * 64}


def test_a_damaged_list_is_a_sentence() -> None:
    with pytest.raises(ImageError, match="pacman's database is damaged"):
        sums({MTREE: b"nothing"}, {}, "sha256")

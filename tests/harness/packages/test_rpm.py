"""What rpm's database says of a tree, of an image and of a guest.

``rpmdb.sqlite.gz`` was made by ``rpm --import`` and ``rpm -i --justdb`` of rpm 4.18, with setup, dash and zlib1g
of ``tests/system/rpm_repository.py``; ``Packages.db.gz`` is the same in ndb, by ``rpm --rebuilddb`` of rpm 4.20.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from harness.core.errors import ImageError
from harness.packages import database_of, installed_by, owners, rights, sum_algorithm, sums
from harness.packages.database import Rights
from harness.packages.dpkg import Dpkg
from harness.packages.rpm import Rpm

INSTALLED = {"dash": "0.5.12-12", "setup": "1-1", "zlib1g": "1:1.3.dfsg+really1.3.1-1+deb13u1"}


def recorded(name: str) -> bytes:
    return gzip.decompress((Path(__file__).parent / f"{name}.gz").read_bytes())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("rpmdb.sqlite", "usr/lib/sysimage/rpm"),
        ("rpmdb.sqlite", "var/lib/rpm"),
        ("rpmdb.sqlite", "usr/share/rpm"),
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


def test_what_is_only_in_the_write_ahead_log_is_read_too(tmp_path: Path) -> None:
    file, place = tmp_path / "rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite"
    file.write_bytes(recorded("rpmdb.sqlite"))
    with closing(sqlite3.connect(file)) as base:
        assert base.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        base.execute("DELETE FROM Packages WHERE hnum = (SELECT max(hnum) FROM Packages)")
        base.commit()
        files = {place: file.read_bytes(), f"{place}-wal": file.with_name("rpmdb.sqlite-wal").read_bytes()}

    assert set(files) <= set(Rpm.files)
    assert len(installed_by(files)) == len(INSTALLED) - 1
    assert installed_by({place: files[place]}) == INSTALLED


def test_the_query_in_a_guest_gives_the_same_without_the_keys() -> None:
    printed = "gpg-pubkey 2545dad7-6b0cb6c1\nzlib1g 1:1.3.dfsg+really1.3.1-1+deb13u1\ndash 0.5.12-12\nsetup 1-1\n"

    assert Rpm().read_list(printed) == INSTALLED


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0" + bytes(100), b"RpmP" + bytes(8) + b"\1\0\0\0", b"\0\1\2\3\4"]
)
def test_a_damaged_or_unknown_database_is_an_error_and_not_empty(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"/var/lib/rpm/Packages\.db: rpm's database is damaged"):
        installed_by({"var/lib/rpm/Packages.db": content})


@pytest.mark.parametrize("name", ["rpmdb.sqlite", "Packages.db"])
def test_digests_and_rights_of_files_are_read_from_both_formats(name: str) -> None:
    files = {f"usr/lib/sysimage/rpm/{name}": recorded(name)}

    digests, given = sums(files, {"lib": "usr/lib"}, "sha256"), rights(files, {"lib": "usr/lib"})

    assert sum_algorithm(files) == "sha256"
    assert re.fullmatch("[0-9a-f]{64}", digests["usr/bin/dash"])
    assert "usr/bin/sh" not in digests, "a link has no contents"
    assert given["usr/bin/dash"] == Rights(mode=0o755, user="root", group="root")
    assert sums(files, {}, "md5") == {}


def test_a_digest_of_a_file_that_may_differ_is_left_out() -> None:
    """%ghost, %config outside /etc, and what --nodocs left out, in a package with capabilities."""
    names = b"conf\0ghost\0plain\0doc\0"
    flags, states, modes = struct.pack(">4I", 1, 64, 0, 0), bytes([0, 0, 0, 2]), struct.pack(">4H", *[0o100755] * 4)
    digests = b"".join(str(number).encode() * 64 + b"\0" for number in range(4))
    users, capable = b"root\0" * 4, b"\0\0cap_net_raw,cap_net_admin=ep\0\0"
    parts = [  # the numbers first, so that they are aligned
        ((1037, 4), flags), ((1116, 4), bytes(16)), ((5011, 1), struct.pack(">I", 8)), ((1030, 4), modes),
        ((1029, 4), states),
        ((1000, 1), b"a\0"), ((1117, 4), names), ((1118, 1), b"/usr/\0"), ((1035, 4), digests), ((1039, 4), users),
        ((1040, 4), users), ((5010, 4), capable),
    ]  # fmt: skip
    data, entries = b"", []
    for (tag, count), content in parts:
        entries.append((tag, len(data), count))
        data += content

    files = database(header(*entries, data=data))

    assert sums(files, {}, "sha256") == {"usr/plain": "2" * 64}
    assert rights(files, {}) == {
        "usr/conf": Rights(mode=0o755, user="root", group="root"),
        "usr/plain": Rights(
            mode=0o755, user="root", group="root", capabilities=frozenset({"cap_net_raw", "cap_net_admin"})
        ),
    }


def database(blob: object) -> dict[str, bytes]:
    """The files of a database with that one package."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob)")
        made.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
        made.commit()
        return {"var/lib/rpm/rpmdb.sqlite": made.serialize()}


def header(*entries: tuple[int, int, int], data: bytes) -> bytes:
    """A header whose entries are a tag, a place in ``data``, and a count."""
    rows = (struct.pack(">IIII", tag, 6, at, count) for tag, at, count in entries)
    return struct.pack(">II", len(entries), len(data)) + b"".join(rows) + data


NAME, VERSION, RELEASE = (1000, 0, 1), (1001, 2, 1), (1002, 4, 1)


def test_a_header_is_read() -> None:
    assert installed_by(database(header(NAME, VERSION, RELEASE, data=b"a\0b\0c\0"))) == {"a": "b-c"}


@pytest.mark.parametrize(
    "blob",
    [
        None,
        "x" * 40,
        b"",
        header(data=b""),
        header(NAME, data=b"a\0"),
        header(NAME, VERSION, (1002, 4, 2), data=b"a\0b\0c\0d\0"),
        header((1000, 90, 1), VERSION, RELEASE, data=b"a\0b\0c\0"),
    ],
    ids=["null", "text", "empty", "no name", "no version", "two releases", "a name outside"],
)
def test_a_package_that_cannot_be_read_is_an_error_and_no_crash(blob: object) -> None:
    with pytest.raises(ImageError, match=r"/var/lib/rpm/rpmdb\.sqlite: rpm's database is damaged"):
        installed_by(database(blob))


@pytest.mark.parametrize(("folder", "files"), [(7, 1), (0, 2)])
def test_paths_that_do_not_fit_together_are_an_error_and_no_crash(folder: int, files: int) -> None:
    data = struct.pack(">I", folder) + b"a\0b\0c\0/usr/\0"
    blob = header((1000, 4, 1), (1116, 0, 1), (1117, 6, files), (1118, 10, 1), data=data)

    with pytest.raises(ImageError, match="rpm's database is damaged"):
        owners(database(blob), {})


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


def test_an_image_may_have_the_package_manager_of_another_distribution() -> None:
    assert isinstance(database_of(["dpkg", "fedora-release-common", "rpm"]), Rpm)
    assert isinstance(database_of(["base-files", "dpkg", "lsb-release", "rpm"]), Dpkg)


def test_the_epoch_is_a_qualifier_of_a_package_url() -> None:
    assert Rpm().purl_version("1:5.46-5") == ("5.46-5", {"epoch": "1"})
    assert Rpm().purl_version("5.46-5") == ("5.46-5", {})

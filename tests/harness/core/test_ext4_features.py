"""The features of ext4 have the names that e2fsprogs gives them, also where a console has numbers only."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.core import process
from harness.core.debugfs import debugfs
from harness.core.ext4_features import _NAMES, names, refused, uncommon
from harness.guest.console_patterns import patterns_in


def test_each_bit_has_the_name_that_e2fsprogs_gives_it(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    process.output([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-O", "none", str(image)])
    all_names = [name for kind in _NAMES.values() for name in kind.values()]

    debugfs(image, f"feature {' '.join(all_names)}", writes=True)

    masks = struct.unpack("<III", image.read_bytes()[1024 + 0x5C : 1024 + 0x68])
    assert list(names(*masks)) == all_names


def test_what_every_release_makes_and_what_a_mount_sets_is_common() -> None:
    trixie = (0x103C, 0x22C2, 0x46B)
    assert uncommon(0x3C, 0x2C2, 0x46B) == ()
    assert uncommon(*trixie) == ("orphan_file", "metadata_csum_seed")
    assert uncommon(0x103C, 0x22C6, 0x1046B) == uncommon(*trixie), "mounted, with files that are open and removed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/dev/sda2 has unsupported feature(s): FEATURE_C12 FEATURE_R16", ("orphan_file", "orphan_present")),
        ("persist: FAILED: /x has unsupported feature(s): FEATURE_I30 casefold; a", ("FEATURE_I30", "casefold")),
        ("EXT4-fs (sda2): couldn't mount RDWR because of unsupported optional features (4000)", ("shared_blocks",)),
        ("EXT4-fs (sda2): couldn't mount because of unsupported optional features (2000)", ("metadata_csum_seed",)),
        ("EXT4-fs (sda2): Couldn't mount because of unsupported optional features (80000)", ("FEATURE_I19",)),
        ("EXT4-fs (sda2): mounted filesystem with ordered data mode", ()),
    ],
)  # fmt: skip
def test_refused_features_are_named(line: str, expected: tuple[str, ...]) -> None:
    assert refused(line) == expected


def test_a_finding_names_them() -> None:
    line = (
        "persist: FAILED: the file system on /dev/sda2 has unsupported feature(s): FEATURE_C12; a newer version made it"
    )
    (pattern,) = patterns_in(line, is_emulated=False)

    assert pattern.id == "rollback-not-safe"
    assert pattern.says(line).endswith(": orphan_file")

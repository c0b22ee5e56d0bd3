"""The features of an ext4 file system, by name: those that a superblock has, and those that a console says are unknown.

A program or kernel that does not know a feature cannot name it: e2fsck prints FEATURE_C12, the kernel a bit mask.
"""

from __future__ import annotations

import re

_NAMES = {
    "C": {
        0: "dir_prealloc", 1: "imagic_inodes", 2: "has_journal", 3: "ext_attr", 4: "resize_inode", 5: "dir_index",
        6: "lazy_bg", 8: "snapshot_bitmap", 9: "sparse_super2", 10: "fast_commit", 11: "stable_inodes",
        12: "orphan_file",
    },
    "I": {
        0: "compression", 1: "filetype", 2: "needs_recovery", 3: "journal_dev", 4: "meta_bg", 6: "extent", 7: "64bit",
        8: "mmp", 9: "flex_bg", 10: "ea_inode", 12: "dirdata", 13: "metadata_csum_seed", 14: "large_dir",
        15: "inline_data", 16: "encrypt", 17: "casefold",
    },
    "R": {
        0: "sparse_super", 1: "large_file", 3: "huge_file", 4: "uninit_bg", 5: "dir_nlink", 6: "extra_isize",
        8: "quota", 9: "bigalloc", 10: "metadata_csum", 11: "replica", 12: "read-only", 13: "project",
        14: "shared_blocks", 15: "verity", 16: "orphan_present",
    },
}  # fmt: skip
"""By kind (compatible, incompatible, read-only compatible) and bit: e2fsprogs 1.47, lib/e2p/feature.c."""

_COMMON = frozenset({
    "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg", "sparse_super",
    "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
})  # fmt: skip
_PASSING = frozenset({"needs_recovery", "orphan_present"})
_REFUSED = re.compile(r"\bunsupported feature\(s\): ([\w -]+)")
_UNKNOWN = re.compile(r"FEATURE_([CIR])(\d+)")
_MASK = re.compile(r"\b[Cc]ouldn.t mount (RDWR )?because of unsupported optional features \(([0-9a-f]+)\)")


def names(compatible: int, incompatible: int, read_only: int) -> tuple[str, ...]:
    """The features whose bits are set in the three fields of a superblock; an unknown one as dumpe2fs(8) prints it."""
    fields = zip("CIR", (compatible, incompatible, read_only), strict=True)
    return tuple(_name(kind, bit) for kind, field in fields for bit in range(32) if field >> bit & 1)


def uncommon(compatible: int, incompatible: int, read_only: int) -> tuple[str, ...]:
    """Those that e2fsprogs 1.43 and Linux 4.4, of 2016, do not make by default. Left out are those that only say that
    the file system is mounted."""
    return tuple(name for name in names(compatible, incompatible, read_only) if name not in _COMMON | _PASSING)


def refused(line: str) -> tuple[str, ...]:
    """The features because of which e2fsck or the kernel refuses a file system in ``line``; none in other lines."""
    if match := _REFUSED.search(line):
        return tuple(_UNKNOWN.sub(lambda bit: _name(bit[1], int(bit[2])), word) for word in match[1].split())
    if match := _MASK.search(line):
        mask = int(match[2], 16)
        return names(0, 0, mask) if match[1] else names(0, mask, 0)
    return ()


def _name(kind: str, bit: int) -> str:
    return _NAMES[kind].get(bit, f"FEATURE_{kind}{bit}")

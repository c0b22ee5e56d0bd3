"""Mount options and file systems that lose data, and swap."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import storage
from harness.examine.storage import Mount, Superblock, Swap

MOUNTS = """\
22 1 0:21 / / rw,relatime shared:1 - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs
30 22 8:2 / /data rw,relatime shared:9 - ext4 /dev/sda2 rw,errors=remount-ro
31 22 8:2 /a\\040b /mnt/a\\040b rw shared:9 - ext4 /dev/sda2 rw,errors=remount-ro"""
GOOD = ("rw", "relatime", "errors=remount-ro")


def superblock(compatible: int = 0x3C, errors: int = 2, magic: bytes = b"\x53\xef", defaults: bytes = b"\x0c\0") -> str:
    raw = bytearray(264)
    raw[0x38:0x3A], raw[0x3C], raw[0x5C], raw[0x100:0x102] = magic, errors, compatible, defaults
    return " ".join(f"{byte:02x}" for byte in raw)


def found(*options: str, kind: str = "ext4", block: Superblock | None = None) -> list[str]:
    mount = Mount(place="/data", kind=kind, source="/dev/sda2", options=options)
    judged = list(storage.judge([mount], [], {"/dev/sda2": block or Superblock()}))
    assert {one.id for one in judged} <= {"data-at-risk"}
    return [one.what for one in judged]


def test_mounts_are_read() -> None:
    root, data, inner = storage.parse_mounts({"mounts": MOUNTS})

    assert (root.place, root.kind, root.is_on_disk) == ("/", "overlay", False)
    assert root.value("upperdir") == "/run/overlayfs"
    assert (data.source, data.is_on_disk, data.value("errors")) == ("/dev/sda2", True, "remount-ro")
    assert inner.place == "/mnt/a b"


def test_a_superblock_is_read() -> None:
    mounts = storage.parse_mounts({"mounts": MOUNTS})
    (probe,) = storage.superblock_probes(mounts)
    read = storage.parse_superblocks({probe.name: superblock()}, mounts)["/dev/sda2"]

    assert "has_journal" in read.features
    assert read == Superblock(features=read.features)
    tuned = superblock(defaults=b"\x6c\x01")
    read = storage.parse_superblocks({probe.name: tuned}, mounts)["/dev/sda2"]
    assert read.writes_back
    assert read.has_no_barrier
    with pytest.raises(ImageError, match="superblock"):
        storage.parse_superblocks({probe.name: superblock(magic=b"\0\0")}, mounts)


def test_swaps_are_read() -> None:
    text = (
        "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0  partition 1048572 12 100\n/data/swap\\040file file 99 0 -2"
    )

    assert storage.parse_swaps({"swaps": text}) == (
        Swap(name="/dev/zram0", kind="partition", used_kib=12),
        Swap(name="/data/swap file", kind="file"),
    )
    with pytest.raises(ImageError, match="swaps"):
        storage.parse_swaps({"swaps": "sorry"})


def test_a_usual_file_system_is_in_order() -> None:
    assert found(*GOOD) == []
    assert found("rw", "noatime", "lazytime", "commit=30") == []
    assert found(*GOOD, block=Superblock(goes_on_after_errors=True)) == []


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("nobarrier", "barriers"),
        ("barrier=0", "barriers"),
        ("data=writeback", "writeback"),
        ("norecovery", "norecovery"),
        ("commit=600", "600 s"),
        ("noauto_da_alloc", "empty"),
        ("errors=continue", "errors=continue"),
    ],
)
def test_an_option_that_loses_data_is_found(option: str, word: str) -> None:
    (what,) = found("rw", option)

    assert word in what


@pytest.mark.parametrize(
    "block",
    [
        Superblock(features=()),
        Superblock(goes_on_after_errors=True),
        Superblock(writes_back=True),
        Superblock(has_no_barrier=True),
    ],
    ids=["no-journal", "goes-on", "writeback", "no-barrier"],
)
def test_a_file_system_that_was_made_so_is_found(block: Superblock) -> None:
    assert len(found("rw", "relatime", block=block)) == 1


def test_a_mount_option_counts_before_that_of_the_file_system() -> None:
    block = Superblock(writes_back=True, has_no_barrier=True)

    assert found(*GOOD, "data=ordered", "barrier", block=block) == []


def test_another_kind_without_a_journal_and_read_only_data_are_found() -> None:
    assert found("rw", kind="ext2")
    assert found("ro", "relatime") == ["it is mounted read-only"]


def test_swap_of_each_kind_is_named() -> None:
    mounts = [Mount(place="/", kind="overlay", source="x"), Mount(place="/data", kind="ext4", source="/dev/sda2")]
    swaps = [
        Swap(name="/dev/zram0", kind="partition"),
        Swap(name="/dev/sdb1", kind="partition"),
        Swap(name="/data/swapfile", kind="file"),
    ]
    judged = list(storage.judge(mounts, swaps, {}))

    assert [one.path for one in judged] == ["swap:/dev/zram0", "swap:/dev/sdb1", "swap:/data/swapfile"]
    assert {one.id for one in judged} == {"swap-in-use"}
    assert "a file of /data" in judged[2].what

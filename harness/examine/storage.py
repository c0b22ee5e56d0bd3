"""File systems that keep what is written to them, and no swap."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.core.ext4_features import names
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_MOUNTS = Probe("mounts", "cat /proc/self/mountinfo")
_SWAPS = Probe("swaps", "cat /proc/swaps")
PROBES = (_MOUNTS, _SWAPS)

_JOURNALED = ("ext3", "ext4", "xfs", "btrfs", "ext2", "f2fs")
_FROM_RAM = re.compile(r"/dev/(loop|ram|zram)\d+|/dev/mapper/live-.*")
_SUPERBLOCK = 1024, 264
_COMPATIBLE, _ON_ERROR, _CONTINUES = 0x5C, 0x3C, 1
"""s_feature_compat and s_errors, EXT4_ERRORS_CONTINUE: Linux, Documentation/filesystems/ext4/super.rst."""
_DEFAULTS, _JOURNAL_MODE, _WRITES_BACK, _NO_BARRIER = 0x100, 0x60, 0x60, 0x100
"""s_default_mount_opts there, with EXT4_DEFM_JMODE, _JMODE_WBACK and _NOBARRIER: /proc/self/mountinfo has only options
that differ from these."""
_LONGEST_COMMIT_S = 60
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of /proc/self/mountinfo: proc(5). ``options`` are those of the mount and of the file system, ``of_mount``
    and ``of_file_system``; of the file system's ``device``, "8:2", it shows the folder ``root``."""

    place: str
    kind: str
    source: str
    options: tuple[str, ...] = ("rw",)
    of_mount: tuple[str, ...] = ()
    of_file_system: tuple[str, ...] = ()
    device: str = ""
    root: str = "/"

    @property
    def is_on_disk(self) -> bool:
        return self.source.startswith("/dev/") and not _FROM_RAM.fullmatch(self.source)

    def value(self, option: str) -> str:
        return next((one.partition("=")[2] for one in self.options if one.startswith(f"{option}=")), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A line of /proc/swaps; ``kind`` is "file" or "partition"."""

    name: str
    kind: str
    used_kib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """Of an ext4: its compatible features, what happens when it is found damaged, and options that it is mounted with
    unless others are given."""

    features: tuple[str, ...] = ("has_journal",)
    goes_on_after_errors: bool = False
    writes_back: bool = False
    has_no_barrier: bool = False


def parse_mounts(answers: Mapping[str, str]) -> tuple[Mount, ...]:
    return read(answers, _MOUNTS, lambda text: tuple(map(_mount, text.splitlines())))


def _mount(line: str) -> Mount:
    before, after = line.split(" - ", 1)
    words, rest = before.split(" "), after.split(" ")
    of_mount, of_file_system = words[5].split(","), rest[2].split(",")
    return Mount(
        place=_OCTAL.sub(lambda found: chr(int(found[1], 8)), words[4]),
        kind=rest[0],
        source=rest[1],
        options=tuple(dict.fromkeys((*of_mount, *of_file_system))),
        of_mount=tuple(of_mount),
        of_file_system=tuple(of_file_system),
        device=words[2],
        root=words[3],
    )


def parse_swaps(answers: Mapping[str, str]) -> tuple[Swap, ...]:
    return read(answers, _SWAPS, lambda text: tuple(_swaps(text)))


def _swaps(text: str) -> Iterator[Swap]:
    heading, *rows = text.splitlines()
    if not heading.startswith("Filename"):
        raise ValueError("no heading of /proc/swaps")
    for row in rows:
        name, kind, _, used, _ = row.split()
        yield Swap(name=_OCTAL.sub(lambda found: chr(int(found[1], 8)), name), kind=kind, used_kib=int(used))


def superblock_probes(mounts: Sequence[Mount]) -> list[Probe]:
    """What to ask about each ext4 of a disk; od(1) prints its superblock."""
    begin, length = _SUPERBLOCK
    sources = dict.fromkeys(mount.source for mount in mounts if mount.kind == "ext4" and mount.is_on_disk)
    return [
        Probe(f"superblock of {source}", f"od -An -v -tx1 -j{begin} -N{length} {shlex.quote(source)}")
        for source in sources
    ]


def parse_superblocks(answers: Mapping[str, str], mounts: Sequence[Mount]) -> dict[str, Superblock]:
    """By device."""
    return {
        probe.name.removeprefix("superblock of "): read(answers, probe, _superblock)
        for probe in superblock_probes(mounts)
    }


def _superblock(text: str) -> Superblock:
    raw = bytes.fromhex(text)
    if raw[0x38:0x3A] != b"\x53\xef":
        raise ValueError("no magic number of ext4")
    defaults = int.from_bytes(raw[_DEFAULTS : _DEFAULTS + 4], "little")
    return Superblock(
        features=names(int.from_bytes(raw[_COMPATIBLE : _COMPATIBLE + 4], "little"), 0, 0),
        goes_on_after_errors=int.from_bytes(raw[_ON_ERROR : _ON_ERROR + 2], "little") == _CONTINUES,
        writes_back=defaults & _JOURNAL_MODE == _WRITES_BACK,
        has_no_barrier=bool(defaults & _NO_BARRIER),
    )


def judge(
    mounts: Sequence[Mount], swaps: Sequence[Swap], superblocks: Mapping[str, Superblock]
) -> Iterator[LintFinding]:
    seen = set[str]()
    for mount in mounts:
        if mount.is_on_disk and mount.kind in _JOURNALED and mount.source not in seen and "ro" not in mount.options:
            seen.add(mount.source)
            for what in _risks(mount, superblocks.get(mount.source)):
                line = f"{mount.source} {mount.place} {mount.kind} {','.join(mount.options)}"
                yield fails("data-at-risk", mount.place, what, line)
    for mount in mounts:
        if mount.place == "/data" and "ro" in mount.options:
            yield fails("data-at-risk", mount.place, "it is mounted read-only", f"{mount.source} {mount.kind}")
    for swap in swaps:
        yield fails("swap-in-use", f"swap:{swap.name}", _about(swap, mounts), f"{swap.kind}, {swap.used_kib} KiB used")


def _risks(mount: Mount, superblock: Superblock | None) -> Iterator[str]:
    """A sentence for each way in which a power cut or a bad sector loses data: ext4(5), xfs(5)."""
    options, block = mount.options, superblock or Superblock()
    is_told = "barrier" in options or mount.value("barrier") != ""
    if "nobarrier" in options or mount.value("barrier") == "0" or (block.has_no_barrier and not is_told):
        yield "a power cut can destroy it: it does not flush the disk's cache (barriers are off)"
    if (mount.value("data") or ("writeback" if block.writes_back else "")) == "writeback":
        yield "after a power cut, files can have the content of other files (data=writeback)"
    if mount.kind == "ext2" or "has_journal" not in block.features:
        yield "a power cut can destroy it: the file system has no journal"
    if "norecovery" in options or "noload" in options:
        yield "what the journal has is not replayed (norecovery)"
    if "noauto_da_alloc" in options:
        yield "after a power cut, files that were replaced can be empty (noauto_da_alloc)"
    if (commit := mount.value("commit")).isdecimal() and int(commit) > _LONGEST_COMMIT_S:
        yield f"what was written in the last {commit} s can be lost (commit={commit})"
    errors = mount.value("errors") or ("continue" if block.goes_on_after_errors else "")
    if errors == "continue" and mount.kind.startswith("ext"):
        yield "when it is found damaged, it is written to further (errors=continue)"
    if "nodatacow" in options and mount.kind == "btrfs":
        yield "files have no checksums (nodatacow)"


def _about(swap: Swap, mounts: Sequence[Mount]) -> str:
    if "zram" in swap.name:
        return "it is swap in compressed RAM: the root file system is in RAM too"
    if swap.kind == "partition":
        return "it is swap on a disk: passwords and keys in memory are written there"
    inside = [mount for mount in mounts if f"{swap.name}/".startswith(f"{mount.place.rstrip('/')}/")]
    place = max(inside, key=lambda mount: len(mount.place)).place if inside else "/"
    return f"it is swap in a file of {place}: passwords and keys in memory are written there"

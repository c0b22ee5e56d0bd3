"""Runs programs of an image where they reach nothing: no network, no device, no file but those of a small tree.

The namespaces are the builder's. The tree is a tmpfs that is made from a tar file and is then read-only. Programs are
neither root nor have capabilities, and none of their files can give them any.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError
from harness.core.namespaces import environment, prefix

_ALL_S, _EACH_S = 30, 10
_MOST_OUTPUT_BYTES = 1 << 18
_MOUNTED = ("proc", "sys", "dev", "run", "tmp", "mnt")
"""Folders that the sandbox makes itself: the tree's own could lead out of it before the program runs."""

_SCRIPT = r"""
set -eu
work=$1 tar=$2 each_s=$3 most=$4
shift 4
mount -t tmpfs -o nosuid,nodev,mode=755,size=64m tmpfs "$work"
tree=$work/tree
mkdir "$tree"
mount -t tmpfs -o nosuid,nodev,mode=755,size=768m,nr_inodes=200000 tmpfs "$tree"
tar -xf "$tar" -C "$tree" --no-same-owner --preserve-permissions
mkdir "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run" "$tree/tmp"
for node in null zero random urandom; do
    : > "$tree/dev/$node"
    mount --bind "/dev/$node" "$tree/dev/$node"
done
mount -t proc -o ro,nosuid,nodev,noexec proc "$tree/proc" || :
mount -t tmpfs -o nosuid,nodev,noexec,mode=755,size=4m tmpfs "$tree/run"
mkdir "$tree/run/sshd"
mkdir -m 777 "$tree/run/systemd"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=16m tmpfs "$tree/tmp"
mount -o remount,ro,nosuid,nodev "$tree"
while [ $# -gt 0 ]; do
    count=$1
    shift
    command=
    i=0
    while [ $i -lt "$count" ]; do
        i=$((i + 1))
        command="$command \"\${$i}\""
    done
    status=0
    ( eval "ulimit -c 0; ulimit -f $((most / 512)); ulimit -v 2097152; exec timeout --signal KILL $each_s \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/ SYSTEMD_LOG_TARGET=console \
        setpriv --no-new-privs chroot --userspec=+65534:+65534 --groups= \"\$tree\" $command" \
        > "$work/output" 2>&1 < /dev/null ) || status=$?
    shift "$count"
    head -c "$most" "$work/output" > "$work/shown"
    printf '%s %s\n' "$status" "$(wc -c < "$work/shown")"
    cat "$work/shown"
done
"""
"""Each command is a count and its words. After chroot(2) and setuid(2) a program has no capability with which it could
leave the tree."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's status, as a shell has it, and what it printed: 256 KiB at most."""

    status: int
    printed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallTree:
    """Files by their paths without the first slash. ``empty`` are programs that only need to be there; ``links`` have
    targets."""

    files: Mapping[str, bytes]
    programs: frozenset[str]
    empty: frozenset[str]
    links: Mapping[str, str]


def run(tree: SmallTree, commands: Sequence[Sequence[str]]) -> list[Ended]:
    """Run each of ``commands`` with ``tree`` as its root folder. `HostError` if this host has no namespaces for it."""
    if not commands:
        return []
    words = [word for command in commands for word in (str(len(command)), *command)]
    with tempfile.TemporaryDirectory(prefix="bootproof-") as folder:
        packed, work = Path(folder) / "tree.tar", Path(folder) / "work"
        work.mkdir()
        _pack(tree, packed)
        alone = ["unshare", "--net", "--ipc", "--uts", "--"]
        script = ["sh", "-c", _SCRIPT, "sandbox", str(work), str(packed), str(_EACH_S), str(_MOST_OUTPUT_BYTES)]
        argv = [*prefix(), "timeout", "--signal", "KILL", str(_ALL_S), *alone, *script, *words]
        with process.reading(argv, env=environment()) as printed:
            content = printed.read(len(commands) * (_MOST_OUTPUT_BYTES + 64))
    ended = list(_ended(content))
    if len(ended) != len(commands):
        raise HostError(f"the sandbox ended after {len(ended)} of {len(commands)} programs")
    return ended


def _ended(content: bytes) -> Iterator[Ended]:
    while content:
        head, _, content = content.partition(b"\n")
        status, length = map(int, head.split())
        yield Ended(status, content[:length].decode("utf-8", "replace"))
        content = content[length:]


def _pack(tree: SmallTree, packed: Path) -> None:
    """Folders first, then files, then links: while files are unpacked, there is no link that could lead elsewhere."""
    paths = [path for path in (*tree.files, *tree.empty, *tree.links) if _is_plain(path)]
    with tarfile.open(packed, "w", encoding="utf-8", errors="surrogateescape", format=tarfile.GNU_FORMAT) as tar:
        for folder in sorted({str(parent) for path in paths for parent in Path(path).parents} - {"."}):
            tar.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
        for path in sorted(tree.empty - tree.files.keys()):
            if _is_plain(path):
                tar.addfile(_member(path, tarfile.REGTYPE, 0o755))
        for path, content in tree.files.items():
            if _is_plain(path):
                member = _member(path, tarfile.REGTYPE, 0o755 if path in tree.programs else 0o644)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
        for path, target in tree.links.items():
            if _is_plain(path):
                member = _member(path, tarfile.SYMTYPE, 0o777)
                member.linkname = target
                tar.addfile(member)


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode = kind, mode
    return member


def _is_plain(path: str) -> bool:
    """Whether a path stays in the tree, and is none of those that the sandbox makes."""
    parts = path.split("/")
    return parts[0] not in _MOUNTED and not {"", ".", ".."} & set(parts) and not re.search(r"[\x00-\x1f]", path)

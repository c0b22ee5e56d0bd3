"""Runs build steps as separate programs, in mount and PID namespaces that end with this process.

Without root, a user namespace is added, in which the user is root and the subordinate ids are all other users: the
code is the same, and so are the bytes that it makes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core import process
from harness.core.namespaces import environment, prefix

_TREE_ACTIONS = Path(__file__).with_name("tree_actions.py")

_ENTER = """
set -eu
tree=$1 downloads=$2 kept=$3 out=$4 python=$5 script=$6
shift 6
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount -o remount,bind,ro,nosuid,nodev,noexec "$tree/sys"
mount -t tmpfs -o mode=755 tmpfs "$tree/dev"
for node in null zero full random urandom tty; do
    : > "$tree/dev/$node"
    mount --bind "/dev/$node" "$tree/dev/$node"
done
mkdir "$tree/dev/pts" "$tree/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$tree/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
ln -s pts/ptmx "$tree/dev/ptmx"
ln -s /proc/self/fd "$tree/dev/fd"
ln -s /proc/self/fd/0 "$tree/dev/stdin"
ln -s /proc/self/fd/1 "$tree/dev/stdout"
ln -s /proc/self/fd/2 "$tree/dev/stderr"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
mkdir -p "$tree/run/lock" "$tree/run/systemd/resolve"
"$python" -I -B "$script" "$tree" entered "$(cat /etc/resolv.conf || :)"
[ -z "$kept" ] || { mkdir -p "$tree/$downloads" && mount --bind "$kept" "$tree/$downloads"; }
[ -z "$out" ] || mount --bind "$out" "$tree/mnt"
exec "$@"
"""
"""Mounts the kernel's file systems and a few harmless devices over a tree, then runs the program.

The program is PID 1 of the namespace: when it ends, all its children end too.
"""


def run(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run ``argv`` in its own namespaces; `CommandFailed` quotes the end of its output."""
    try:
        process.run([*prefix(), *argv], log=log, env=env or environment(), grace_s=0.0)
    except process.CommandFailed as error:
        raise process.CommandFailed(tuple(argv), error.status, error.tail, error.log) from None


def output(argv: Sequence[str]) -> str:
    """The output of ``argv``, run in its own namespaces."""
    return process.output([*prefix(), *argv], env=environment())


def entering(
    tree: Path, argv: Sequence[str], *, downloads: tuple[str, Path] | None = None, out: Path | None = None
) -> list[str]:
    """The command that runs ``argv`` with /proc, /sys, /dev, /run and /tmp mounted in ``tree``; no service can start.

    ``downloads`` is a folder of the tree and one of the host that is mounted over it, ``out`` is mounted as its /mnt.
    """
    folder, kept = downloads or ("", "")
    places = [str(tree), folder, str(kept), str(out or "")]
    return ["sh", "-c", _ENTER, "enter", *places, sys.executable, str(_TREE_ACTIONS), *argv]


def tree_action(tree: Path, action: str, *arguments: str) -> list[str]:
    """The command that runs ``action`` of ``tree_actions.py`` with ``tree`` as its root folder."""
    return [sys.executable, "-I", "-B", str(_TREE_ACTIONS), str(tree), action, *arguments]

"""Build steps run as programs of their own, in a mount and PID namespace that dies with this process.

As root that is all. Anybody else gets a user namespace around it, in which they are root and their
subordinate ids are everybody else: one code path, and the same bytes come out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core import process
from harness.core.namespaces import environment, prefix

_INSIDE = Path(__file__).with_name("tree_actions.py")

_ENTER = """
set -eu
tree=$1 debs=$2 out=$3 python=$4 script=$5
shift 5
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
mkdir -p "$tree/run/lock" "$tree/run/systemd/resolve" "$tree/var/cache/apt/archives"
"$python" -I -B "$script" "$tree" entered "$(cat /etc/resolv.conf || :)"
[ -z "$debs" ] || mount --bind "$debs" "$tree/var/cache/apt/archives"
[ -z "$out" ] || mount --bind "$out" "$tree/mnt"
exec "$@"
"""
"""The kernel's file systems over a tree, nothing of the host's devices but the harmless ones, then the program.

PID 1 of the namespace is the program: when it ends, whatever it left running ends too.
"""


def run(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run ``argv`` in namespaces of its own; `CommandFailed` quotes the end of what it printed."""
    try:
        process.run([*prefix(), *argv], log=log, env=env or environment(), grace_s=0.0)
    except process.CommandFailed as error:
        raise process.CommandFailed(tuple(argv), error.status, error.tail, error.log) from None


def output(argv: Sequence[str]) -> str:
    """What ``argv`` prints, run in namespaces of its own."""
    return process.output([*prefix(), *argv], env=environment())


def entering(tree: Path, argv: Sequence[str], *, debs: Path | None = None, out: Path | None = None) -> list[str]:
    """``argv`` with /proc, /sys, /dev, /run and /tmp mounted in ``tree``, where nothing can start a service.

    ``debs`` appears as apt's cache in it, ``out`` as its /mnt.
    """
    places = [str(tree), str(debs or ""), str(out or "")]
    return ["sh", "-c", _ENTER, "enter", *places, sys.executable, str(_INSIDE), *argv]


def inside(tree: Path, action: str, *arguments: str) -> list[str]:
    """The command line that does ``action`` of ``inside.py`` with ``tree`` as its root folder."""
    return [sys.executable, "-I", "-B", str(_INSIDE), str(tree), action, *arguments]

"""Changes files of a tree, as a program with the tree as its root folder: ``tree_actions.py TREE ACTION …``.

A separate program that uses the standard library only: it runs in the build's namespaces, where links in the tree
lead into the tree and files of every owner can be written. An action is a public function with its arguments.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_EMPTIED = [
    "dev/", "proc/", "sys/", "run/", "tmp/", "var/tmp/", "var/backups/",
    "var/cache/man/", "var/cache/ldconfig/", "var/cache/fontconfig/",
]  # fmt: skip
"""Folders that are emptied."""

_IDENTITY = [
    "etc/hostname", "etc/ssh/ssh_host_*_key*", "var/lib/dbus/machine-id",
    "etc/iscsi/initiatorname.iscsi", "etc/nvme/hostid", "etc/nvme/hostnqn",
    "etc/openvswitch/system-id.conf", "var/lib/openvswitch/conf.db",
    "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
    "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/private/ssl-cert-snakeoil.key",
    "var/lib/libvirt/secrets/*", "etc/libvirt/secrets/*",
]  # fmt: skip
"""Files that must differ between hosts, or that must not be known to everyone who has the image."""

_DEFAULTS = "usr/share/persist"
"""Where the role ``persist`` keeps the defaults for a new /data, under their original paths."""

_TRACES = [
    "etc/.pwd.lock", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
    "etc/.resolv.conf.systemd-resolved.bak", "usr/sbin/policy-rc.d",
    "root/.ansible", "root/.cache", "root/.bash_history",
    "initrd.img", "initrd.img.old", "vmlinuz", "vmlinuz.old", "boot/initrd*", "boot/vmlinuz.old",
]  # fmt: skip
"""Traces of this build, besides those of the package manager. Kernel and initrd are separate artifacts; the kernel of
the packages stays."""

_RESOLVER = "# Written by the build, removed at its end."
_POLICY = "#!/bin/sh\n# Written by the build, removed at its end: nothing starts in a tree.\nexit 101\n"


def remove_lines(root: Path, name: str, text: str) -> None:
    """Remove the lines with ``text`` from the file."""
    lines = (root / name).read_text("utf-8").splitlines(keepends=True)
    (root / name).write_text("".join(line for line in lines if text not in line), "utf-8")


def forget(root: Path, *patterns: str) -> None:
    """Remove what matches; empty the folders whose pattern ends with a slash."""
    for pattern in patterns:
        for path in root.glob(pattern.rstrip("/")):
            if pattern.endswith("/"):
                _empty(path)
            else:
                _remove(path)


def bootstrapped(root: Path) -> None:
    """Remove what the first tree knows of this host."""
    (root / "etc/hostname").unlink(missing_ok=True)
    for name in ("dev", "run", "tmp", "proc", "sys"):
        _empty(root / name)
    _forget_resolver(root)


def entered(root: Path, resolver: str) -> None:
    """Keep services from starting, whatever a package or a playbook does; make names resolve as on the host."""
    policy = root / "usr/sbin/policy-rc.d"
    if policy.parent.is_dir():
        policy.write_text(_POLICY, "utf-8")
        policy.chmod(0o755)
    place = root / "etc/resolv.conf"
    place.parent.mkdir(exist_ok=True)
    target = place.resolve() if place.is_symlink() else place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{_RESOLVER}\n{resolver}", "utf-8")


def anonymous(root: Path, epoch_s: str, *traces: str) -> None:
    """Remove all traces of this host and this hour, and every identity of a host that will run the image.

    ``traces`` are patterns of the package manager, as for `forget`.
    """
    forget(root, *_IDENTITY, *(f"{_DEFAULTS}/{pattern}" for pattern in _IDENTITY), *_TRACES, *_EMPTIED, *traces)
    for path in (*_files(root / "var/log"), *_files(root / _DEFAULTS / "var/log")):
        if not (path.is_symlink() and path.readlink().is_relative_to("/data")):  # a persistent path
            path.unlink()
    for path in _files(root / "etc/ssl/certs"):
        if path.is_symlink() and path.readlink().name == "ssl-cert-snakeoil.pem":
            path.unlink()
    (root / "etc/machine-id").unlink(missing_ok=True)
    (root / "etc/machine-id").touch(mode=0o444)  # empty, not missing: machine-id(5), "First Boot Semantics"
    _forget_resolver(root)
    _forget_passwords(root / "etc/shadow", int(epoch_s) // 86400)


def stamped(root: Path, image: str, version: str) -> None:
    """Write IMAGE_ID and IMAGE_VERSION to os-release(5)."""
    path = (root / "etc/os-release").resolve()
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("IMAGE_ID=", "IMAGE_VERSION="))]
    path.write_text("\n".join([*kept, f'IMAGE_ID="{image}"', f'IMAGE_VERSION="{version}"', ""]), "utf-8")


def _forget_resolver(root: Path) -> None:
    path = root / "etc/resolv.conf"
    if not path.is_symlink():
        path.unlink(missing_ok=True)


def _forget_passwords(shadow: Path, day: int) -> None:
    """Lock all passwords, and limit the days of the last change to the day of the archive: shadow(5)."""
    if not shadow.exists():
        return
    rows = [line.split(":") for line in shadow.read_text("utf-8").splitlines()]
    for row in rows:
        if not re.match(r"[*!]", row[1]):
            row[1] = "*"
        if row[2].isdigit():
            row[2] = str(min(int(row[2]), day))
    shadow.write_text("".join(":".join(row) + "\n" for row in rows), "utf-8")


def _files(folder: Path) -> Iterator[Path]:
    yield from [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


_ACTIONS: dict[str, Callable[..., None]] = {
    action.__name__: action for action in (remove_lines, forget, bootstrapped, entered, anonymous, stamped)
}


def main(tree: str, action: str, *arguments: str) -> None:
    os.chroot(tree)
    os.chdir("/")
    _ACTIONS[action](Path("/"), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])

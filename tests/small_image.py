"""A small good image as a value of lint, and the same with changes: no file is written or read."""

# ruff: noqa: E501  # a file is one line

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.lint.image import Image
from harness.lint.tree import Look, Tree
from harness.model.artifacts import FileRecord, Manifest
from harness.model.definition import ImageDefinition, load_definition
from harness.store.squashfs_tree import TreeFile

ROOT = Path(__file__).parents[1]
VERSION = "6.12.1-test"
MODULES = f"usr/lib/modules/{VERSION}"


def elf(needed: tuple[str, ...] = (), *, interpreter: str = "/lib64/ld.so", machine: int = 62, kind: int = 3) -> bytes:
    """A 64-bit ELF file with headers alone (elf(5))."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    loader = interpreter.encode() + b"\0"
    base = 64 + 3 * 56
    entries = [(1, 1 + sum(len(name) + 1 for name in needed[:at])) for at in range(len(needed))]
    strings_at, loader_at = base, base + len(names)
    dynamic_at = loader_at + len(loader)
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in [*entries, (5, strings_at), (0, 0)])
    size = dynamic_at + len(dynamic)
    segments = [(1, 0, size), (3 if interpreter else 4, loader_at, len(loader)), (2, dynamic_at, len(dynamic))]
    head = (
        b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    )
    table = b"".join(struct.pack("<IIQQQQQQ", one, 5, at, at, at, length, length, 1) for one, at, length in segments)
    return head + table + names + loader + dynamic


Content = str | bytes | tuple[str, str] | None
"""The contents of a file; of a link, "->" and its target; None removes a file."""

PROGRAMS = ("bash", "true", "curl", "kexec", "mount", "sshd", "su", "find", "python3")
GOOD: Mapping[str, Content] = {
    **{f"{folder}/": "" for folder in ("proc", "sys", "dev", "run", "etc", "usr", "var", "root", "data")},
    "var/log/journal": ("->", "/data/var/log/journal"),
    "usr/share/persist/var/log/journal/": "",
    "tmp/": "",
    "var/tmp/": "",
    **{name: ("->", f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")},
    "usr/lib64/ld.so": elf(interpreter=""),
    "usr/lib/libc.so.6": elf(interpreter=""),
    "usr/lib/libkmod.so.2": elf(interpreter=""),
    **{f"usr/bin/{name}": elf(("libc.so.6",)) for name in PROGRAMS},
    "usr/bin/sh": ("->", "bash"),
    "usr/sbin/init": ("->", "../lib/systemd/systemd"),
    "usr/lib/systemd/systemd": elf(("libc.so.6",)),
    "usr/lib/os-release": 'ID=test\nIMAGE_ID="base"\nIMAGE_VERSION="1"\n',
    "etc/os-release": ("->", "../usr/lib/os-release"),
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nsshd:x:100:100::/:/bin/false\n",
    "etc/group": "root:x:0:\nsshd:x:100:\n",
    "etc/shadow": "root:*:1::::::\nsshd:!:1::::::\n",
    "etc/resolv.conf": ("->", "../run/systemd/resolve/stub-resolv.conf"),
    "usr/lib/systemd/systemd-resolved": elf(("libc.so.6",)),
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/machine-id": "",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n",
    **{f"{MODULES}/modules.{kind}.bin": "x" for kind in ("dep", "alias", "symbols")},
    f"{MODULES}/modules.dep": "kernel/fs/a.ko:\nkernel/net/br_netfilter.ko:\n",
    f"{MODULES}/modules.builtin": "kernel/fs/squashfs/squashfs.ko\n",
    f"{MODULES}/kernel/fs/a.ko": "x",
    f"{MODULES}/kernel/net/br_netfilter.ko": "x",
    "usr/lib/systemd/system/default.target": ("->", "multi-user.target"),
    **{
        f"usr/lib/systemd/system/{name}.target": "[Unit]\nDescription=x\n"
        for name in ("multi-user", "sysinit", "basic", "sockets", "timers")
    },
    "usr/lib/systemd/system/basic.target": "[Unit]\nRequires=sysinit.target\nWants=sockets.target timers.target\nAfter=sysinit.target\n",
    "usr/lib/systemd/system/ssh.service": "[Service]\nExecStart=/usr/bin/sshd -D\nUser=sshd\n[Install]\nWantedBy=multi-user.target\n",
    "etc/systemd/system/multi-user.target.wants/ssh.service": ("->", "/usr/lib/systemd/system/ssh.service"),
    "usr/lib/systemd/system/systemd-timesyncd.service": "[Service]\nExecStart=/usr/bin/true\n",
    "usr/lib/systemd/system/sysinit.target.wants/systemd-timesyncd.service": ("->", "../systemd-timesyncd.service"),
    "usr/lib/tmpfiles.d/good.conf": "d /run/good 0755 root root\n",
    "usr/share/persist/etc/site/": "",
    "etc/site": ("->", "/data/etc/site"),
}  # fmt: skip
MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "usr/bin/su": 0o4755, "usr/bin/mount": 0o4755, "etc/shadow": 0o640}
INITRD: Mapping[str, Content] = {
    "init": ("->", "usr/lib/systemd/systemd"),
    "usr/lib/systemd/systemd": elf(interpreter=""),
    "usr/lib/initrd-release": 'IMAGE_ID="base"\nIMAGE_VERSION="1"\n',
    f"{MODULES}/modules.dep.bin": "x",
    f"{MODULES}/modules.dep": "kernel/fs/a.ko:\n",
    f"{MODULES}/kernel/fs/a.ko": "x",
}


def definition() -> ImageDefinition:
    base = load_definition(ROOT / "images" / "base")
    paths = ("/etc/site", "/var/log/journal")
    return replace(base, services=("ssh.service",), persistent_paths=paths, lint_allow=())


def image(
    changed: Mapping[str, Content] | None = None,
    *,
    modes: Mapping[str, int] | None = None,
    uids: Mapping[str, int] | None = None,
    initrd: Mapping[str, Content] | None = None,
    **fields: object,
) -> Image:
    """The good image with these changes. What is not changed is as its package brought it."""
    good, sums = tree(GOOD, MODES, {}), dict[str, str]()
    for path, file in good.files.items():
        if file.content:
            sums[path] = file.content
    root = tree({**GOOD, **(changed or {})}, {**MODES, **(modes or {})}, uids or {})
    manifest = Manifest(
        image="base",
        version="1",
        kernel_version=VERSION,
        kernel_arguments=(),
        files={"vmlinuz": record(1), "initrd.img": record(1), "rootfs.squashfs": record(1)},
        packages={},
        dracut_modules=(),
        initrd_drivers=(),
        definition="",
        sources={},
        builder={"dracut": "1"},
    )
    value = Image(
        root=replace(root, capabilities={}),
        manifest=manifest,
        initrd=tree({**INITRD, **(initrd or {})}, {}, {}, "initrd:"),
        definition=definition(),
        kernel_banner=f"{VERSION} (builder) #1",
        owners=dict.fromkeys(good.files, "base-files"),
        sums=sums,
        compression="zstd",
    )
    return replace(value, **fields)  # type: ignore[arg-type]  # each test names fields of Image


def record(size_bytes: int) -> FileRecord:
    return FileRecord(sha256="0" * 64, size_bytes=size_bytes)


def tree(contents: Mapping[str, Content], modes: Mapping[str, int], uids: Mapping[str, int], place: str = "") -> Tree:
    look, files = Look(), dict[str, TreeFile]()
    for key, content in {"": "", **contents}.items():
        if content is None:
            continue
        path = key.rstrip("/")
        for folder in [str(parent) for parent in Path(path).parents][:-1]:
            files.setdefault(folder, _file("folder", modes.get(folder, 0o755), uids.get(folder, 0)))
        if not key or key.endswith("/"):
            files[path] = _file("folder", modes.get(path, 0o755), uids.get(path, 0))
        elif isinstance(content, tuple):
            files[path] = replace(_file("link", 0o777, 0), target=content[1])
        else:
            data = content.encode() if isinstance(content, str) else content
            is_program = data.startswith((b"\x7fELF", b"#!"))
            file = _file("file", modes.get(path, 0o755 if is_program else 0o644), uids.get(path, 0))
            file = replace(file, size_bytes=len(data), content=hashlib.md5(data).hexdigest())
            files[path] = file
            if look.wants(path, file, data[:4096]):
                look.contents(path, file, data)
    return look.tree(files, place)


def _file(kind: str, mode: int, uid: int) -> TreeFile:
    return TreeFile(kind=kind, mode=mode, uid=uid, gid=0, mtime=0)

"""Collects the facts about one image, from its root file system and its verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import BootproofError
from harness.model.artifacts import Artifacts, Manifest
from harness.model.verdict import BootResult, RuntimeProfile, Verdict
from harness.packages import DATABASES, owners
from harness.store import rootfs_images
from harness.store.squashfs_tree import TreeFile, read_tree

_USERS, _GROUPS = "etc/passwd", "etc/group"
_CONFIGS = ("boot/config-{}", "usr/lib/modules/{}/config", "lib/modules/{}/config")
_LIVE = "LiveOS/rootfs.img"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The contents of a root file system; None if unknown. ``unread`` says why ``files`` are unknown.

    ``owners`` maps a path to its package, ``config`` the kernel's options to their values.
    """

    files: dict[str, TreeFile] | None = None
    owners: dict[str, str] = field(default_factory=dict)
    users: dict[str, int] | None = None
    groups: dict[str, int] | None = None
    config: dict[str, str] | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about one image in ``folder``. ``boots`` are boots of these artifacts that became ready."""

    folder: Path
    manifest: Manifest
    image: Image
    runtime_profile: RuntimeProfile | None
    boots: tuple[BootResult, ...]
    ran_on: str


def gather(artifacts: Artifacts, verdict: Verdict | None, image: Image) -> Facts:
    """The facts about one image; of a verdict about other artifacts, only the boots of these count."""
    is_about = verdict is not None and verdict.digests.get("artifacts", artifacts.digest) == artifacts.digest
    boots = verdict.boots if verdict else ()
    return Facts(
        folder=artifacts.folder,
        manifest=artifacts.manifest,
        image=image,
        runtime_profile=verdict.runtime_profile if verdict and is_about else None,
        boots=tuple(boot for boot in boots if boot.ready_s and boot.is_ordinary and boot.artifacts == artifacts.digest),
        ran_on=verdict.ran_on if verdict else "",
    )


def read_image(artifacts: Artifacts) -> Image:
    """Read the root file system. Contents that no program here can read are unknown, which is not an error."""
    try:
        if rootfs_images.format_of(artifacts.rootfs) == "squashfs":
            image = _whole(artifacts)
            if image.files is None or _LIVE not in image.files:
                return image
        return _parts(artifacts)
    except BootproofError as error:
        return Image(unread=str(error))


def _whole(artifacts: Artifacts) -> Image:
    configs = _configs(artifacts.manifest)
    wanted = "|".join([*(database.owner_files for database in DATABASES), *map(re.escape, [_USERS, _GROUPS, *configs])])
    tree = read_tree(artifacts.rootfs, re.compile(wanted))
    config = next((tree.texts[name] for name in configs if name in tree.texts), None)
    links = {name: file.target for name, file in tree.files.items() if file.kind == "link" and "/" not in name}
    return Image(
        files=tree.files,
        owners=owners(tree.texts, links),
        users=numbers(tree.texts.get(_USERS)),
        groups=numbers(tree.texts.get(_GROUPS)),
        config=options(config),
    )


def _parts(artifacts: Artifacts) -> Image:
    """Read single files of a file system image."""
    with rootfs_images.reading(artifacts.rootfs, artifacts.manifest.kernel_arguments) as read:
        name = artifacts.manifest.rootfs
        if read is None:
            return Image(unread=f"no program here reads {name}")
        configs = _configs(artifacts.manifest)
        found = read([_USERS, _GROUPS, *configs])
        return Image(
            users=numbers(found.get(_USERS)),
            groups=numbers(found.get(_GROUPS)),
            config=options(next((found[name] for name in configs if name in found), None)),
            unread=f"files are compared of a squashfs, and {name} holds a file system image",
        )


def _configs(manifest: Manifest) -> list[str]:
    return [name.format(manifest.kernel_version) for name in _CONFIGS]


def numbers(text: bytes | None) -> dict[str, int] | None:
    """Name to number, from passwd(5) or group(5)."""
    if text is None:
        return None
    rows = (line.split(":") for line in text.decode("utf-8", "surrogateescape").splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}


def options(text: bytes | None) -> dict[str, str] | None:
    """Option to value, from a kernel's configuration; an option that is not set is "n", as in Kconfig."""
    if not text:
        return None
    lines = text.decode("utf-8", "replace").splitlines()
    found = (re.fullmatch(r"(?:# )?CONFIG_(\w+)(?:=(.*)| is not set)", line) for line in lines)
    return {line[1]: line[2] or "n" for line in found if line}

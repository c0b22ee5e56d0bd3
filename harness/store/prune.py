"""What of the store can go, and how it goes: ``bootproof store prune``.

What is in use stays, whatever was asked for: artifacts that a run or ``bootproof boot`` holds; layers, packages and
the rest while a build is at work.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import HostError, UsageError
from harness.core.locks import lock_folder
from harness.core.namespaces import remove
from harness.store.inventory import StoreItem, StoreKind, StoreSurvey, survey
from harness.store.store import Store, is_worked_in

_HELD = (StoreKind.ARTIFACTS, StoreKind.TEMPLATE)
"""Who uses these holds their folder."""
_AGES_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What shall go besides what has a flaw. With ``images``, nothing that is for others, or for none."""

    older_than_s: float | None = None
    max_bytes: int | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """``kept`` goes because of ``reason``; or it stays, because of ``spared``."""

    kept: StoreItem
    reason: str
    spared: str = ""


def parse_age(text: str) -> float:
    """Seconds in ``30d``, ``12h``, …"""
    return _parse(text, _AGES_S, "--older-than", "30d, or 90m, 12h, 2w")


def parse_size(text: str) -> int:
    """Bytes in ``20G``, ``500M``, …"""
    return int(_parse(text, _SIZES, "--max-size", "20G, or 500M, 1T"))


def _parse(text: str, units: dict[str, int], option: str, example: str) -> float:
    found = re.fullmatch(rf"([0-9]+(?:\.[0-9]+)?)([{''.join(units)}])", text)
    if not found:
        raise UsageError(f"{option} {text}: write it like {example}")
    return float(found[1]) * units[found[2]]


def choose(found: StoreSurvey, rules: Rules, now_s: float) -> list[Removal]:
    """What shall go, and what should but is in use.

    Always what has a flaw. Of the rest, what was not used for ``older_than_s``; and with ``max_bytes``, what was
    not used for longest, until no more than that is left. With ``images`` and neither of the two, all that is for
    these images.
    """
    in_scope = [kept for kept in found.kept if _is_for(kept, rules.images)]
    chosen = {kept: reason for kept in in_scope if (reason := kept.flaw or _reason(kept, rules, now_s))}
    if rules.max_bytes is not None:
        left = found.size_bytes - sum(kept.size_bytes for kept in chosen if not kept.user)
        for kept in sorted(in_scope, key=lambda kept: kept.used_s):
            if left > rules.max_bytes and kept.kind.is_large and kept not in chosen:
                chosen[kept] = "least recently used"
                left -= 0 if kept.user else kept.size_bytes
    gone = {kept.name for kept in chosen if kept.kind is StoreKind.ARTIFACTS and not kept.user}
    chosen |= {kept: "its artifacts go" for kept in found.kept if kept.kind is StoreKind.NOTE and kept.name in gone}
    return [Removal(kept, reason, kept.user and f"in use by {kept.user}") for kept, reason in chosen.items()]


def _is_for(kept: StoreItem, images: tuple[str, ...]) -> bool:
    return not images or (bool(kept.images) and set(kept.images) <= set(images))


def _reason(kept: StoreItem, rules: Rules, now_s: float) -> str:
    if kept.kind in (StoreKind.WORK, StoreKind.OTHER):
        return ""
    if rules.older_than_s is not None:
        return "not used for that long" if now_s - kept.used_s > rules.older_than_s else ""
    return f"of {', '.join(kept.images)}" if rules.images and rules.max_bytes is None else ""


def prune(store: Store, rules: Rules, *, dry_run: bool = False) -> list[Removal]:
    """Remove what `choose` says; what became of each.

    Everything is first renamed into a work folder, so whoever looks sees it whole or not at all, and what an
    interrupt leaves is removed by the next build or prune. Raises `UsageError` for an image of which nothing is
    kept, `HostError` if the store cannot be written.
    """
    found = survey(store)
    _check_images(found, rules.images)
    if dry_run or not found.kept:
        return choose(found, rules, time.time())
    try:
        with store.locked("prune"):
            removals = choose(survey(store), rules, time.time())
            with store.workfolder(remove=_remove) as bin_folder:
                return list(_carry_out(store, removals, bin_folder))
    except OSError as error:
        raise HostError(f"{store.root} cannot be pruned: {error.strerror} ({error.filename})") from error


def _check_images(found: StoreSurvey, images: Iterable[str]) -> None:
    known = sorted({image for kept in found.kept for image in kept.images})
    for image in images:
        if image not in known:
            raise UsageError(f"--image {image}: nothing is kept of it; there is {', '.join(known) or 'nothing'}")


def _carry_out(store: Store, removals: list[Removal], bin_folder: Path) -> Iterator[Removal]:
    for removal in removals:
        if removal.kept.kind in _HELD:
            yield removal if removal.spared else _discard_held(store, removal, bin_folder)
    with _quiet(store, bin_folder) as is_quiet:
        for removal in removals:
            if removal.kept.kind not in _HELD:
                yield _discard_other(removal, bin_folder, is_quiet=is_quiet)


def _discard_held(store: Store, removal: Removal, bin_folder: Path) -> Removal:
    (folder,) = removal.kept.paths
    with store.locked("artifacts"):
        descriptor = lock_folder(folder, waits=False)
        if descriptor is None:
            return replace(removal, spared="in use")
        try:
            return _discard(removal, bin_folder)
        finally:
            os.close(descriptor)


@contextmanager
def _quiet(store: Store, own: Path) -> Iterator[bool]:
    """Whether no build is at work; while the block lasts, none begins."""
    with store.locked("tmp"):
        yield not any(is_worked_in(path) for path in own.parent.iterdir() if path != own)


def _discard_other(removal: Removal, bin_folder: Path, *, is_quiet: bool) -> Removal:
    if removal.kept.kind is StoreKind.WORK or removal.spared:  # the work of the dead went as the work folder was made
        return removal
    return _discard(removal, bin_folder) if is_quiet else replace(removal, spared="in use by a build")


def _discard(removal: Removal, bin_folder: Path) -> Removal:
    try:
        for path in removal.kept.paths:
            path.rename(bin_folder / f"{path.parent.name}-{path.name}")
    except OSError as error:
        return replace(removal, spared=f"it cannot be moved: {error.strerror} ({error.filename})")
    return removal


def _remove(folder: Path) -> None:
    """Builds without root leave trees that other ids own."""
    try:
        shutil.rmtree(folder)
    except PermissionError:
        remove(folder)


def removed_bytes(removals: list[Removal]) -> int:
    return sum(removal.kept.size_bytes for removal in removals if not removal.spared)

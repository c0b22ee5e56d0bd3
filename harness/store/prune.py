"""Removes items from the store: ``bootproof store prune``.

Items in use are never removed: artifacts and templates that a run or ``bootproof boot`` holds, and everything else
while a build is running.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import HostError, UsageError
from harness.core.locks import lock_folder
from harness.core.namespaces import remove
from harness.store.inventory import StoreItem, StoreKind, StoreSurvey, survey
from harness.store.store import Store, is_worked_in

_HELD = (StoreKind.ARTIFACTS, StoreKind.TEMPLATE, StoreKind.INCOMING)
"""Items whose users lock their folder."""
_AGES_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What to remove besides stale items. With ``images``, only items of these images and of no others."""

    older_than_s: float | None = None
    max_bytes: int | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """``item`` is removed for ``reason``; with ``why_kept`` it stays, and that says why."""

    item: StoreItem
    reason: str
    why_kept: str = ""


def parse_age(text: str) -> float:
    """Seconds in ``30d``, ``12h``, …"""
    return _parse(text, _AGES_S, "--older-than", "30d, or 90m, 12h, 2w")


def parse_size(text: str) -> int:
    """Bytes in ``20G``, ``500M``, …"""
    return int(_parse(text, _SIZES, "--max-size", "20G, or 500M, 1T"))


def _parse(text: str, units: dict[str, int], option: str, example: str) -> float:
    found = re.fullmatch(rf"([0-9]+(?:\.[0-9]+)?)([{''.join(units)}])", text)
    if not found:
        raise UsageError(f"{option} {text} is not valid", remedy=f"write it like {example}")
    return float(found[1]) * units[found[2]]


def select_removals(found: StoreSurvey, rules: Rules, now_s: float) -> list[Removal]:
    """The items to remove, and those that would be removed if they were not in use.

    Stale items are always included. Of the others, those not used for ``older_than_s``; with ``max_bytes``, the least
    recently used until at most that much is left; with ``images`` and neither of the two, all items of these images.
    """
    scope = set(rules.images)
    in_scope = [item for item in found.items if not scope or (item.images and set(item.images) <= scope)]
    chosen = {item: reason for item in in_scope if (reason := item.why_stale or _reason(item, rules, now_s))}
    if rules.max_bytes is not None:
        left = found.size_bytes - sum(item.size_bytes for item in chosen if not item.user)
        for item in sorted(in_scope, key=lambda item: item.used_s):
            if left > rules.max_bytes and item.kind.is_large and item not in chosen:
                chosen[item] = "least recently used"
                left -= 0 if item.user else item.size_bytes
    removed = {item.name for item in chosen if item.kind is StoreKind.ARTIFACTS and not item.user}
    notes = [item for item in found.items if item.kind in (StoreKind.NOTE, StoreKind.DRIVERS) and item.name in removed]
    chosen |= dict.fromkeys(notes, "its artifacts are removed")
    return [Removal(item, reason, item.user and f"in use by {item.user}") for item, reason in chosen.items()]


def _reason(item: StoreItem, rules: Rules, now_s: float) -> str:
    if item.kind in (StoreKind.WORK, StoreKind.OTHER):
        return ""
    if rules.older_than_s is not None:
        return "not used for that long" if now_s - item.used_s > rules.older_than_s else ""
    return f"of {', '.join(item.images)}" if rules.images and rules.max_bytes is None else ""


def prune(store: Store, rules: Rules, *, dry_run: bool = False) -> list[Removal]:
    """Remove what `select_removals` returns; the result says what was removed and what was kept.

    Every item is first renamed into a work folder, so that other processes see it whole or not at all; what an
    interrupt leaves there is removed by the next build or prune. Raises `UsageError` for an image without items,
    `HostError` if the store cannot be written.
    """
    found = survey(store)
    known = sorted({image for item in found.items for image in item.images})
    for image in rules.images:
        if image not in known:
            raise UsageError(f"--image {image}: the store has nothing of it; known: {', '.join(known) or 'none'}")
    if dry_run or not found.items:
        return select_removals(found, rules, time.time())
    try:
        with store.locked("prune"):
            removals = select_removals(survey(store), rules, time.time())
            with store.workfolder(remove=_remove) as bin_folder:
                return list(_carry_out(store, removals, bin_folder))
    except OSError as error:
        raise HostError(f"{store.root} cannot be pruned: {error.strerror} ({error.filename})") from error


def _carry_out(store: Store, removals: list[Removal], bin_folder: Path) -> Iterator[Removal]:
    for removal in removals:
        if removal.item.kind in _HELD:
            yield removal if removal.why_kept else _discard_held(store, removal, bin_folder)
    with store.locked("tmp"):  # no build begins while the block lasts
        is_building = any(is_worked_in(path) for path in bin_folder.parent.iterdir() if path != bin_folder)
        for removal in removals:
            if removal.item.kind in _HELD:
                continue
            if removal.item.kind is StoreKind.WORK or removal.why_kept:  # making bin_folder removed dead builds' work
                yield removal
            else:
                yield replace(removal, why_kept="in use by a build") if is_building else _discard(removal, bin_folder)


def _discard_held(store: Store, removal: Removal, bin_folder: Path) -> Removal:
    (folder,) = removal.item.paths
    with store.locked("artifacts"):
        descriptor = lock_folder(folder, waits=False)
        if descriptor is None:
            return replace(removal, why_kept="in use")
        try:
            return _discard(removal, bin_folder)
        finally:
            os.close(descriptor)


def _discard(removal: Removal, bin_folder: Path) -> Removal:
    try:
        for path in removal.item.paths:
            path.rename(bin_folder / f"{path.parent.name}-{path.name}")
    except OSError as error:
        return replace(removal, why_kept=f"it cannot be moved: {error.strerror} ({error.filename})")
    return removal


def _remove(folder: Path) -> None:
    """Remove a folder; builds without root leave files that subordinate ids own."""
    try:
        shutil.rmtree(folder)
    except PermissionError:
        remove(folder)


def removed_bytes(removals: list[Removal]) -> int:
    return sum(removal.item.size_bytes for removal in removals if not removal.why_kept)

"""The commands store and store prune."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from harness.store.inventory import StoreItem, StoreSurvey
    from harness.store.prune import Removal

_STORE = """\
List what the store keeps: artifacts, templates, build layers, downloaded packages, logs. Each line shows who uses an
item now, or why no run will use it again. `bootproof store prune` removes items.

The store is the folder $BOOTPROOF_STORE, by default ~/.cache/bootproof.
"""
_STORE_EPILOG = """\
examples:
  bootproof store           list the store, and the free disk space
  bootproof store prune     remove what no run will use again

exit status: 0; 75 the store cannot be read
"""
_PRUNE = """\
Remove from the store what the next build or run of an image would not use: artifacts superseded by newer ones of the
same image and version, their layers, older versions of downloaded packages, damaged items, and leftovers of builds
that died. Everything the most recent run used is kept. Pruning only costs rebuild time.

Items in use by a run, a boot or a build are never removed; they are listed.
"""
_PRUNE_EPILOG = """\
examples:
  bootproof store prune --dry-run                    only list what would be removed
  bootproof store prune --older-than 30d             also remove what was not used for 30 days
  bootproof store prune --max-size 20G               also remove the least recently used, down to 20 GiB
  bootproof store prune --image base                 remove everything of base, and nothing else
  bootproof store prune --image base --older-than 1w

exit status: 0; 4 a wrong option; 75 the store cannot be written
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    store = add_command(commands, "store", _store, "list the store, or free its disk space", _STORE, _STORE_EPILOG)
    store.usage = "bootproof store [-h] [--json] [prune ...]"
    add_json(store, "every item with its paths")
    verbs = store.add_subparsers(metavar="prune", prog="bootproof store")
    add = add_command(verbs, "prune", _prune, "remove what no run will use again", _PRUNE, _PRUNE_EPILOG).add_argument
    add("--older-than", metavar="AGE", help="also remove what was not used for AGE: 30d, 12h, 2w")
    add("--max-size", metavar="SIZE", help="also remove the least recently used until SIZE is left: 20G, 500M")
    add("--image", action="append", default=[], metavar="NAME",
        help="only remove items of this image; without other options, all of them (repeatable)")  # fmt: skip
    add("--dry-run", action="store_true", help="only list what would be removed")


def _store(options: argparse.Namespace) -> int:
    from harness.core.tables import show
    from harness.store import inventory
    from harness.store.store import find_store

    found = inventory.survey(find_store())
    if options.json:
        print_json(found)
        return 0
    if found.items:
        show(_survey_table(found, time.time()))
        print()
    print(inventory.summary(found))
    return 0


def _prune(options: argparse.Namespace) -> int:
    from harness.core.tables import show
    from harness.core.text import size
    from harness.store import inventory, prune
    from harness.store.store import find_store

    rules = prune.Rules(
        older_than_s=prune.parse_age(options.older_than) if options.older_than else None,
        max_bytes=prune.parse_size(options.max_size) if options.max_size else None,
        images=tuple(options.image),
    )
    store = find_store()
    removals = prune.prune(store, rules, dry_run=options.dry_run)
    if removals:
        show(_removal_table(removals, dry_run=options.dry_run))
        print()
    verb = "would be freed" if options.dry_run else "freed"
    print(f"{size(prune.removed_bytes(removals))} {verb}; {inventory.summary(inventory.survey(store))}")
    return 0


def _survey_table(found: StoreSurvey, now_s: float) -> Table:
    """One line for each item; many small items of a kind share a line."""
    from harness.core.tables import new_table
    from harness.core.text import ago

    rows = new_table("kind", "what", "image", "version", "last used", "size", "")
    for group in _grouped(found.items, _state):
        used_s = max(item.used_s for item in group)
        rows.add_row(*_cells(group), ago(now_s - used_s), _size_of(group), _state(group[0]))
    return rows


def _removal_table(removals: Sequence[Removal], *, dry_run: bool) -> Table:
    """One line for each item that was removed, or would be, or stays because it is in use."""
    from harness.core.tables import new_table

    rows = new_table("", "kind", "what", "image", "version", "size", "why")
    reasons = {removal.item: removal for removal in removals}
    verb = "would remove" if dry_run else "removed"
    for group in _grouped(reasons, lambda item: reasons[item].reason + reasons[item].why_kept):
        removal = reasons[group[0]]
        why = f"{removal.reason}, but {removal.why_kept}" if removal.why_kept else removal.reason
        rows.add_row("stays" if removal.why_kept else verb, *_cells(group), _size_of(group), why)
    return rows


def _state(item: StoreItem) -> str:
    from harness.store.inventory import StoreKind

    using = "in progress" if item.kind is StoreKind.WORK else f"in use by {item.user}"
    return "; ".join(filter(None, [item.user and using, item.why_stale]))


def _grouped(found: Iterable[StoreItem], label: Callable[[StoreItem], str]) -> list[list[StoreItem]]:
    """The lines of a table, in order. Small items of one kind share a line if their ``label`` is the same."""
    from harness.store.inventory import StoreKind

    order = list(StoreKind)
    groups: dict[tuple[str, ...], list[StoreItem]] = {}
    for item in sorted(found, key=lambda item: (order.index(item.kind), item.images, item.version, item.used_s)):
        single = "" if item.kind.is_grouped else str(item.paths)
        groups.setdefault((item.kind, label(item), single), []).append(item)
    return list(groups.values())


def _cells(group: Sequence[StoreItem]) -> tuple[str, str, str, str]:
    """Kind, name, image and version of a line."""
    from harness.store.inventory import StoreKind

    first = group[0]
    is_digest = first.kind in (StoreKind.ARTIFACTS, StoreKind.LAYER, StoreKind.INCOMING) or (
        first.kind is StoreKind.TEMPLATE and first.why_stale == "damaged"
    )
    name = first.name[:12] if is_digest else first.name
    if first.kind is StoreKind.PACKAGES:
        name = f"{first.name}, {len(first.paths)}"
    if first.kind.is_grouped:
        name = str(len(group))
    images = {", ".join(item.images) for item in group}
    return first.kind, name, images.pop() if len(images) == 1 else "", first.version


def _size_of(group: Sequence[StoreItem]) -> str:
    from harness.core.text import size

    return size(sum(item.size_bytes for item in group))

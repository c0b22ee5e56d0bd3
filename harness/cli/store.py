"""The commands store and store prune: show what the store keeps, and free disk space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from harness.core.tables import new_table
from harness.core.text import ago, size
from harness.store.inventory import StoreItem, StoreKind, StoreSurvey

if TYPE_CHECKING:
    from rich.table import Table

    from harness.store.prune import Removal


def survey_table(found: StoreSurvey, now_s: float) -> Table:
    """One line for each item; many small items of a kind share a line."""
    rows = new_table("kind", "what", "image", "version", "last used", "size", "")
    for group in _grouped(found.kept, _state):
        used_s = max(item.used_s for item in group)
        rows.add_row(*_cells(group), ago(now_s - used_s), _size_of(group), _state(group[0]))
    return rows


def removal_table(removals: Sequence[Removal], *, dry_run: bool) -> Table:
    """One line for each item that was removed, or would be, or stays because it is in use."""
    rows = new_table("", "kind", "what", "image", "version", "size", "why")
    reasons = {removal.kept: removal for removal in removals}
    verb = "would remove" if dry_run else "removed"
    for group in _grouped(reasons, lambda item: reasons[item].reason + reasons[item].spared):
        removal = reasons[group[0]]
        why = f"{removal.reason}, but {removal.spared}" if removal.spared else removal.reason
        rows.add_row("stays" if removal.spared else verb, *_cells(group), _size_of(group), why)
    return rows


def _state(item: StoreItem) -> str:
    using = "in progress" if item.kind is StoreKind.WORK else f"in use by {item.user}"
    return "; ".join(filter(None, [item.user and using, item.flaw]))


def _grouped(found: Iterable[StoreItem], label: Callable[[StoreItem], str]) -> list[list[StoreItem]]:
    """The lines of a table, in order. Small items of one kind share a line if their ``label`` is the same."""
    order = list(StoreKind)
    groups: dict[tuple[str, ...], list[StoreItem]] = {}
    for item in sorted(found, key=lambda item: (order.index(item.kind), item.images, item.version, item.used_s)):
        single = "" if item.kind.is_told_together else str(item.paths)
        groups.setdefault((item.kind, label(item), single), []).append(item)
    return list(groups.values())


def _cells(group: Sequence[StoreItem]) -> tuple[str, str, str, str]:
    """Kind, name, image and version of a line."""
    first = group[0]
    is_digest = first.kind in (StoreKind.ARTIFACTS, StoreKind.LAYER) or (
        first.kind is StoreKind.TEMPLATE and first.flaw == "damaged"
    )
    name = first.name[:12] if is_digest else first.name
    if first.kind is StoreKind.PACKAGES:
        name = f"{first.name}, {len(first.paths)}"
    if first.kind.is_told_together:
        name = str(len(group))
    images = {", ".join(item.images) for item in group}
    return first.kind, name, images.pop() if len(images) == 1 else "", first.version


def _size_of(group: Sequence[StoreItem]) -> str:
    return size(sum(item.size_bytes for item in group))

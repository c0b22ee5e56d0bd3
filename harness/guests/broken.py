"""Whether a version keeps the contract with the guests of the version before: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from harness.lint.finding import LintFailed
from harness.model.guest_contract import TITLES, GuestContract, Loss, losses
from harness.model.verdict import Finding

_NAMES_SHOWN = 12


class ContractBroken(LintFailed):
    """Guests of the version before do not start: ``finding`` says what they lack."""


def broken(before: GuestContract, after: GuestContract, old: str, new: str) -> Finding | None:
    """The finding about what guests lose between the versions ``old`` and ``new``; None if they lose nothing.

    Both contracts are of machines with the same CPU.
    """
    lost = list(losses(before, after))
    if not lost:
        return None
    more = f", and {len(lost) - 1} more" if lost[1:] else ""
    changed = [
        f"{program}: {was} → {after.programs.get(program, 'none')}"
        for program, was in before.programs.items()
        if was != after.programs.get(program)
    ]
    return Finding(
        id="guest-contract-broken",
        what=f"guests that {old} starts do not start under {new}: {lost[0]}{more}",
        where=f"an upgrade from {old}",
        evidence=(*_lines(lost), *changed),
        cause=_CHANGED if changed else _SAME,
    )


_CHANGED = "QEMU or libvirt no longer has what was deprecated, or a package of its own has it"
_SAME = "the package or the file that has it is no longer in the image"


def _lines(lost: list[Loss]) -> Iterator[str]:
    """One for each kind of loss, as "machine type is gone: pc-q35-2.4, pc-q35-2.5"."""
    names = defaultdict[tuple[str, str], list[str]](list)
    for one in lost:
        names[one.kind, one.what].append(one.name)
    for (kind, what), found in names.items():
        more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
        yield f"{TITLES[kind]} {what}: {', '.join(found[:_NAMES_SHOWN])}{more}"

"""Whether a version keeps the contract with the guests of the version before: pure."""

from __future__ import annotations

from harness.lint.finding import LintFailed
from harness.model.guest_contract import GuestContract, losses
from harness.model.verdict import Finding

_SHOWN = 10


class ContractBroken(LintFailed):
    """Guests of the version before do not start: ``finding`` says what they lack."""


def broken(before: GuestContract, after: GuestContract, old: str, new: str) -> Finding | None:
    """The finding about what guests lose between the versions ``old`` and ``new``; None if they lose nothing.

    Both contracts are of machines with the same CPU.
    """
    lost = [str(one) for one in losses(before, after)]
    if not lost:
        return None
    more = f", and {len(lost) - 1} more" if lost[1:] else ""
    changed = [
        f"{program}: {was} → {after.programs.get(program, 'none')}"
        for program, was in before.programs.items()
        if was != after.programs.get(program)
    ]
    hidden = [f"and {len(lost) - _SHOWN} more: bootproof diff lists all"] if len(lost) > _SHOWN else []
    return Finding(
        id="guest-contract-broken",
        what=f"guests that {old} starts do not start under {new}: {lost[0]}{more}",
        where=f"an upgrade from {old}",
        evidence=(*lost[:_SHOWN], *hidden, *changed),
        cause=_CHANGED if changed else _SAME,
    )


_CHANGED = "a newer QEMU or libvirt no longer has what an older one had declared deprecated"
_SAME = "the package or the file that has it is no longer in the image"

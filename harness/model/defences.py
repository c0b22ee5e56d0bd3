"""The defences of a running kernel by name, and which of them a version lost against the one before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

FLAW = "flaw "
"""How the names begin of what a kernel does about a flaw of the CPU: "flaw mds"."""
LOCKDOWN, MODULES, MICROCODE = "lockdown", "security modules", "microcode"
_LEVELS = ("none", "integrity", "confidentiality")
"""Linux, security/lockdown/lockdown.c."""


def weakened(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each defence that ``after`` lacks, of the same machine."""
    for name, old in before.items():
        if sentence := loss(name, old, after.get(name, "")):
            yield sentence


def loss(name: str, old: str, new: str) -> str:
    """What a machine lost whose defence ``name`` was ``old`` and is ``new``, which is empty if it is not known.

    Empty if it lost nothing.
    """
    if name.startswith(FLAW) and _is_met(old) and new and not _is_met(new):
        return f"the kernel no longer counters {name.removeprefix(FLAW)}: it said {old!r}, and says {new!r}"
    if name == LOCKDOWN and new in _LEVELS and _LEVELS.index(new) < _LEVELS.index(old):
        return f"the kernel's lockdown was {old}, is {new}"
    if name == MODULES and (lost := set(old.split(",")) - set(new.split(","))):
        return f"the kernel runs without the security modules {', '.join(sorted(lost))}"
    if name == MICROCODE and new and int(new, 16) < int(old, 16):
        return f"the microcode is older: it was {old}, is {new}"
    return ""


def _is_met(text: str) -> bool:
    return text.startswith(("Mitigation", "Not affected"))

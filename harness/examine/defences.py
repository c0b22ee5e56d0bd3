"""The defences of a running kernel, and which of them a version lost against the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.examine.texts import by_file
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read

_FLAWS = Probe("flaws of the CPU", "grep -aH '' /sys/devices/system/cpu/vulnerabilities/*")
_LOCKDOWN = Probe(
    "lockdown", "[ -e /sys/kernel/security/lockdown ] || { echo absent; exit; }\ncat /sys/kernel/security/lockdown"
)
_MODULES = Probe("security modules", "[ -e /sys/kernel/security/lsm ] || { echo absent; exit; }\n"
                 "cat /sys/kernel/security/lsm")  # fmt: skip
_CPU = Probe("CPU", "cat /proc/cpuinfo")

_FLAW = "flaw "
_LEVELS = ("none", "integrity", "confidentiality")
"""Linux, security/lockdown/lockdown.c."""


def defences(channel: Channel) -> dict[str, str]:
    """By name: what the kernel does about each flaw of the CPU, its lockdown, its security modules, and the revision of
    the microcode; those that this kernel does not tell are left out. `ImageError` if a command fails."""
    answers = ask(channel, [_FLAWS, _LOCKDOWN, _MODULES, _CPU])
    flaws = read(answers, _FLAWS, lambda text: by_file(text.splitlines()))
    found = {f"{_FLAW}{path.rpartition('/')[2]}": rows[0] for path, rows in flaws.items()}
    if lockdown := re.search(r"\[(\w+)\]", answers[_LOCKDOWN.name]):
        found["lockdown"] = lockdown[1]
    if answers[_MODULES.name] != "absent":
        found["security modules"] = answers[_MODULES.name]
    if microcode := re.search(r"^microcode\s*: (0x[0-9a-f]+)", answers[_CPU.name], re.MULTILINE):
        found["microcode"] = microcode[1]
    return found


def weakened(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each defence that ``after`` lacks, of the same machine: pure."""
    for name, old in before.items():
        new = after.get(name, "")
        if name.startswith(_FLAW) and _is_met(old) and new and not _is_met(new):
            yield f"the kernel no longer counters {name.removeprefix(_FLAW)}: it said {old!r}, and says {new!r}"
        elif name == "lockdown" and new in _LEVELS and _LEVELS.index(new) < _LEVELS.index(old):
            yield f"the kernel's lockdown was {old}, is {new}"
        elif name == "security modules" and (lost := set(old.split(",")) - set(new.split(","))):
            yield f"the kernel runs without the security modules {', '.join(sorted(lost))}"
        elif name == "microcode" and new and int(new, 16) < int(old, 16):
            yield f"the microcode is older: it was {old}, is {new}"


def _is_met(text: str) -> bool:
    return text.startswith(("Mitigation", "Not affected"))

"""The defences of a running kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.examine.texts import by_file
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.model.defences import FLAW, LOCKDOWN, MICROCODE, MODULES, weakened

__all__ = ["CPU", "PROBES", "defences", "parse", "weakened"]

_FLAWS = Probe("flaws of the CPU", "grep -aH '' /sys/devices/system/cpu/vulnerabilities/*")
_LOCKDOWN = Probe(
    "lockdown", "[ -e /sys/kernel/security/lockdown ] || { echo absent; exit; }\ncat /sys/kernel/security/lockdown"
)
_MODULES = Probe("security modules", "[ -e /sys/kernel/security/lsm ] || { echo absent; exit; }\n"
                 "cat /sys/kernel/security/lsm")  # fmt: skip
CPU = Probe("CPU", "cat /proc/cpuinfo")
PROBES = (_FLAWS, _LOCKDOWN, _MODULES, CPU)


def defences(channel: Channel) -> dict[str, str]:
    """By name: what the kernel does about each flaw of the CPU, its lockdown, its security modules, and the revision of
    the microcode; those that this kernel does not tell are left out. `ImageError` if a command fails."""
    return parse(ask(channel, PROBES))


def parse(answers: Mapping[str, str]) -> dict[str, str]:
    """`ImageError` for an answer that is not as expected."""
    flaws = read(answers, _FLAWS, lambda text: by_file(text.splitlines()))
    found = {f"{FLAW}{path.rpartition('/')[2]}": rows[0] for path, rows in flaws.items()}
    if lockdown := re.search(r"\[(\w+)\]", answers[_LOCKDOWN.name]):
        found[LOCKDOWN] = lockdown[1]
    if answers[_MODULES.name] != "absent":
        found[MODULES] = answers[_MODULES.name]
    if microcode := re.search(r"^microcode\s*: (0x[0-9a-f]+)", answers[CPU.name], re.MULTILINE):
        found[MICROCODE] = microcode[1]
    return found

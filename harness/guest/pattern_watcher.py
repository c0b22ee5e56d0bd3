"""Which console patterns a boot has shown so far: lines in, matches out. No thread, no socket, no clock."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from harness.core.errors import Blame
from harness.guest.console_patterns import PATTERNS, ConsolePattern, begins_phase, has_registers, patterns_in

_log = logging.getLogger(__name__)

CONTEXT_LINES = 6
REGISTERS_S = 1.0
"""How long the kernel may take from the first line of a bug to the registers, which follow within a few lines."""
_OVERCOME = ("kernel", "userspace")
_SHOWN_BY_REGISTERS = {
    name for pattern in PATTERNS if any(map(has_registers, pattern.any_of)) for name in pattern.overrides
}
"""Findings that may turn out to be the emulator's a few lines later."""


def _outlasts_a_phase(pattern: ConsolePattern) -> bool:
    """A starved host stays one, and an emulator that has gone wrong."""
    return pattern.is_final or pattern.blame is Blame.HOST


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A pattern and the lines that show it; ``evidence`` ends with the line that matched."""

    pattern: ConsolePattern
    evidence: tuple[str, ...]


class PatternWatcher:
    """``matches`` are the patterns seen, oldest first. A later line can replace a match: see `feed`.

    Each id is there once, or twice if a final pattern followed one that is not. A match that is not final disappears
    when the kernel or user space starts: what firmware and boot loader, or the initrd, tried before did not stop them.

    ``nics`` is how many network cards the firmware boots from. Patterns of an emulator's bugs match only if the machine
    ``is_emulated``; ``registers_s`` is how long after the first line of a kernel bug its registers may follow.
    """

    def __init__(self, *, nics: int = 1, is_emulated: bool = False, registers_s: float = REGISTERS_S) -> None:
        self.matches: list[PatternMatch] = []
        self._nics, self._is_emulated, self._registers_s = nics, is_emulated, registers_s
        self._nics_left, self._is_nic_new = nics, True
        self._context: list[str] = []
        self._bug: int | None = None
        """Index in ``matches`` of a kernel bug whose registers were not printed yet."""
        self._bug_s = -math.inf

    def for_next_boot(self) -> PatternWatcher:
        """A watcher with the same settings that has seen nothing."""
        return PatternWatcher(nics=self._nics, is_emulated=self._is_emulated, registers_s=self._registers_s)

    def feed(self, line: str, at_s: float) -> list[PatternMatch]:
        """The matches that ``line``, printed at ``at_s``, adds to ``matches`` or changes there.

        The registers of a kernel bug can show that it is the emulator's: then the bug's match is replaced.
        """
        self._context = [*self._context[1 - CONTEXT_LINES :], line]
        phase = begins_phase(line)
        self._is_nic_new |= not self._is_nic_new and phase == "ipxe"
        if phase in _OVERCOME:
            self.matches[:] = [match for match in self.matches if _outlasts_a_phase(match.pattern)]
            self._bug = None
        changed = []
        for pattern in patterns_in(line, is_emulated=self._is_emulated):
            if pattern.is_per_nic and self._has_another_nic():
                continue
            if all(seen.pattern.id != pattern.id or seen.pattern.is_final < pattern.is_final for seen in self.matches):
                changed += self._note(pattern, line, at_s)
        if has_registers(line):
            self._bug = None
        for match in changed:
            _log.debug("console pattern %s: %s", match.pattern.id, line)
        return changed

    def awaits_registers(self, at_s: float) -> bool:
        """Whether the registers of a kernel bug, which can show that it is the emulator's, may still follow."""
        return self._bug is not None and at_s - self._bug_s < self._registers_s

    def _note(self, pattern: ConsolePattern, line: str, at_s: float) -> list[PatternMatch]:
        evidence = tuple(self._context)
        if not (pattern.overrides and has_registers(line)):
            if pattern.id in _SHOWN_BY_REGISTERS and self._is_emulated:  # before another thread may see the match
                self._bug_s, self._bug = at_s, len(self.matches)
            self.matches.append(PatternMatch(pattern, evidence))
            return self.matches[-1:]
        if self._bug is None or self.matches[self._bug].pattern.id not in pattern.overrides:
            return []
        first_line = self.matches[self._bug].evidence[-1]
        evidence = evidence if first_line in evidence else (first_line, *evidence)
        self.matches[self._bug] = PatternMatch(pattern, evidence)
        return [self.matches[self._bug]]

    def _has_another_nic(self) -> bool:
        """Count one more failed card, unless iPXE says in a second line that the same card failed."""
        if self._is_nic_new:
            self._nics_left -= 1
        self._is_nic_new = False
        return self._nics_left > 0

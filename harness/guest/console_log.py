"""What a console's text says of each boot in it: how far the boot came, what failed, and what to do next.

The text may come from anywhere, so nothing is known of the machine: boots are told apart by what they print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from harness.core.text import clean, escaped
from harness.guest.console_marks import (
    BOOT_PROGRAMS,
    EMULATOR,
    HARDWARE,
    LOADER_FINDINGS,
    NEW_JOURNAL,
    NOISE,
    PRINTK,
    READY,
    RELEASE,
    SENDER,
    STAGES,
    STAMPS,
    begins_boot,
    date_of,
    rank,
    stage_of,
)
from harness.guest.console_patterns import ConsolePattern, has_registers, patterns_in
from harness.guest.console_style import Style, joined, line_ends
from harness.guest.console_text import BREAK, SEAM, Chunk
from harness.guest.line_search import Candidate, candidates, found_in
from harness.guest.logged_boot import EMERGENCY, UNIT_FAILED, LoggedBoot, Quote, Seen, conclude
from harness.guest.pattern_watcher import PatternWatcher

_CONTEXT, _FOLLOWING, _TAIL, _MOST_CHARS, _MOST_TAIL = 4, 2, 12, 400, 20_000
_UEFI = ("BdsDxe: ", "EFI stub")
_MOST_FAILED = 1000
"""So many failed units of a boot are looked at; more are a unit that restarts for ever."""


@dataclass(slots=True)
class _Hit:
    pattern: ConsolePattern
    quote: Quote
    context: tuple[str, ...]
    following: tuple[str, ...]
    count: int = 0
    stage: int = 0
    """The latest stage of the boot when the pattern was seen last."""


class _Boot:
    """A boot while its lines are read. An emulator's faults are told from the kernel's at the end, when the hardware
    is known, so two watchers see each line."""

    def __init__(self, number: int, line: int, began: str) -> None:
        self.number, self.line, self.began = number, line, began
        self.kernel, self.is_uefi, self.is_emulated = "", False, True
        self.stages = dict[str, int]()
        self.watchers = {is_emulated: PatternWatcher(is_emulated=is_emulated) for is_emulated in (True, False)}
        self.hits: dict[bool, dict[str, _Hit]] = {True: {}, False: {}}
        self.last_failed: _Hit | None = None
        """The last failed unit before the emergency shell, if it is not the first one."""

    @property
    def stage(self) -> int:
        return max(self.stages.values(), default=0)

    def note_machine(self, text: str) -> None:
        if not self.kernel and (release := RELEASE.search(text)):
            self.kernel = release[1]
        if HARDWARE.search(text):
            self.is_emulated &= bool(EMULATOR.search(text))
        self.is_uefi |= any(mark in text for mark in _UEFI)

    def note(self, message: str, patterns: list[ConsolePattern], evidence: Callable[[ConsolePattern], _Hit]) -> None:
        """Count what ``message`` shows, which matches ``patterns``; a pattern's first line needs ``evidence``."""
        for is_emulated, watcher in self.watchers.items():
            hits = self.hits[is_emulated]
            if has_registers(message) or any(pattern.overrides or pattern.id not in hits for pattern in patterns):
                for match in watcher.feed(message, 0.0):
                    hits[match.pattern.id] = evidence(match.pattern)
                patterns = patterns_in(message, is_emulated=is_emulated)
            for pattern in patterns:
                if hit := hits.get(pattern.id):
                    hit.count, hit.stage = hit.count + 1, self.stage
                    if pattern.id == UNIT_FAILED and EMERGENCY not in hits and 1 < hit.count <= _MOST_FAILED:
                        self.last_failed = evidence(pattern)

    def seen(self) -> list[Seen]:
        """The findings in the order of the log. Where the boot ended in an emergency shell, so are the first failed
        unit and the last one before it, from which it follows."""
        hits = self.hits[self.is_emulated]
        seen = [self._seen(hits[match.pattern.id]) for match in self.watchers[self.is_emulated].matches]
        if self.last_failed and EMERGENCY in hits:
            seen.append(self._seen(replace(self.last_failed, count=1, stage=hits[UNIT_FAILED].stage)))
        return sorted(seen, key=lambda one: one.quote.line)

    def _seen(self, hit: _Hit) -> Seen:
        """A retry that led to a later stage succeeded, as for a watched boot."""
        pattern = hit.pattern
        may_recover = pattern.is_retried or pattern.is_per_nic or (not pattern.is_final and self.stage >= READY)
        return Seen(
            id=pattern.id, what=pattern.says(hit.quote.text), cause=pattern.cause, blame=pattern.blame, quote=hit.quote,
            context=hit.context, following=hit.following, count=hit.count, is_final=pattern.is_final,
            is_recovered=may_recover and self.stage > hit.stage,
        )  # fmt: skip


class LogReader:
    """Reads one log: `feed` its chunks in order, then `end`. Keeps of each boot only what it reports."""

    def __init__(self) -> None:
        self._boots = list[LoggedBoot]()
        self._boot = _Boot(1, 1, "")
        self._style: Style | None = None
        self._line = 1
        self._text, self._from = "", 0
        """The chunk that is read, and where in it the boot's lines begin."""
        self._tail = list[Quote]()
        """The last lines of the boot in the chunks before."""

    def feed(self, chunk: Chunk) -> None:
        """Read the next lines."""
        self._style = self._style or (Style(0, (), is_journal=True) if chunk.is_journal else Style.of(chunk.text))
        self._text, self._from = joined(chunk.text, self._style), 0
        self._boot.began = self._boot.began or date_of(self._text)
        read = 0
        for candidate in candidates(self._text):
            self._line += line_ends(self._text, read, candidate.start)
            read = candidate.start
            self._read(candidate, self._style)
        self._line += line_ends(self._text, read, len(self._text))
        self._tail = self._last_lines(len(self._text))

    def end(self) -> tuple[LoggedBoot, ...]:
        """All boots, in the order of the log."""
        self._text, self._from = "", 0
        self._finish(0)
        return tuple(self._boots)

    def _read(self, candidate: Candidate, style: Style) -> None:
        """Read a line: as a whole if a terminal wrapped it; by parts if the cursor was moved in it, then as a whole."""
        line = self._text[candidate.start : candidate.end]
        whole, *parts = line.split(SEAM)
        if parts:
            is_found = self._read_message("".join([whole, *parts]), candidate, style)
        else:
            is_found = False
            for part in line.split(BREAK):
                is_found |= self._read_message(part, candidate, style)
            parts = [line.replace(BREAK, "")] if BREAK in line else []
        for part in parts if not is_found else ():
            self._note_patterns([part], candidate, is_late=self._boot.stage >= rank("kernel"))

    def _read_message(self, text: str, candidate: Candidate, style: Style) -> bool:
        """Whether ``text`` shows a pattern."""
        bare = _without_stamps(text)
        program, message = "", bare
        if style.is_journal and (sender := SENDER.match(bare)):
            program, message = sender["program"], _without_stamps(bare[sender.end() :])
            if not BOOT_PROGRAMS.fullmatch(program) or (program == "systemd" and sender["pid"] not in (None, "[1]")):
                return False  # not about the boot; other systemds than process 1 are of users
        if candidate.is_mark:
            if NEW_JOURNAL.match(bare):
                if self._boot.stages or self._line > self._boot.line:
                    self._begin(candidate.start, text)
                return False
            if (mark := stage_of(bare)) and (program in ("", "kernel") or rank(mark[0]) > rank("kernel")):
                stage, at = mark
                if begins_boot(stage, bare[at:], self._boot.stage):
                    is_found = at > 0 and self._read_message(bare[:at], candidate, style)
                    self._begin(candidate.start, text)
                    return self._read_message(bare[at:], candidate, style) or is_found
                self._boot.stages.setdefault(stage, rank(stage))
            self._boot.note_machine(bare)
        is_late = bool(program) or self._boot.stage >= rank("kernel")
        return self._note_patterns(dict.fromkeys((text, bare, message)), candidate, is_late=is_late)

    def _note_patterns(self, forms: Iterable[str], candidate: Candidate, *, is_late: bool) -> bool:
        """Note what the first of the ``forms`` of a message that matches shows. Loaders print nothing any more if
        ``is_late``."""
        for form in forms:
            found = [pattern for pattern in found_in(form) if not (is_late and pattern.id.startswith(LOADER_FINDINGS))]
            if found or has_registers(form):
                self._boot.note(form, found, lambda pattern: self._evidence(pattern, candidate))
                return bool(found)
        return False

    def _evidence(self, pattern: ConsolePattern, candidate: Candidate) -> _Hit:
        quote = Quote(line=self._line, text=_shown(self._text[candidate.start : candidate.end]))
        context = tuple(before.text for before in self._last_lines(candidate.start)[-_CONTEXT:])
        after = self._text[candidate.end : candidate.end + _MOST_TAIL].split("\n")[1 : _FOLLOWING + 1]
        following = takewhile(lambda line: not (NOISE.match(line) or stage_of(line)), after)
        return _Hit(pattern, quote, context, tuple(map(_shown, following)))

    def _begin(self, start: int, text: str) -> None:
        """Begin the next boot with the line at ``start``."""
        self._finish(start)
        self._from, self._tail = start, []
        self._boot = _Boot(len(self._boots) + 1, self._line, date_of(text))

    def _finish(self, start: int) -> None:
        """Note the boot, which ends at ``start``; a few lines without a sign of a boot are none."""
        boot, tail, seen = self._boot, self._last_lines(start), self._boot.seen()
        if not boot.stages and any(PRINTK.match(quote.text) for quote in tail):
            boot.stages["kernel"] = rank("kernel")
        if not (tail or seen):
            return
        last = tail[-1] if tail else Quote(line=boot.line, text="")
        self._boots.append(
            conclude(
                seen,
                number=boot.number,
                is_ready=boot.stage >= READY,
                is_uefi=boot.is_uefi,
                stage=STAGES[boot.stage],
                stages=tuple(boot.stages),
                first_line=boot.line,
                last_line=max(boot.line, last.line, *(one.quote.line for one in seen)),
                began=boot.began,
                kernel=boot.kernel,
                last=last,
                tail=tuple(quote.text for quote in tail),
            )
        )

    def _last_lines(self, start: int) -> list[Quote]:
        """The boot's last lines before ``start`` of the text, where the line begins that is read."""
        found, at, line = list[Quote](), start, self._line
        while at > self._from and len(found) < _TAIL and start - at < _MOST_TAIL:
            before = max(self._text.rfind("\n", 0, at - 1) + 1, self._from)
            text = self._text[before:at].removesuffix("\n")
            line -= line_ends(self._text, before, at)
            if not NOISE.match(text):
                found.append(Quote(line=line, text=_shown(text)))
            at = before
        return [*(self._tail if at == 0 else []), *reversed(found)][-_TAIL:]


def _without_stamps(text: str) -> str:
    return text[stamps.end() :] if (stamps := STAMPS.match(text)) else text


def _shown(text: str) -> str:
    """A line fit for a terminal and a file, without what stands for breaks in it."""
    shown = escaped(clean(text.replace(SEAM, "").replace(BREAK, " ").replace("\t", " ")).rstrip())
    return shown if len(shown) <= _MOST_CHARS else shown[: _MOST_CHARS - 1] + "…"

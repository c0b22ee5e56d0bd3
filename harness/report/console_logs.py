"""What `bootproof explain FILE` prints: the boots of logs, for people. One cause is shown once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from harness.guest.logged_boot import NEEDS_A_RUN, ConsoleLog, LoggedBoot, Seen
from harness.model.finding_catalog import nearest

_WORDS = {
    "unknown": "no stage of a boot that is known",
    "firmware": "the firmware",
    "ipxe": "iPXE",
    "grub": "the boot loader",
    "kernel": "the kernel",
    "initrd": "the initrd",
    "switch-root": "the switch of root",
    "userspace": "user space",
    "login": "the login prompt",
    "shutdown": "a regular shutdown",
}
_OUTCOMES = {"failed": "failed", "unknown": "not seen to become ready", "ready": "with no finding"}
"""In the order of the page."""
_WIDTH, _MOST_OTHERS, _MOST_CAUSES = 150, 6, 6
_VARIES = re.compile(r"0x[0-9a-f]+|[\d.:]+")


def page(logs: Sequence[ConsoleLog]) -> Iterator[str]:
    """The logs as lines of text, those that failed first."""
    shown = set[tuple[str, str]]()
    order = [*_OUTCOMES]
    for log in sorted(logs, key=lambda log: min((order.index(boot.outcome) for boot in log.boots), default=3)):
        if shown:
            yield ""
        yield f"{log.name}: {_summary(log.boots) if log.boots else f'not read: {log.problem}'}"
        if log.problem and log.boots:
            yield f"  read only in part: {log.problem}"
        yield from _causes(log, shown)


def _summary(boots: Sequence[LoggedBoot]) -> str:
    counts = [(sum(boot.outcome == outcome for boot in boots), words) for outcome, words in _OUTCOMES.items()]
    if len(boots) == 1:
        return f"1 boot, {next(words for count, words in counts if count)}"
    return f"{len(boots)} boots" + "".join(f", {count} {words}" for count, words in counts if count)


def _causes(log: ConsoleLog, shown: set[tuple[str, str]]) -> Iterator[str]:
    """Each cause with its latest boot in full; boots that became ready in one line."""
    causes = dict[tuple[str, str], list[LoggedBoot]]()
    for boot in log.boots:
        causes.setdefault(_cause(boot), []).append(boot)
    in_full = 0
    for cause, boots in sorted(causes.items(), key=_latest_failure_first):
        boot = boots[-1]
        title = f"  boot {boot.number}" + (f" of {len(log.boots)}" if len(log.boots) > 1 else "") + _place(boot)
        if cause[0] == "ready":
            yield f"  {_numbers(boots)}: reached {_WORDS[boot.stage]}, no finding"
        elif cause in shown and boot.main:
            yield f"{title}: [{boot.cause}] as above, line {boot.main.quote.line}"
        elif in_full == _MOST_CAUSES:
            yield "  … and more: --json has all"
            return
        else:
            in_full += 1
            shown.add(cause)
            yield title
            if len(boots) > 1:
                yield f"    the same in {_numbers(boots[:-1])}"
            yield from _failure(boot, boot.main) if boot.main else _unknown(boot)


def _latest_failure_first(cause: tuple[tuple[str, str], list[LoggedBoot]]) -> tuple[int, int]:
    (outcome, _), boots = cause
    return [*_OUTCOMES].index(outcome) if outcome in _OUTCOMES else 0, -boots[-1].number


def _cause(boot: LoggedBoot) -> tuple[str, str]:
    if boot.main:
        return boot.main.id, _VARIES.sub("", boot.main.quote.text)[-80:]
    return boot.outcome, boot.stage


def _numbers(boots: Sequence[LoggedBoot]) -> str:
    """ "boots 1 to 3, 5" """
    ranges = list[list[int]]()
    for boot in boots:
        if ranges and ranges[-1][-1] == boot.number - 1:
            ranges[-1] = [ranges[-1][0], boot.number]
        else:
            ranges.append([boot.number])
    words = [" to ".join(map(str, part)) for part in ranges]
    words = words if len(words) <= _MOST_OTHERS else [*words[:_MOST_OTHERS], f"… ({len(boots)} in all)"]
    return f"boot{'s' if len(boots) > 1 else ''} {', '.join(words)}"


def _place(boot: LoggedBoot) -> str:
    parts = [f"lines {boot.first_line} to {boot.last_line}", boot.began, f"Linux {boot.kernel}" if boot.kernel else ""]
    reached = "" if boot.stage == "unknown" else f": reached {_WORDS[boot.stage]}"
    return f" ({', '.join(filter(None, parts))}){reached}"


def _failure(boot: LoggedBoot, main: Seen) -> Iterator[str]:
    first = boot.findings[0]
    if first is not main:
        yield f"    failed first, but not the likely cause: {first.what} [{first.id}], line {first.quote.line}"
        yield f"      > {_cut(first.quote.text)}"
    yield f"    {'failed first' if first is main else 'likely cause'}: {main.what} [{main.id}], line {main.quote.line}"
    yield from (f"      | {_cut(line)}" for line in main.context)
    yield f"      > {_cut(main.quote.text)}"
    yield from (f"      | {_cut(line)}" for line in main.following)
    if not NEEDS_A_RUN.search(main.cause):
        yield f"    why: {main.cause}"
    if boot.likely:
        yield f"    most likely: {'; or '.join(boot.likely)}"
    others = [seen for seen in boot.findings if seen not in (first, main)]
    if others or main.count > 1:
        yield f"    in all: {_counts([main, *others])}"
    yield from _harmless(boot)
    if boot.last.line != main.quote.line:
        yield f"    ends in line {boot.last.line}: {_cut(boot.last.text)}"
    yield from _next(boot)


def _unknown(boot: LoggedBoot) -> Iterator[str]:
    end = f"{'shows' if boot.stage == 'unknown' else 'ends in'} {_WORDS[boot.stage]}, after line {boot.last.line}"
    yield f"    {end}; no known pattern: if it stopped there, why is unknown"
    yield from (f"      | {_cut(line)}" for line in boot.tail[-5:])
    similar, line = nearest(boot.tail)
    if similar:
        yield f"    most similar finding: {similar}, for: {_cut(line)}"
    yield from _harmless(boot)
    if boot.stage != "unknown":
        yield from _next(boot)


def _harmless(boot: LoggedBoot) -> Iterator[str]:
    if boot.recovered:
        yield f"    recovered, so harmless: {_counts(boot.recovered)}"


def _counts(findings: Iterable[Seen]) -> str:
    return ", ".join(f"{seen.id} ({_lines(seen)})" for seen in findings)


def _lines(seen: Seen) -> str:
    return f"{seen.count} lines, first {seen.quote.line}" if seen.count > 1 else f"line {seen.quote.line}"


def _next(boot: LoggedBoot) -> Iterator[str]:
    yield "    next:"
    yield from (f"      - {step}" for step in boot.next)


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"

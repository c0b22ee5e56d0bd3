"""Console patterns: which lines on a console mean trouble. The patterns are data, in ``console_patterns.toml``.

A pattern is matched against one console line, without colours and carriage return. It must never match a line of a
healthy boot. To add a pattern: a table in the TOML file, rows in ``tests/consoles/messages.tsv``, and the
explanation of its finding with an example line in ``model/finding_catalog.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core import ext4_features
from harness.core.config_file import ConfigTable, read_table
from harness.core.errors import Blame
from harness.guest.regex_words import whole_words, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A ``file`` of a ``program`` that prints the lines of a pattern, in the given ``versions``."""

    program: str
    file: str
    versions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePattern:
    """A line that one of the regular expressions ``any_of`` matches, and none of ``unless``, means trouble.

    ``id`` is the finding's, ``cause`` the usual suspect. A boot can still succeed after a pattern that is not
    ``is_final``; it then counts for nothing. The cause of one that ``is_retried`` disappears if the network recovers.
    One that ``is_per_nic`` is printed by iPXE of each network card, and means trouble when the last card has printed
    it. One that ``overrides`` others applies to emulated machines only: the match of the other pattern was the
    emulator's fault.
    """

    id: str
    any_of: tuple[str, ...]
    what: str
    cause: str
    unless: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    blame: Blame = Blame.IMAGE
    is_final: bool = True
    is_retried: bool = False
    is_per_nic: bool = False
    overrides: tuple[str, ...] = ()

    def matches(self, line: str) -> bool:
        """Whether the pattern matches ``line``, with or without the time stamps of printk, syslog or the journal."""
        text = unstamped(line)
        return any(_search(regex)(text) for regex in self.any_of) and not self.is_excluded(text)

    def says(self, line: str) -> str:
        """``what`` of a ``line`` that matches, with the features of ext4 that the line is about."""
        features = ext4_features.refused(line)
        return f"{self.what}: {', '.join(features)}" if features else self.what

    def is_excluded(self, text: str) -> bool:
        """Whether ``text``, a line without time stamps, is one that the pattern must not match."""
        return any(_search(regex)(text) for regex in self.unless)


@cache
def _search(regex: str) -> Callable[[str], re.Match[str] | None]:
    """The search of ``regex``: there are more of them than `re` keeps compiled."""
    return re.compile(regex).search


def load_patterns(file: Path) -> tuple[ConsolePattern, ...]:
    """The patterns of a TOML file, in its order; its comments describe the format. `DefinitionError` for a mistake."""
    whole = read_table(file)
    patterns = tuple(pattern for group in whole.tables("group") for pattern in _patterns_of(group))
    whole.finish()
    return patterns


def _patterns_of(group: ConfigTable) -> Iterator[ConsolePattern]:
    program = group.take("program", str, '"Linux"')
    versions = group.take("versions", str, '"4.15-7.0"')
    unless = group.strings("unless", "['^kernel: ']", ())
    for table in group.tables("pattern"):
        yield ConsolePattern(
            id=table.take("id", str, '"kernel-panic"'),
            any_of=table.strings("any", "['Kernel panic - not syncing']"),
            unless=(*unless, *table.strings("unless", "['^sr ']", ())),
            what=table.take("what", str, '"the kernel panicked"'),
            cause=table.take("cause", str, '"see the lines before it"'),
            sources=tuple(
                Source(program=program, file=name, versions=versions)
                for name in table.strings("sources", '["kernel/panic.c"]')
            ),
            blame=Blame(table.one_of("blame", [*Blame], "a blame", Blame.IMAGE)),
            is_final=table.take("is_final", bool, "false", True),
            is_retried=table.take("is_retried", bool, "true", False),
            is_per_nic=table.take("is_per_nic", bool, "true", False),
            overrides=table.strings("overrides", '["kernel-oops"]', ()),
        )
        table.finish()
    group.finish()


PATTERNS: tuple[ConsolePattern, ...] = load_patterns(Path(__file__).with_suffix(".toml"))


def patterns_in(line: str, *, is_emulated: bool = True) -> list[ConsolePattern]:
    """The patterns that ``line`` matches: the first of each finding, without those that another one of them overrides.

    About 30 MB/s for the lines of good boots: only regular expressions that have a word of ``line`` are searched.
    """
    index = _index()
    words = words_of(line)
    if index.words.isdisjoint(words):
        return []
    text = unstamped(line)
    numbers = {
        number for word in index.words.intersection(words) for number, search in index.by_word[word] if search(text)
    }
    found = [
        pattern
        for pattern in map(PATTERNS.__getitem__, sorted(numbers))
        if (is_emulated or not pattern.overrides) and not pattern.is_excluded(text)
    ]
    overridden = {name for pattern in found for name in pattern.overrides}
    first = {pattern.id: pattern for pattern in reversed(found) if pattern.id not in overridden}
    return [pattern for pattern in found if first.get(pattern.id) is pattern]


_LOST_COLOUR = re.compile(r"(?:\x1b|\^\[|ESC)\[[\d;:]*[mK]|[.?␛←]?\[\d{1,3}(?:[;:]\d{1,3})*m")
_STAMP = re.compile(
    r"""\s*(?:>\s*)*(?:<\d+>\s*|[a-z]+\d?\s*:[a-z]+\s*:\s+)?  # the level, as dmesg -r and dmesg -x print it
    (?:(?:(?:[A-Z][a-z]{2}\s+)?[^\W\d]{3,5}\.?\s+\d+\s\d\d:[\d:.]+(?:\s\d{4})?  # syslog, with or without the year
         |\d+月\s+\d+\s\d\d:[\d:.]+
         |\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?)\s+  # the journal
       (?:[\w.-]+\s+(?=[a-zA-Z(/][\w.()@/-]*(?:\[\d+\])?:\s))?)?  # the host
    (?:(?:[\w.-]+\s+(?=kernel:\s+\[))?kernel:\s+)?
    (?:\[(?:[-\s\d.:T+Z]*  # the console's log, printk's time
         |(?:[A-Z][a-z]{2}\s+)?[A-Z][a-z]{2}\s*\d+\s[\d:.]+(?:\s\d{4})?)\]\s*)*  # dmesg -T and -H
    (?:\[\s*[TC]\d+\]\s*)?  # printk's caller
    (?:[\w.-]+\s+(?=[a-zA-Z(/][\w.()@/-]*\[\d+\]:\s))?  # the host, as in dracut's rdsosreport.txt
    (?:\(initramfs\)\s+)?(?:Begin:\s.*?\s\.\.\.\s+)*  # initramfs-tools: its prompt, steps that go on
    """,
    re.VERBOSE,
)


def unstamped(line: str) -> str:
    """``line`` without the time stamps before the message, the tag of the kernel, and the steps of initramfs-tools.

    Also without the colours of a pasted log, which has lost their escape character.
    """
    if "0m" in line or "\x1b" in line:
        line = _LOST_COLOUR.sub("", line)
    stamp = _STAMP.match(line)
    return line[stamp.end() :] if stamp else line


@dataclass(frozen=True, slots=True)
class _Index:
    """``by_word`` has for each of ``words`` the number of each pattern and the search of each regular expression of it
    that matches no line without the word."""

    words: frozenset[bytes]
    by_word: Mapping[bytes, list[tuple[int, Callable[[str], re.Match[str] | None]]]]


_COMMON = frozenset(
    b"1 I O Failed failed Error error Starting System system File Network Detected CPU Memory memory at can console"
    b" configuration default dev device disabled enabled for found from fs has init initramfs in interface is kernel"
    b" Module mode modprobe module mount mounted no not of on option available process set starting supported systemd"
    b" target to tmpfiles udevd update switch filesystem hostname such received does driver".split()
)
"""Words that ordinary lines have: a regular expression is found by another of its words, if it has one."""


@cache
def _index() -> _Index:
    by_word: dict[bytes, list[tuple[int, Callable[[str], re.Match[str] | None]]]] = {}
    for number, pattern in enumerate(PATTERNS):
        for regex in pattern.any_of:
            word = max(whole_words(regex), key=lambda word: (word not in _COMMON, len(word)))
            by_word.setdefault(word, []).append((number, _search(regex)))
    return _Index(frozenset(by_word), by_word)


PHASES: tuple[tuple[str, str], ...] = (
    # a phase begins with the first line that matches; "firmware" begins when QEMU starts
    ("ipxe", r"^iPXE \d|iPXE initialising devices"),
    ("grub", r"GRUB loading|Welcome to GRUB!"),
    ("kernel", r"Linux version \d"),
    ("initrd", r"Run /init as init process"),
    ("userspace", r"Starting initrd-switch-root\.service|Switching root\."),
)
"""The first line of each phase of a boot, in order. The phase "ready" is reported by the guest, not seen here."""


def has_registers(line: str) -> bool:
    """Whether ``line`` has a processor's flags, which x86 kernels print a few lines into a bug report."""
    return "EFLAGS: " in line


def begins_phase(line: str) -> str | None:
    """The phase that begins with ``line``, if any."""
    return next((name for name, pattern in PHASES if re.search(pattern, line)), None)

"""What the journal of a ready host says: denials, errors that nobody expects, and lines that it lost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.examine.known import known
from harness.examine.texts import lines_of, some
from harness.examine.units import GENERATOR
from harness.guest.probes import Probe, read
from harness.guest.serial_shell import SHELL_UNIT
from harness.lint.finding import LintFinding, fails
from harness.model.definition import ExpectedError

_JOURNAL = "journalctl -b -q --no-pager"
_ERRORS = Probe(
    "errors in the journal",
    f"echo look\n{_JOURNAL} -p err -n 3000 -o json --output-fields=SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,UNIT,MESSAGE",
)
_SYSTEMD = Probe("messages of systemd", f"echo look\n{_JOURNAL} -n 5000 -o cat _PID=1")
_KERNEL = Probe("messages of the kernel", f"{_JOURNAL} -n 8000 -o cat _TRANSPORT=kernel + _TRANSPORT=audit")
_JOURNALD = Probe("messages of the journal itself", f"echo look\n{_JOURNAL} -n 500 -o cat -t systemd-journald")
_BUS = Probe(
    "messages of the bus", f"echo look\n{_JOURNAL} -n 1000 -o cat -t dbus-daemon -t dbus-broker -t dbus-broker-launch"
)
_AUDIT = Probe(
    "the log of auditd",
    "[ -e /var/log/audit/audit.log ] || { echo absent; exit; }\necho look\ntail -n 8000 /var/log/audit/audit.log",
)
"""The kernel hands its audit to auditd, where that runs, and to nobody else."""
_PLACES = Probe("files of the journal", some("ls -d /run/log/journal/*/*.journal /var/log/journal/*/*.journal"))
PROBES = (_ERRORS, _SYSTEMD, _KERNEL, _JOURNALD, _BUS, _AUDIT, _PLACES)

_PROGRAM = r"""(?:.*?\b(?:comm|label)="(?P<program>[^"]+)")?"""
"""The bus, which denies messages, names only the profile."""
_DENIALS = (
    ("AppArmor", re.compile(rf'apparmor="DENIED"{_PROGRAM}')),
    ("SELinux", re.compile(rf"\bavc: +denied\b{_PROGRAM}")),
    ("seccomp", re.compile(rf"\btype=(?:1326|SECCOMP)\b{_PROGRAM}")),
    ("Landlock", re.compile(rf"\btype=(?:1423|LANDLOCK_ACCESS)\b{_PROGRAM}")),
)
"""Linux, include/uapi/linux/audit.h: AUDIT_SECCOMP is 1326, AUDIT_LANDLOCK_ACCESS 1423."""
_VARIES = re.compile(r"\d+(\.\d+)?|0x[0-9a-f]+")
_LOST = re.compile(
    r"Suppressed \d+ messages|Missed \d+ kernel messages|corrupted or uncleanly shut down"
    r"|Failed to (write|open|rotate)|No space left"
)
_MOST_SAME = 4
_ON_DISK = "/var/log/journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of priority err or worse; ``source`` is the unit that it is of or about, else the program."""

    source: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReading:
    """The messages of systemd, of the kernel and its audit, and of journald; ``audit`` are those that auditd and the
    message bus have, and ``places`` the journal's files."""

    errors: tuple[Entry, ...] = ()
    systemd: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    journald: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    places: tuple[str, ...] = ("/run/log/journal/0/system.journal",)

    @property
    def of_systemd(self) -> tuple[str, ...]:
        """Also of its children that run generators."""
        return (*self.systemd, *(entry.message for entry in self.errors))


def parse(answers: Mapping[str, str]) -> JournalReading:
    """`ImageError` for an answer that is not as expected."""
    return JournalReading(
        errors=read(answers, _ERRORS, lambda text: tuple(entry_of(json.loads(line)) for line in lines_of(text))),
        systemd=read(answers, _SYSTEMD, lambda text: tuple(lines_of(text))),
        kernel=read(answers, _KERNEL, _kernel),
        journald=read(answers, _JOURNALD, lambda text: tuple(lines_of(text))),
        audit=(
            *read(answers, _BUS, lambda text: tuple(lines_of(text))),
            *read(answers, _AUDIT, lambda text: tuple(lines_of(text)) if text != "absent" else ()),
        ),
        places=read(answers, _PLACES, lambda text: tuple(lines_of(text))),
    )


def _kernel(text: str) -> tuple[str, ...]:
    if "Linux version" not in text and "Command line" not in text:
        raise ValueError("nothing that a kernel prints first")
    return tuple(text.splitlines())


def entry_of(fields: Mapping[str, Any]) -> Entry:
    """What ``journalctl -o json`` printed about an entry. journalctl(1): a field that is no text is a list of bytes,
    and one that is given twice a list of values."""
    source = fields.get("UNIT") or fields.get("_SYSTEMD_UNIT") or fields.get("SYSLOG_IDENTIFIER") or "kernel"
    return Entry(source=_text(source), message=_text(fields.get("MESSAGE") or ""))


def _text(value: object) -> str:
    if isinstance(value, list):
        return bytes(value).decode("utf-8", "replace") if all(type(one) is int for one in value) else str(value[0])
    return str(value)


def judge(
    journal: JournalReading, expected: Sequence[ExpectedError], persistent: Sequence[str] = ()
) -> Iterator[LintFinding]:
    """``persistent`` are the persistent paths of the definition."""
    yield from _denials(journal)
    yield from judge_errors(journal.errors, expected)
    for line in dict.fromkeys(journal.journald):
        if _LOST.search(line):
            yield fails("journal-not-kept", "journal:systemd-journald", "entries were lost", line)
    if not journal.places:
        yield fails("journal-not-kept", "journal:systemd-journald", "the journal has no file: nothing is kept of it")
    elif any(f"{_ON_DISK}/".startswith(f"{path}/") for path in persistent) and not any(
        place.startswith(f"{_ON_DISK}/") for place in journal.places
    ):
        what = "the definition keeps it, and the journal is in RAM only"
        yield fails("journal-not-kept", _ON_DISK, what, *journal.places)


def _denials(journal: JournalReading) -> Iterator[LintFinding]:
    by_program = dict[tuple[str, str], list[str]]()
    for line in (*journal.kernel, *journal.audit, *(entry.message for entry in journal.errors)):
        for kind, pattern in _DENIALS:
            if found := pattern.search(line):
                program = found["program"] or "a program"
                by_program.setdefault((kind, program), []).append(line)
                break
    for (kind, program), lines in by_program.items():
        what = f"{kind} denied it something {len(lines):,} times"
        yield fails("access-denied", f"process:{program}", what, *dict.fromkeys(lines))


def judge_errors(entries: Sequence[Entry], expected: Sequence[ExpectedError]) -> Iterator[LintFinding]:
    """One finding for entries that differ only by numbers."""
    normal = [re.compile(pattern) for pattern in (*(one.message for one in expected), *known("errors"))]
    kinds = dict[tuple[str, str], list[str]]()
    for entry in entries:
        is_known = any(pattern.search(entry.message) for pattern in normal) or entry.source == SHELL_UNIT
        if not is_known and not GENERATOR.search(entry.message) and "DENIED" not in entry.message:
            kinds.setdefault((entry.source, _VARIES.sub("0", entry.message)), []).append(entry.message)
    for (source, _), messages in kinds.items():
        times = f" ({len(messages):,} times)" if messages[1:] else ""
        what = f"it logged an error{times}: {messages[0].splitlines()[0] if messages[0] else '(empty)'}"
        yield fails("journal-error", f"journal:{source}", what, *messages[:_MOST_SAME])

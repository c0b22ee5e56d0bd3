"""What a console's text says of each boot in it: how far the boot came, what failed, and what to do next.

The text may come from anywhere, so nothing is known of the machine: boots are told apart by what they print.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from harness.core.errors import Blame
from harness.core.text import clean, escaped
from harness.guest.console_patterns import PATTERNS, PHASES, ConsolePattern, begins_phase, has_registers, patterns_in
from harness.guest.console_text import BREAK, Chunk
from harness.guest.pattern_watcher import PatternWatcher
from harness.guest.required_literals import required_literals
from harness.model.finding_catalog import explanations

STAGES = ("unknown", "firmware", "ipxe", "grub", "kernel", "initrd", "switch-root", "userspace", "login", "shutdown")
"""How far a boot came, in order. ``unknown``: nothing shows it."""

_CONTEXT, _TAIL, _MOST_CHARS, _MOST_TAIL, _MOST_DATE = 4, 12, 400, 20_000, 12
_SAMPLE, _SAMPLE_LINES, _FEW = 1 << 17, 500, 20
_USUAL_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 80, 60, 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Line number ``line``, from 1, of a file, without control characters; long ones are cut."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A finding that ``count`` lines of one boot show; ``quote`` is the first, ``context`` the lines before it.

    ``is_final`` if the boot could not succeed afterwards. ``is_recovered`` if it did: the line is then harmless.
    """

    id: str
    what: str
    cause: str
    blame: Blame
    quote: Quote
    context: tuple[str, ...]
    count: int
    is_final: bool
    is_recovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedBoot:
    """One boot in a log, which has it in the lines ``first_line`` to ``last_line``.

    ``outcome``: ``failed`` with ``findings``, ``ready`` if it reached the login prompt without any, else ``unknown``.
    ``stage`` is the latest of `STAGES` that it reached, ``stages`` are all that its lines show. ``kernel`` is the
    release, ``began`` the time beside the first line; empty if unknown. ``findings`` are in the order of the log,
    without those that ``recovered``; ``cause`` is the id of the likeliest one. ``likely`` are its usual causes, the
    likeliest first, and ``next`` what to run or to look at. ``tail`` are the last lines; ``last`` is the last of all.
    """

    number: int
    outcome: str
    stage: str
    stages: tuple[str, ...]
    cause: str
    likely: tuple[str, ...]
    next: tuple[str, ...]
    findings: tuple[Seen, ...]
    recovered: tuple[Seen, ...]
    first_line: int
    last_line: int
    began: str
    kernel: str
    last: Quote
    tail: tuple[str, ...]

    @property
    def main(self) -> Seen | None:
        """The finding that is the likeliest cause."""
        return next((seen for seen in self.findings if seen.id == self.cause), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLog:
    """The boots in one file. ``problem`` is why not all of it could be read; empty if all was."""

    name: str
    boots: tuple[LoggedBoot, ...]
    problem: str = ""


_DATED = (
    r"(?:\[(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:[.,]\d+)?(?: [A-Z]{3,5})?(?: \d{4})?\]"  # dmesg -T
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|[A-Z]{3,5}\b|[+-]\d\d:?\d\d))?\]?"  # ISO 8601
    r"|[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [A-Z]{3,5}"  # journalctl -o short-full
    r"|[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d+)?"  # RFC 3164, ts(1)
    r"|\d{10}\.\d{3,6})"  # journalctl -o short-unix
)
_STAMPS = re.compile(
    rf"(?:(?:{_DATED}"
    r"|\[ *\d+\.\d{1,6}\]|\[ *[TC]\d+\]"  # printk and its caller, short-monotonic, Bootproof's console.log
    r"|<\d{1,3}>) ?)+"
)
_OUTER = re.compile(rf"(?:{_DATED}|\[ *\d+\.\d\d\]) ?")
"""A time that whatever kept the console put before each line."""
_PRINTK = re.compile(r".*\[ *\d+\.\d{6}\]")
_DATE = re.compile(r"(?:[A-Z][a-z]{2} )?(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\d[T ])\d\d:\d\d:\d\d(?: \d{4}(?=\]))?")
_SENDER = re.compile(r"(?!\[)\S+ (?P<program>[\w./@()+:-]+?)(?P<pid>\[\d+\])?: ?")
_BOOT_PROGRAMS = re.compile(
    r"kernel|systemd.*|\(.*|dracut.*|init|initrd.*|initramfs.*|systemctl|persist|mount|fsck.*|e2fsck|curl|wget|live.*"
    r"|casper.*|udev.*|bootproof.*|.*-generator|zram.*|switch_root|modprobe|lvm|mdadm|iscsi.*|multipath.*|NetworkManager"
)
"""What reports on a boot in a journal or syslog. Others, such as a database, have errors of their own."""
_LOADER_FINDINGS = ("no-boot-device", "ipxe-", "grub-", "firmware-")

_STAGE_MARKS = (
    ("shutdown", r"reboot: (Restarting system|Power down|System halted)|systemd-shutdown\[1\]: "
                 r"|Reached target .*((shutdown|poweroff|reboot)\.target|Shutdown|Power-Off|System Reboot)"),
    ("login", r"(?<!Last )\blogin: ?(\[|$)|Reached target .*(multi-user\.target|graphical\.target|getty\.target"
              r"|Multi-User System|Graphical Interface|Login Prompts)"),
    ("userspace", r"Welcome to (?!GRUB|emergency|rescue)(?!.*([Ii]nitramfs|dracut|initrd)).+!|INIT: version \d"
                  r"|Run /(sbin|etc|bin)/\w+ as init process|Permit User Sessions|Getty on |User Login Management"),
    ("initrd", r"Running in init(ial RAM disk|rd|ramfs)|dracut-(cmdline|pre-udev|initqueue)\b|Loading, please wait"
               r"|Begin: Loading essential drivers|Welcome to .*([Ii]nitramfs|dracut|initrd)"),
    ("grub", r"Booting a command list|ISOLINUX \d|PXELINUX \d|SYSLINUX \d|EFI stub: "),
    ("firmware", r"SeaBIOS \(version |BdsDxe: |UEFI firmware|American Megatrends|Phoenix\S* BIOS|System BIOS"
                 r"|Intel\(R\) Boot Agent|PXE-[EM]\d\d|>>Start (PXE|HTTP) |No bootable (option or )?device"),
)  # fmt: skip
"""Besides `begins_phase`; of the stages that a line shows, the latest comes first."""
_POWER_ON = re.compile(r"SeaBIOS \(version |UEFI firmware|American Megatrends")
_NEW_JOURNAL = re.compile(r"^-- (Reboot|Boot [0-9a-f]{32}) --")
_HARDWARE = re.compile(r"DMI: |Hardware name: |Hypervisor detected: KVM")
_EMULATOR = re.compile(r"(DMI|Hardware name): (QEMU|Bochs)")
_RELEASE = re.compile(r"Linux version (\S+)")
_OTHER_MARKS = (_NEW_JOURNAL.pattern, _HARDWARE.pattern, "EFLAGS: ", "Linux version ")
_MARKS = (*(regex for _, regex in (*PHASES, *_STAGE_MARKS)), *_OTHER_MARKS)
_STAGE_OF = {"userspace": "switch-root"}
"""What `begins_phase` calls user space begins with the switch of root."""
_READY = STAGES.index("login")
_UNIT = re.compile(r"[\w@:.\\-]+\.(service|mount|socket|automount|swap|timer|path)\b")
_NEEDS_A_RUN = re.compile(r"BUNDLE|bundle|network\.log|qmp\.log|journal\.log|manifest|the report|the finding names")
_NOISE = re.compile(r"^\s*(\[-- .*\])?\s*$|^\[[ *]+\] ")
"""conserver's own lines, systemd's spinner, blank ones: never the last line of a boot."""
_SEAM = "\x1f"
"""Stands in place of the end of a line that a terminal wrapped."""
_NEW_MESSAGE = re.compile(r"  |\[[ \dTC.]+\]|\[[ A-Z!*]{4,10}\]|\[[A-Z][a-z]{2} |See '|-- ")


@cache
def _index() -> dict[str, tuple[ConsolePattern, ...]]:
    """Console patterns by the literals that their lines contain; a literal that shows only a stage has none."""
    found = dict.fromkeys(
        (literal for regex in _MARKS for literal in required_literals(regex)), tuple[ConsolePattern, ...]()
    )
    for pattern in PATTERNS:
        for literal in required_literals(pattern.regex):
            found[literal] = (*found.get(literal, ()), pattern)
    for literal in sorted(found, key=len, reverse=True):  # one that contains another is found with it
        if part := next((other for other in found if other != literal and other in literal), None):
            found[part] = (*found[part], *found.pop(literal))
    return found


@cache
def _without_literals() -> tuple[ConsolePattern, ...]:
    return tuple(pattern for pattern in PATTERNS if not required_literals(pattern.regex))


@dataclass(slots=True)
class _Hit:
    pattern: ConsolePattern
    quote: Quote
    context: tuple[str, ...]
    count: int = 0
    stage: int = 0
    """The latest stage when it was seen last."""


class _Boot:
    """A boot while its lines are read. An emulator's faults are told from the kernel's at the end, when the hardware
    is known, so two watchers see each line."""

    def __init__(self, number: int, line: int, began: str) -> None:
        self.number, self.line, self.began = number, line, began
        self.kernel, self.is_uefi, self.is_emulated = "", False, True
        self.stages = dict[str, int]()
        self.watchers = {is_emulated: PatternWatcher(is_emulated=is_emulated) for is_emulated in (True, False)}
        self.hits: dict[bool, dict[str, _Hit]] = {True: {}, False: {}}

    @property
    def stage(self) -> int:
        return max(self.stages.values(), default=0)

    def note(self, message: str, quote: Quote, context: tuple[str, ...], patterns: list[ConsolePattern]) -> None:
        """Count what ``message`` shows, which matches ``patterns``."""
        for is_emulated, watcher in self.watchers.items():
            hits = self.hits[is_emulated]
            if has_registers(message) or any(pattern.overrides or pattern.id not in hits for pattern in patterns):
                for match in watcher.feed(message, 0.0):
                    hits[match.pattern.id] = _Hit(match.pattern, quote, context)
                patterns = patterns_in(message, is_emulated=is_emulated)
            for pattern in patterns:
                if hit := hits.get(pattern.id):
                    hit.count, hit.stage = hit.count + 1, self.stage

    def seen(self) -> Iterator[Seen]:
        """The findings in the order of the log, as the live watcher judges them."""
        for match in self.watchers[self.is_emulated].matches:
            hit, pattern = self.hits[self.is_emulated][match.pattern.id], match.pattern
            may_recover = pattern.is_retried or pattern.is_per_nic or (not pattern.is_final and self.stage >= _READY)
            yield Seen(
                id=pattern.id, what=pattern.what, cause=pattern.cause, blame=pattern.blame, quote=hit.quote,
                context=hit.context, count=hit.count, is_final=pattern.is_final,
                is_recovered=may_recover and self.stage > hit.stage,
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Style:
    """How a log looks: each line has a time of ``prefix`` characters, terminals wrapped it at one of ``widths``, and
    ``is_journal`` if each line also names a host and a program."""

    prefix: int
    widths: tuple[int, ...]
    is_journal: bool

    @classmethod
    def of(cls, text: str) -> _Style:
        lines = [line for line in text[:_SAMPLE].split("\n")[:_SAMPLE_LINES] if line.strip()]
        found = [_OUTER.match(line) for line in lines]
        lengths = Counter(match.end() for match in found if match)
        prefix, count = lengths.most_common(1)[0] if lengths else (0, 0)
        prefix = prefix if count >= 0.9 * len(lines) else 0
        widths = Counter(len(line) - prefix for line in lines)
        widest = max(widths, default=0)
        is_wrapped = _LEAST_WIDTH <= widest <= _MOST_WIDTH and widths[widest] >= max(3, 0.02 * len(lines))
        return cls(prefix, tuple({_USUAL_WIDTH, widest if is_wrapped else _USUAL_WIDTH}), _is_journal(lines))


def _is_journal(lines: list[str]) -> bool:
    """Whether most lines have a sender. Of few lines, or lines with the kernel's times, only a sure sign counts."""
    stamped = [line[match.end() :] for line in lines if (match := _STAMPS.match(line))]
    senders = [match for line in stamped if (match := _SENDER.match(line))]
    sure = [match for match in senders if match["pid"] or match["program"] == "kernel"]
    return bool(sure) and len(senders) >= 0.7 * len(stamped) and (len(lines) >= _FEW or len(sure) == len(lines))


class LogReader:
    """Reads one log: `feed` its chunks in order, then `end`. Keeps of each boot only what it reports."""

    def __init__(self) -> None:
        self._boots = list[LoggedBoot]()
        self._boot = _Boot(1, 1, "")
        self._style: _Style | None = None
        self._line = 1
        self._text, self._from = "", 0
        """The chunk that is read, and where in it the boot's lines begin."""
        self._tail = list[Quote]()
        """The last lines of the boot in the chunks before."""

    def feed(self, chunk: Chunk) -> None:
        """Read the next lines."""
        if self._style is None:
            self._style = _Style.of(chunk.text)
            if chunk.is_journal:
                self._style = _Style(0, (), is_journal=True)
        self._text, self._from = _joined(chunk.text, self._style), 0
        if not self._boot.began:
            self._boot.began = _date(self._text)
        read = 0
        for start, end, patterns in _candidates(self._text):
            self._line += _line_ends(self._text, read, start)
            read = start
            self._read(start, end, patterns)
        self._tail = self._last_lines(len(self._text), self._line + _line_ends(self._text, read, len(self._text)))
        self._line += _line_ends(self._text, read, len(self._text))

    @property
    def has_text(self) -> bool:
        """Whether a chunk was read."""
        return self._style is not None

    def end(self) -> tuple[LoggedBoot, ...]:
        """All boots, in the order of the log. The line numbers of the last one include its last line."""
        self._text, self._from = "", 0
        self._finish(0, self._line)
        return tuple(self._boots)

    def _read(self, start: int, end: int, patterns: Iterable[ConsolePattern]) -> None:
        line = self._text[start:end]
        if _SEAM in line:
            whole, *parts = [line.replace(_SEAM, ""), *line.split(_SEAM)[1:]]
        elif BREAK in line:
            whole, *parts = [*line.split(BREAK), line.replace(BREAK, "")]
        else:
            whole, parts = line, []
        is_found = False
        for form in (whole, *parts):
            if not (is_found and form == line.replace(BREAK, "")):
                is_found |= self._read_message(form, start, patterns)
            if is_found and _SEAM in line:
                break

    def _read_message(self, text: str, start: int, patterns: Iterable[ConsolePattern]) -> bool:
        """Whether ``text`` shows a pattern."""
        assert self._style
        bare = text[match.end() :] if (match := _STAMPS.match(text)) else text
        program, message = "", bare
        if self._style.is_journal and (sender := _SENDER.match(bare)):
            program, message = sender["program"], bare[sender.end() :]
            if not _BOOT_PROGRAMS.fullmatch(program):
                return False
            message = message[match.end() :] if (match := _STAMPS.match(message)) else message
        if _NEW_JOURNAL.match(bare) and (self._boot.stages or self._line > self._boot.line):
            self._begin(start, text)
            return False
        if (mark := _stage(bare)) and not (program not in ("", "kernel") and _rank(mark[0]) <= _rank("kernel")):
            stage, at = mark
            if _begins_boot(stage, bare[at:], self._boot.stage):
                is_found = at > 0 and self._read_message(bare[:at], start, patterns)
                self._begin(start, text)
                return self._read_message(bare[at:], start, patterns) or is_found
            self._boot.stages.setdefault(stage, _rank(stage))
        self._note_machine(bare)
        return self._note_patterns(dict.fromkeys((text, bare, message)), start, patterns, is_program=bool(program))

    def _note_machine(self, text: str) -> None:
        if (release := _RELEASE.search(text)) and not self._boot.kernel:
            self._boot.kernel = release[1]
        if _HARDWARE.search(text):
            self._boot.is_emulated &= bool(_EMULATOR.search(text))
        self._boot.is_uefi |= "BdsDxe: " in text or "EFI stub" in text

    def _note_patterns(
        self, forms: Iterable[str], start: int, patterns: Iterable[ConsolePattern], *, is_program: bool
    ) -> bool:
        is_late = is_program or self._boot.stage >= _rank("kernel")
        for form in forms:
            found = [
                pattern
                for pattern in patterns
                if pattern.matches(form) and not (is_late and pattern.id.startswith(_LOADER_FINDINGS))
            ]
            if found or has_registers(form):
                context = [quote.text for quote in self._last_lines(start, self._line)]
                quote = Quote(line=self._line, text=_shown(self._text[start:].partition("\n")[0]))
                self._boot.note(form, quote, tuple(context[-_CONTEXT:]), found)
                return bool(found)
        return False

    def _begin(self, start: int, text: str) -> None:
        """Begin the next boot with the line at ``start``; one of which nothing is known is no boot."""
        self._finish(start, self._line)
        self._from, self._tail = start, []
        self._boot = _Boot(len(self._boots) + 1, self._line, _date(text))

    def _finish(self, start: int, line: int) -> None:
        """Note the boot, which ends before ``line``, at ``start`` of the text."""
        boot, tail = self._boot, self._last_lines(start, line)
        seen = [*boot.seen()]
        if not boot.stages and any(_PRINTK.match(quote.text) for quote in tail):
            boot.stages["kernel"] = _rank("kernel")
        if not (tail or seen or boot.stages):
            return
        last = tail[-1] if tail else Quote(line=boot.line, text="")
        findings = tuple(one for one in seen if not one.is_recovered)
        # a warning or a stall is the cause only if nothing else failed
        main = next(
            (one for one in findings if one.is_final and one.id != "kernel-warning"), next(iter(findings), None)
        )
        self._boots.append(
            LoggedBoot(
                number=boot.number,
                outcome="failed" if findings else "ready" if boot.stage >= _READY else "unknown",
                stage=STAGES[boot.stage],
                stages=tuple(boot.stages),
                cause=main.id if main else "",
                likely=explanations()[main.id].usual if main and main.id in explanations() else (),
                next=tuple(_next_steps(main, boot.stages, is_uefi=boot.is_uefi)),
                findings=findings,
                recovered=tuple(one for one in seen if one.is_recovered),
                first_line=boot.line,
                last_line=max(boot.line, last.line),
                began=boot.began,
                kernel=boot.kernel,
                last=last,
                tail=tuple(quote.text for quote in tail),
            )
        )

    def _last_lines(self, start: int, line: int) -> list[Quote]:
        """The boot's last lines before ``start`` of the text, where ``line`` begins."""
        found, at = list[Quote](), start
        while at > self._from and len(found) < _TAIL and start - at < _MOST_TAIL:
            before = max(self._text.rfind("\n", 0, at - 1) + 1, self._from)
            text = self._text[before : at - 1] if self._text[at - 1] == "\n" else self._text[before:at]
            line -= _line_ends(self._text, before, at)
            if not _NOISE.match(text):
                found.append(Quote(line=line, text=_shown(text)))
            at = before
        return [*(self._tail if at == 0 else []), *reversed(found)][-_TAIL:]


def _next_steps(main: Seen | None, stages: Iterable[str], *, is_uefi: bool) -> Iterator[str]:
    """What to do after the finding ``main``, without the files of a run: a log from elsewhere has none."""
    if main and main.id in explanations():
        yield from (step for step in explanations()[main.id].next if not _NEEDS_A_RUN.search(step))
    if main and (unit := _UNIT.search(main.quote.text)):
        yield f"on the machine, if it still answers: journalctl -b -u {unit[0]}"
    if main and main.blame is Blame.HOST:
        yield "bootproof doctor, on the host that ran the machine"
    if not main and not {"kernel", "initrd", "switch-root", "userspace"} & {*stages}:
        yield "tcpdump on the machine's network segment: what did the machine ask for, and what was the answer?"
    elif not main:
        yield "repeat it with the kernel arguments ignore_loglevel rd.debug systemd.log_level=debug, which show more"
    yield f"bootproof boot IMAGE --boot-path {_boot_path(stages, is_uefi=is_uefi)}: does the same image fail here?"
    if main:
        yield f"bootproof explain {main.id}"


def _boot_path(stages: Iterable[str], *, is_uefi: bool) -> str:
    """The boot path that is most like the boot."""
    if "ipxe" in stages:
        return "ipxe-uefi" if is_uefi else "ipxe-bios"
    return "grub" if "grub" in stages else "uefi-http" if is_uefi else "direct"


def _joined(text: str, style: _Style) -> str:
    """``text`` with a seam at each end of a line that a terminal wrapped."""
    if not style.widths or style.is_journal:
        return text
    lengths = "|".join(f"[^\n]{{{width + style.prefix}}}" for width in style.widths)
    pieces, at = list[str](), 0
    for match in re.finditer(rf"\n(?=({lengths})\n[^\n])", "\n" + text):
        end = match.end() - 1 + len(match[1])
        if not _NEW_MESSAGE.match(text, end + 1 + style.prefix):
            pieces.append(text[at:end])
            at = end + 1 + style.prefix
    return _SEAM.join([*pieces, text[at:]])


def _candidates(text: str) -> list[tuple[int, int, tuple[ConsolePattern, ...]]]:
    """The lines, by their begin and end in ``text``, that may show a pattern or a stage; and those patterns."""
    index = _index()
    found = dict[int, tuple[int, dict[ConsolePattern, None]]]()
    for literal, patterns in index.items():
        at = text.find(literal)
        while at >= 0:
            start, end = _line_around(text, at)
            found.setdefault(start, (end, {}))[1].update(dict.fromkeys(patterns))
            at = text.find(literal, end)
    for pattern in _without_literals():
        for match in re.finditer(pattern.regex, text, re.MULTILINE):
            start, end = _line_around(text, match.start())
            found.setdefault(start, (end, {}))[1][pattern] = None
    for mark in (BREAK, _SEAM):
        at = text.find(mark)
        while at >= 0:
            start, end = _line_around(text, at)
            whole = text[start:end].replace(BREAK, "").replace(_SEAM, "")
            for literal, patterns in index.items():
                if literal in whole:
                    found.setdefault(start, (end, {}))[1].update(dict.fromkeys(patterns))
            at = text.find(mark, end)
    return [(start, end, tuple(patterns)) for start, (end, patterns) in sorted(found.items())]


def _line_around(text: str, at: int) -> tuple[int, int]:
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _stage(text: str) -> tuple[str, int] | None:
    """The stage that ``text`` shows, and where in it."""
    if phase := begins_phase(text):
        mark = next(match for name, regex in PHASES if name == phase and (match := re.search(regex, text)))
        return _STAGE_OF.get(phase, phase), mark.start()
    return next(((stage, match.start()) for stage, regex in _STAGE_MARKS if (match := re.search(regex, text))), None)


def _rank(stage: str) -> int:
    return STAGES.index(stage)


def _begins_boot(stage: str, text: str, reached: int) -> bool:
    """Whether ``text``, which shows ``stage``, is of the next boot after one that ``reached`` another."""
    if stage in ("firmware", "ipxe", "grub"):
        return reached >= _rank("kernel") or (reached >= _rank("ipxe") and bool(_POWER_ON.match(text)))
    return (stage == "kernel" and reached >= _rank("kernel")) or (stage == "initrd" and reached >= _READY)


def _line_ends(text: str, start: int, end: int) -> int:
    return text.count("\n", start, end) + text.count(_SEAM, start, end)


def _date(text: str) -> str:
    """The time beside the first line; empty if there is none."""
    match = _DATE.search(text[: text.find("\n")] if "\n" in text else text)
    return match[0] if match and match.start() < _MOST_DATE else ""


def _shown(text: str) -> str:
    """A line fit for a terminal and a file, without what stands for breaks in it."""
    shown = escaped(clean(text.replace(_SEAM, "").replace(BREAK, " ").replace("\t", " ")).rstrip())
    return shown if len(shown) <= _MOST_CHARS else shown[: _MOST_CHARS - 1] + "…"

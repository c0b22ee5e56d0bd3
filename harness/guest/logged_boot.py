"""One boot as a log of its console shows it: values, the likeliest cause, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import Blame
from harness.model.finding_catalog import explanations

_UNIT = re.compile(r"[\w@:.\\-]+\.(service|mount|socket|automount|swap|timer|path)\b")
UNIT_FAILED, EMERGENCY = "unit-failed", "emergency-mode"
_DEPENDENCY = "unit-dependency-failed"
_STORAGE = re.compile(r"[Mm]ount|fsck|File System|[Ss]wap|[Cc]rypt|\bLVM|/")
"""A unit that an emergency can follow from: nothing else is needed for the local file systems."""
NEEDS_A_RUN = re.compile(
    r"BUNDLE|bundle|network\.log|qmp\.log|journal\.log|manifest|the report|the finding names|run's folder"
)
"""Advice about files that a log from elsewhere does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Line number ``line``, from 1, of a file, without control characters; long ones are cut."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A finding that ``count`` lines of one boot show; ``quote`` is the first, ``context`` the lines before it and
    ``following`` the next ones.

    ``is_final`` if the boot could not succeed afterwards. ``is_recovered`` if it did: the line is then harmless.
    """

    id: str
    what: str
    cause: str
    blame: Blame
    quote: Quote
    context: tuple[str, ...]
    following: tuple[str, ...]
    count: int
    is_final: bool
    is_recovered: bool

    @property
    def is_weak(self) -> bool:
        """Whether it is the likely cause only if nothing else failed: a warning, or a stall that the host may cause."""
        return self.id == "kernel-warning" or (not self.is_final and self.blame is Blame.HOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedBoot:
    """One boot in a log, which has it in the lines ``first_line`` to ``last_line``.

    ``outcome``: ``failed`` with ``findings``, ``ready`` if it reached the login prompt without any, else ``unknown``.
    ``stage`` is the latest that it reached of `console_marks.STAGES`, ``stages`` are all that its lines show.
    ``kernel`` is the release, ``began`` the time beside the first line; empty if unknown. ``findings`` are in the order
    of the log, without those that ``recovered``; ``cause`` is the id of the likeliest one. ``likely`` are its usual
    causes, the likeliest first, and ``next`` what to run or to look at. ``tail`` are the last lines, ``last`` the last.
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
        return next((seen for seen in reversed(self.findings) if seen.id == self.cause), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLog:
    """The boots in one file. ``problem`` is why not all of it could be read; empty if all was."""

    name: str
    boots: tuple[LoggedBoot, ...]
    problem: str = ""


def _likeliest(findings: Sequence[Seen]) -> Seen | None:
    """The first finding that is not weak. A unit that failed before the boot ended in an emergency shell may have
    nothing to do with it: then it is the last finding before the shell that has. Where a device was missing, nothing
    failed, and only dependencies did."""
    main = next((one for one in findings if not one.is_weak), next(iter(findings), None))
    ids = [one.id for one in findings]
    if main and main.id == UNIT_FAILED and EMERGENCY in ids:
        before = [one for one in findings[: ids.index(EMERGENCY)] if not one.is_weak]
        leads = [
            one
            for one in before
            if one.id != _DEPENDENCY and (one.id != UNIT_FAILED or _STORAGE.search(one.quote.text))
        ]
        return [main, *(one for one in before if one.id == _DEPENDENCY), *leads][-1]
    return main


def _next_steps(main: Seen | None, stages: Iterable[str], *, is_uefi: bool) -> Iterator[str]:
    """What to do after the finding ``main``, without the files of a run: a log from elsewhere has none."""
    if main and main.id in explanations():
        yield from (step for step in explanations()[main.id].next if not NEEDS_A_RUN.search(step))
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


def conclude(
    seen: Sequence[Seen], *, is_ready: bool, is_uefi: bool, stages: tuple[str, ...], **facts: Any
) -> LoggedBoot:
    """The boot in which ``seen`` was found; ``facts`` are the other fields of `LoggedBoot`."""
    findings = tuple(one for one in seen if not one.is_recovered)
    main = _likeliest(findings)
    about = explanations().get(main.id) if main else None
    return LoggedBoot(
        outcome="failed" if findings else "ready" if is_ready else "unknown",
        cause=main.id if main else "",
        likely=about.usual if about else (),
        next=tuple(_next_steps(main, stages, is_uefi=is_uefi)),
        findings=findings,
        recovered=tuple(one for one in seen if one.is_recovered),
        stages=stages,
        **facts,
    )

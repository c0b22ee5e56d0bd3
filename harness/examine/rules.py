"""Asks a ready host about the rules of its definition, and judges the answers: ``[[check]]`` and goss files."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.examine.goss_facts import MOST_BYTES, Answers, Facts, NotAsked, Unreadable, facts_of, probes_of
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ProbeFailed, ask
from harness.model.definition import DEFINITION_FILE, ImageDefinition
from harness.model.goss_matchers import NotComparable, Seen, matches, shown, unmet
from harness.model.rules import GossResource, OwnCheck
from harness.model.verdict import Finding
from harness.packages.database import PackageDatabase

_CHECK_S = 60.0
"""How long a command of ``[[check]]`` may take."""
_READ_S = 60.0
_MOST_BYTES = 32 << 20
_SHOWN_LINES, _SHOWN_CHARACTERS = 6, 160
SCRATCH = "/run/bootproof-rules"
_PLACE = "a folder for outputs, and timeout"
"""Without them no command is run."""
_EXIT, _OUT, _ERR = "exit-status", "stdout", "stderr"
_TIMED_OUT, _NOT_FOUND = (124, 137), (126, 127)
"""timeout(1), and what it makes of a command that only SIGKILL ended; a shell's statuses for what it cannot run."""
_PATTERNS = ("contents", "contains", _OUT, _ERR)
_NOT_DEMANDED = ("content", "as-reader")
"""Of a resource ``matching``: what is compared, and how."""


class RuleFailed(ImageError):
    """A rule of the definition does not hold on a ready host, or the host could not be asked: ``finding`` says so."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding

    def __str__(self) -> str:
        one = self.finding
        cause = [f"suspected cause: {one.cause}"] if one.cause else []
        return "\n    ".join([f"{one.what} [{one.id}]", one.where, *one.evidence, *cause])


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a ready host answered about all rules of ``definition``; ``database`` is that of its packages, if known."""

    definition: ImageDefinition
    answers: Answers
    database: PackageDatabase | None = None

    def judge(self, name: str) -> Finding | None:
        """The finding about the check or the resource of a goss file called ``name``; None if it holds."""
        for check in self.definition.checks:
            if check.name == name:
                return judge_check(check, self.answers)
        resource = next(one for one in self.definition.goss if one.name == name)
        return judge_resource(resource, self.definition.goss, self.answers, self.database)

    def is_skipped(self, name: str) -> bool:
        """Whether the goss file says that its resource called ``name`` is not to be looked at."""
        return any(one.skip for one in self.definition.goss if one.name == name)


def survey(
    channel: Channel, definition: ImageDefinition, database: PackageDatabase | None, scratch: str = SCRATCH
) -> Survey:
    """Ask a ready host about all rules of ``definition``: in two round trips, and one more for each program that is
    missing or broken. ``scratch`` is a folder that is made there, and removed. `ChannelTimeout` if it does not answer.
    """
    resources = [one for one in definition.goss if not one.skip]
    answers, refused = _ask_each(channel, probes_of(resources, database), Deadline(_READ_S))
    commands = dict(_commands(definition))
    if commands:
        limit_s = _READ_S + sum(timeout_s for _, timeout_s in commands.values())
        more, also_refused = _ask_each(channel, _command_probes(commands, scratch), Deadline(limit_s))
        answers, refused = answers | more, refused | also_refused
    return Survey(definition=definition, answers=Answers(texts=answers, refused=refused), database=database)


def _ask_each(channel: Channel, probes: Iterable[Probe], deadline: Deadline) -> tuple[dict[str, str], dict[str, str]]:
    """The answers, and why others are missing: a probe that fails keeps no other from being asked, but for `_PLACE`."""
    left, refused = list(dict.fromkeys(probes)), dict[str, str]()
    while left:
        try:
            return ask(channel, left, deadline, most_bytes=_MOST_BYTES), refused
        except ProbeFailed as error:
            refused[error.name] = str(error)
            if error.name == _PLACE:
                return {}, {probe.name: str(error) for probe in left}
            left = [probe for probe in left if probe.name != error.name]
    return {}, refused


def _commands(definition: ImageDefinition) -> Iterator[tuple[str, tuple[str, float]]]:
    """The commands of all rules, by the name of the rule, and how long each may take."""
    for check in definition.checks:
        yield check.name, (check.command, _CHECK_S)
    for one in definition.goss:
        if one.kind == "command" and not one.skip:
            yield one.name, (one.about, one.timeout_s)


def _command_probes(commands: Mapping[str, tuple[str, float]], scratch: str) -> Iterator[Probe]:
    """Each command with its status, and what it printed, in files of ``scratch`` that its next probes read."""
    folder = shlex.quote(scratch)
    begin = f"rm -rf {folder} && mkdir -m 700 {folder} || exit\ntimeout 9 true || exit\necho made"
    yield Probe(_PLACE, begin)
    for number, (name, (command, timeout_s)) in enumerate(commands.items()):
        seconds = math.ceil(Deadline(timeout_s).length_s)
        out, err = (f"{folder}/{number}.{kind}" for kind in ("out", "err"))
        line = f"timeout -k 5 {seconds} sh -c {shlex.quote(command)} >{out} 2>{err} </dev/null"
        yield Probe(_probe_name(name, _EXIT), f"cd /\n{line}\necho $?")
        for kind, file in ((_OUT, out), (_ERR, err)):
            yield Probe(_probe_name(name, kind), f"head -c {MOST_BYTES} {file} || exit\necho .")
    yield Probe("no folder for outputs", f"rm -rf {folder} || exit\necho removed")


def _probe_name(rule: str, what: str) -> str:
    return f"{what} of {rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The last that it printed."""
        return [line[:_SHOWN_CHARACTERS] for line in (*self.out.splitlines(), *self.err.splitlines())][-_SHOWN_LINES:]


def _ran(name: str, answers: Answers) -> _Ran:
    status = answers.read(Probe(_probe_name(name, _EXIT), "…"), int)
    out, err = (answers.read(Probe(_probe_name(name, kind), "…"), _without_point) for kind in (_OUT, _ERR))
    if status in _TIMED_OUT:
        raise NotAsked("the command did not end in time")
    return _Ran(status=status, out=out, err=err)


def _without_point(text: str) -> str:
    """The point behind a text keeps its last newlines."""
    if not text.endswith("."):
        raise ValueError("no end")
    return text[:-1]


def judge_check(check: OwnCheck, answers: Answers) -> Finding | None:
    """Pure."""
    where, command = f"{DEFINITION_FILE}: check: {check.name}", f"command: {check.command}"
    try:
        ran = _ran(check.name, answers)
    except NotAsked as error:
        return _not_asked(check.name, where, error, command)
    if ran.status in _NOT_FOUND:
        return _not_asked(check.name, where, NotAsked(_missing(ran)), command)
    if ran.status:
        problem = f"the command ended with status {ran.status}"
    elif check.expect and not re.search(check.expect, ran.out, re.MULTILINE):
        problem = f"nothing in the output matches {check.expect!r}"
    else:
        return None
    return Finding(
        id="rule-broken",
        what=f"{check.name}: {problem}",
        where=where,
        evidence=(command, *(ran.lines or ["it printed nothing"])),
        cause=check.cause,
    )


def _missing(ran: _Ran) -> str:
    return f"a program could not be run: {' '.join(ran.lines) or f'status {ran.status}'}"


def _not_asked(rule: str, where: str, error: NotAsked, *evidence: str) -> Finding:
    first, *more = str(error).splitlines()
    return Finding(id="rule-not-asked", what=f"{rule}: {first}", where=where, evidence=(*evidence, *more))


def judge_resource(
    resource: GossResource, resources: Sequence[GossResource], answers: Answers, database: PackageDatabase | None
) -> Finding | None:
    """Pure."""
    rule, where = f"{resource.kind} {resource.key}", f"{resource.file}: {resource.kind}: {resource.key}"
    title = [f"title: {resource.title}"] if resource.title else []
    asked = [one for one in resources if not one.skip]
    try:
        ran = _ran(resource.name, answers) if resource.kind == "command" else None
        if ran and ran.status in _NOT_FOUND and resource.wanted[_EXIT] not in (ran.status, str(ran.status)):
            raise NotAsked(_missing(ran))
        facts = _facts_of_command(ran) if ran else facts_of(resource, asked, answers, database)
    except NotAsked as error:
        return _not_asked(rule, where, error, *title)
    if not (found := list(problems(resource, facts))):
        return None
    return Finding(
        id="rule-broken",
        what=f"{rule}: {found[0]}",
        where=where,
        evidence=(*found[1:], *title, *(ran.lines if ran else ())),
    )


def _facts_of_command(ran: _Ran) -> Facts:
    return {_EXIT: ran.status, _OUT: ran.out, _ERR: ran.err}


def problems(resource: GossResource, facts: Facts) -> Iterator[str]:
    """A sentence for each attribute that is not as wanted: what it is, and what it must be. Pure.

    Of a thing that does not exist, or exists and must not, the other attributes are not looked at, as goss does.
    """
    for number, (attribute, wanted) in enumerate(resource.wanted.items()):
        if attribute in _NOT_DEMANDED:
            continue
        seen = facts[attribute]
        if isinstance(seen, Unreadable):
            yield f"{attribute} {seen.why}; it must be {shown(wanted)}"
            continue
        if problem := _problem(resource, attribute, wanted, seen):
            yield problem
        if number == 0 and attribute not in (_EXIT, "enabled") and (problem or seen is False):
            return


def _problem(resource: GossResource, attribute: str, wanted: Any, seen: Seen) -> str:
    is_text = attribute in _PATTERNS or resource.wanted.get("as-reader") is True
    if is_text and isinstance(wanted, list):
        lacking = unmet(wanted, str(seen))
        return f"{attribute} does not meet {', '.join(map(shown, lacking))}" if lacking else ""
    if resource.kind == "kernel-param" and isinstance(wanted, str) and wanted.split() == str(seen).split():
        return ""  # sysctl(8) prints a blank where the kernel has a tabulator
    try:
        if matches(wanted, seen):
            return ""
    except NotComparable as error:
        return f"{attribute}: {error}; it must be {shown(wanted)}"
    return f"{attribute} is {_short(shown(seen))}; it must be {shown(wanted)}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} …"

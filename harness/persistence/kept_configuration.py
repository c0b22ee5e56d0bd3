"""Configuration that was written for an older version: whether the running one still understands what is kept.

Each program that reads a file is asked by the program that its authors made for that, in the guest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from harness.core.errors import ImageError
from harness.lint.finding import LintFailed
from harness.machine.machine import Machine
from harness.model.verdict import Finding
from harness.persistence.guest_python import read_json

_PROGRAM = resources.files(__package__).joinpath("validate_in_guest.py")
_OSLO = re.compile(r"(ERROR|WARNING):root:(?:Deprecated opt )?(\S+)/(\S+) (is not part of the sample config|found)")
_OVS = re.compile(r"\S+Z\|\d+\|(.*)")
"""A line of a log of Open vSwitch: its time and number, then module, level and message (ovs-appctl(8))."""
_NUMBERS = re.compile(r"\d+")
_MOST_EVIDENCE = 12


class ConfigurationStale(LintFailed):
    """The version does not understand configuration that the version before kept: ``finding`` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One program's complaint about one kept ``file``; ``about`` is the option or the line, as far as known.

    ``instead`` is the option that replaces it; empty if none does or the program does not say.
    """

    file: str
    says: str
    about: str = ""
    instead: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What the same complaint of two versions has in common: not numbers, such as those of lines and processes."""
        return self.file, _NUMBERS.sub("#", f"{self.about} {self.says}")

    def __str__(self) -> str:
        subject = f"{self.file}: {self.about}: " if self.about else f"{self.file}: "
        return subject + self.says + (f"; {self.instead} replaces it" if self.instead else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConfiguration:
    """All complaints about what a machine keeps, and why some of it could not be looked at."""

    complaints: tuple[Complaint, ...]
    unchecked: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def stale(self, before: KeptConfiguration) -> tuple[Complaint, ...]:
        """The complaints that the version ``before`` did not have."""
        known = {complaint.key for complaint in before.complaints}
        return tuple(complaint for complaint in self.complaints if complaint.key not in known)


def read_kept_configuration(machine: Machine) -> KeptConfiguration:
    """What the running version says of the configuration in persistent paths; `ImageError` if it cannot be asked."""
    definition = machine.definition
    wanted = {
        "paths": definition.persistent_paths,
        "own": [{"path": one.path, "command": one.command} for one in definition.validators],
    }
    answer = read_json(machine, _PROGRAM.read_text("utf-8"), [json.dumps(wanted)])
    try:
        return understood(answer)
    except (KeyError, TypeError) as error:
        raise ImageError(f"{machine.name}: the validation in the guest answered {str(answer)[:200]}") from error


def understood(answer: dict[str, Any]) -> KeptConfiguration:
    """The answer of the program in the guest, read: pure. ``KeyError`` for one that lacks a part."""
    complaints = [complaint for one in answer["asked"] for complaint in _complaints(one)]
    return KeptConfiguration(
        complaints=tuple(complaints),
        unchecked=tuple(answer["unchecked"]),
        files=tuple(dict.fromkeys(one["file"] for one in answer["asked"])),
    )


def stale_finding(stale: Sequence[Complaint], old: str, new: str, where: str) -> Finding:
    """The finding for complaints that only the ``new`` version has."""
    more = f", and {len(stale) - 1} more" if len(stale) > 1 else ""
    return Finding(
        id="kept-configuration-stale",
        what=f"{new} does not understand configuration that {old} kept: {stale[0]}{more}",
        where=where,
        evidence=tuple(map(str, stale[:_MOST_EVIDENCE])),
        cause="the new version renamed, removed or restricted it; a deployment tool wrote it for the old one",
    )


def _complaints(asked: dict[str, Any]) -> Iterator[Complaint]:
    """Those of one program about one file. One that fails without a line that is known has said all in its lines."""
    found = list(_READERS[asked["by"]](asked))
    if not found and asked["status"]:
        text = " ".join(asked["lines"][-2:]) or f"it ended with status {asked['status']}"
        found = [Complaint(file=asked["file"], says=f"{asked['by']}: {text}")]
    yield from found


def _of_oslo(asked: dict[str, Any]) -> Iterator[Complaint]:
    for match in filter(None, map(_OSLO.match, asked["lines"])):
        _, group, option, _ = match.groups()
        is_gone = match[1] == "ERROR"
        yield Complaint(
            file=asked["file"],
            about=f"option {option} of [{group}]",
            says="is unknown" if is_gone else "is deprecated",
            instead=asked["instead"].get(f"{group}/{option}", ""),
        )


def _of_lines(asked: dict[str, Any]) -> Iterator[Complaint]:
    """Each line is a complaint; the names of files in it are not repeated."""
    for line in asked["lines"]:
        yield Complaint(file=asked["file"], says=line.removeprefix(f"{asked['file']}: "))


def _of_openvswitch(asked: dict[str, Any]) -> Iterator[Complaint]:
    for line in asked["lines"]:
        match = _OVS.match(line)
        yield Complaint(file=asked["file"], says=match[1] if match else line)


def _of_failure(asked: dict[str, Any]) -> Iterator[Complaint]:
    """What a program that succeeds says is no complaint."""
    return _of_lines(asked) if asked["status"] else iter(())


_READERS = {
    "oslo-config-validator": _of_oslo,
    "sshd": _of_lines,
    "virt-xml-validate": _of_failure,
    "systemd": _of_lines,
    "Open vSwitch": _of_openvswitch,
    "validate": _of_failure,
}

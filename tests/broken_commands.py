"""Breaks each program that an inspection runs, one at a time, and looks whether the inspection notices.

Programs are replaced by files in a folder that comes first in PATH: in a guest for ``make bench``, on this host for the
quick tests.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed

BREAKS = {
    "wrong path": "#!/nowhere/interpreter\n",
    "killed": "#!/bin/sh\nkill -9 $$\n",
    "empty output": "#!/bin/sh\nexit 0\n",
    "10 MB of output": "#!/bin/sh\n/usr/bin/head -c 10000000 /dev/zero | /usr/bin/tr '\\0' x\n",
}
"""A broken program, by what is wrong with it."""

Inspections = Mapping[str, Callable[[], object]]


class BreakableChannel(Channel):
    """``inner``, with ``folder`` of the guest first in PATH; it remembers the commands."""

    def __init__(self, inner: Channel, folder: str) -> None:
        self.inner, self.folder = inner, folder
        self.commands: list[str] = []

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        self.commands.append(command)
        return self.inner.run(f"PATH={self.folder}:$PATH\n{command}", deadline)

    def put(self, program: str, script: str) -> None:
        """Replace ``program``."""
        file = f"{self.folder}/{program}"
        self.inner.run(f"printf %s {shlex.quote(script)} >{file} && chmod 755 {file}").checked()

    def clear(self) -> None:
        """Replace no program."""
        self.inner.run(f"rm -rf {self.folder} && mkdir -p {self.folder}").checked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An inspection in which ``program`` was broken in the way ``how``; ``problem`` is how that was not noticed, else
    empty."""

    inspection: str
    program: str
    how: str
    problem: str


def break_each(channel: BreakableChannel, inspections: Inspections) -> Iterator[Broken]:
    """Each inspection with each of its programs broken in each way. All must succeed while nothing is broken."""
    for name, inspect in inspections.items():
        for program in programs(channel, inspect):
            for how, script in BREAKS.items():
                channel.clear()
                channel.put(program, script)
                yield Broken(inspection=name, program=program, how=how, problem=problem(inspect, program))
    channel.clear()


def problem(inspect: Callable[[], object], program: str) -> str:
    """How ``inspect`` does not notice that ``program`` is broken; empty if an `ImageError` names it."""
    try:
        value = inspect()
    except ImageError as error:
        return "" if program in str(error) else f"its error does not name {program}: {error}"
    except Exception as error:
        return f"{type(error).__name__} instead of an error about the image: {error}"
    return f"it returned {value!r}"[:200]


def programs(channel: BreakableChannel, inspect: Callable[[], object]) -> list[str]:
    """The programs that ``inspect`` runs: found by scripts in place of all that its commands could name."""
    channel.clear()
    channel.commands.clear()
    inspect()
    words = sorted(set(re.findall(r"[a-z][a-z0-9.-]+", " ".join(channel.commands))))
    found = channel.inner.run(f"for word in {shlex.join(words)}; do command -v $word; done; true").checked()
    for path in (line for line in found.splitlines() if line.startswith("/")):
        name = path.rpartition("/")[2]
        channel.put(name, f'#!/bin/sh\necho {name} >>{channel.folder}.used\nexec {path} "$@"\n')
    channel.inner.run(f": >{channel.folder}.used").checked()
    inspect()
    return sorted(set(channel.inner.run(f"cat {channel.folder}.used").checked().splitlines()))

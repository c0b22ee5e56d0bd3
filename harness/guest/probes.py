"""Probes: the commands of an inspection, all run in a guest in one round trip.

The status of each command counts, and so does an empty answer. A broken command is therefore an error, and is never
taken for a guest that has nothing to report.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, ChannelTimeout, Completed

T = TypeVar("T")

MOST_BYTES = 2 << 20
"""All answers of one inspection together; they have some 30 KiB, and a serial port under TCG brings 0.1 to 1 MiB/s."""

_QUOTED_LINES, _SHOWN = 5, 400
_MARK = "\x1e"
_SCRIPT = """\
answered() {{ status=$?; printf '\\n\\036%s %s\\n' "$1" $status; [ $status = 0 ] || exit; }}
{{
{probes}
}} | head -c {most_bytes}
"""
"""After each answer comes its name and status. head(1) ends a command that would print for ever."""


@dataclass(frozen=True, slots=True)
class Probe:
    """``command``, for sh(1), prints the answer called ``name`` and ends with status 0.

    A probe is not a pipeline, whose status is that of its last command: parse the output in Python instead. In a list
    of commands each but the last needs ``|| exit``. An answer is never empty: choose a command that always prints
    something, because one that prints nothing may be broken.
    """

    name: str
    command: str


class ProbeFailed(ImageError):
    """The ``command`` of the probe ``name`` gave no answer: ``problem`` is why, ``errors`` ends its standard error."""

    def __init__(self, name: str, command: str, problem: str, errors: str) -> None:
        super().__init__(name, command, problem, errors)
        self.name, self.command, self.problem, self.errors = name, command, problem, errors

    def __str__(self) -> str:
        errors = f": {self.errors}" if self.errors else ""
        return f"the guest did not answer {self.name!r}: `{_shown(self.command)}` {self.problem}{errors}"


def ask(
    channel: Channel, probes: Sequence[Probe], deadline: Deadline | None = None, *, most_bytes: int = MOST_BYTES
) -> dict[str, str]:
    """The answer to each of the ``probes``, by name, without the last newlines.

    `ProbeFailed` for the first command that ends with another status than 0, prints nothing or too much; the commands
    after it do not run. `ChannelTimeout` as in `Channel.run`.
    """
    try:
        done = channel.run(script(probes, most_bytes), deadline)
    except ChannelTimeout as error:
        awaited = f"the answers to {', '.join(probe.name for probe in probes)}"
        raise ChannelTimeout(error.machine, awaited, error.waited_s, error.hint) from error
    return dict(_answers(probes, done, most_bytes))


def read(answers: Mapping[str, str], probe: Probe, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of the answer to ``probe``; `ImageError`, which quotes it, if that raises `ValueError`,
    `KeyError` or `IndexError`."""
    try:
        return parse(answers[probe.name])
    except (ValueError, KeyError, IndexError) as error:
        begin = "\n".join(line[:_SHOWN] for line in answers.get(probe.name, "").splitlines()[:_QUOTED_LINES])
        what = f"the guest's answer to {probe.name!r}, from `{_shown(probe.command)}`, cannot be read"
        raise ImageError(f"{what} ({repr(error)[:_SHOWN]}); it begins:\n{begin}") from error


def _shown(command: str) -> str:
    """On one line, without its end if it is long."""
    line = " ".join(command.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def script(probes: Sequence[Probe], most_bytes: int) -> str:
    """The shell script that runs all ``probes``: pure."""
    blocks = (f"(\n{probe.command}\n)\nanswered {shlex.quote(probe.name)}" for probe in probes)
    return _SCRIPT.format(probes="\n".join(blocks), most_bytes=most_bytes)


def _answers(probes: Sequence[Probe], done: Completed, most_bytes: int) -> Iterator[tuple[str, str]]:
    texts = done.stdout.decode("utf-8", "replace").split(f"\n{_MARK}")
    errors = "\n".join(done.errors.splitlines()[-_QUOTED_LINES:])
    answer = texts[0]
    for number, probe in enumerate(probes, start=1):
        mark, _, rest = texts[number].partition("\n") if number < len(texts) else ("", "", "")
        name, _, status = mark.rpartition(" ")
        if name != probe.name:
            is_cut = len(done.stdout) >= most_bytes
            many = f"printed more than the {most_bytes >> 20} MiB that head(1) lets through"
            problem = many if is_cut else f"did not finish: the script, which ends in head(1), {done.ending}"
            raise ProbeFailed(probe.name, probe.command, problem, errors)
        if status != "0":
            ended = Completed(command=probe.command, status=int(status), stdout=b"", stderr=b"")
            raise ProbeFailed(probe.name, probe.command, ended.ending, errors)
        if not answer.strip():
            raise ProbeFailed(probe.name, probe.command, "printed nothing", errors)
        yield probe.name, answer.rstrip("\n")
        answer = rest

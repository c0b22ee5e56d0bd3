"""Waiting for something in a guest. The guest loops, not the wire: each wait is one shell script over the channel.

A script that succeeds prints its answer, with status 0. One that fails prints what it saw last on the first line and
evidence on the next lines, with status 1.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from harness.core.deadline import Deadline, host_scale
from harness.core.errors import ImageError
from harness.guest.channel import Channel, ChannelTimeout

WAIT_S = 120.0
"""How long a wait may take on the reference machine unless the caller says otherwise."""
_ANSWER_S = 30.0
"""How long after the end of its wait a guest may take to answer, on the reference machine."""
_CONNECT_S = 5
_TIMED_OUT = 124
_KILLED = 137
"""timeout(1): the status of a command that was ended, by SIGTERM and by SIGKILL."""
_UNKNOWN = "unknown"
"""Instead of the status of a command that was still running at the end of the wait."""

_LOOP = r"""
now() {{ read -r up _ </proc/uptime; echo "${{up%.*}}${{up#*.}}"; }}
last_line() {{ printf '%s\n' "$1" | tail -n 1; }}
end=$(($(now) + {limit_cs}))
output= errors=
trap 'rm -f ${{output:+"$output"}} ${{errors:+"$errors"}}' EXIT
while :; do
    {look}
    [ "$(now)" -lt "$end" ] || break
    sleep {every_s}
done
printf '%s\n' "$seen"
{{ {evidence} ; }} 2>&1
exit 1
"""
"""proc(5): /proc/uptime has hundredths of a second, and stands still while the machine is paused."""


class WaitFailed(ImageError):
    """``awaited`` did not happen in the guest of ``machine`` within ``waited_s`` seconds.

    ``seen`` is what was seen last: a state, a status with its output, an error. ``evidence`` are lines of a journal or
    listing that may say why, ``remedy`` is what to try.
    """

    def __init__(
        self, machine: str, awaited: str, waited_s: float, seen: str, evidence: tuple[str, ...], remedy: str
    ) -> None:
        super().__init__(machine, awaited, waited_s, seen, evidence, remedy)
        self.machine, self.awaited, self.waited_s = machine, awaited, waited_s
        self.seen, self.evidence, self.remedy = seen, evidence, remedy

    def __str__(self) -> str:
        lines = "".join(f"\n    {line}" for line in self.evidence)
        return (
            f"{self.machine}: {self.awaited} had not happened after {self.waited_s:.0f} s. "
            f"Seen last: {self.seen}{lines}\n{self.remedy}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One wait: ``look`` is shell that exits 0 once ``awaited`` is true, breaks if it never will be, and else sets
    ``$seen``; ``evidence`` is shell that prints what may explain a failure; ``remedy`` is a sentence."""

    awaited: str
    look: str
    evidence: str
    remedy: str

    def script(self, limit_s: float, every_s: float) -> str:
        """The whole script: pure."""
        limit_cs = math.ceil(limit_s * 100)
        return _LOOP.format(look=self.look, evidence=self.evidence, limit_cs=limit_cs, every_s=every_s)


def unit_is_active(unit: str) -> Wait:
    """Fails at once when the unit has failed."""
    name = shlex.quote(unit)
    look = (
        f"seen=$(systemctl show -p LoadState,ActiveState,SubState,Result -- {name} 2>&1 | tr '\\n' ' ')\n"
        '    case " $seen" in *" ActiveState=active "*) exit 0 ;; *" ActiveState=failed "*) break ;; esac'
    )
    return Wait(
        awaited=f"the start of {unit}",
        look=look,
        evidence=f"journalctl -b -u {name} -n 10 -o short-monotonic --no-pager",
        remedy=f"Look at `systemctl status {unit}` and `systemctl list-jobs` in the guest.",
    )


def port_is_open(port: int, address: str) -> Wait:
    """Something accepts TCP connections there, as seen from inside the guest; it needs bash(1), for /dev/tcp."""
    connect = f"bash -c ': <>\"/dev/tcp/$1/$2\"' bash {shlex.quote(address)} {port}"
    look = (
        f"seen=$(timeout {_CONNECT_S} {connect} 2>&1) && exit 0\n"
        f'    if [ $? = {_TIMED_OUT} ]; then seen="no answer within {_CONNECT_S} s"; else seen=$(last_line "$seen"); fi'
    )
    return Wait(
        awaited=f"an open TCP port {port} on {address}",
        look=look,
        evidence="echo 'listening in the guest:'; ss -Hltnp",
        remedy=f"Check which unit owns port {port}, that it is active, and that it listens on {address}.",
    )


def file_exists(path: str) -> Wait:
    name = shlex.quote(path)
    return Wait(
        awaited=f"the file {path}",
        look=f'[ -e {name} ] && exit 0\n    seen=$(ls -ld -- {name} 2>&1) && seen="a dangling link: $seen"',
        evidence=f'ls -la -- "$(dirname -- {name})" | tail -n 20',
        remedy="Check the unit that creates it; the lines above list its folder.",
    )


def command_succeeds(command: str) -> Wait:
    return Wait(
        awaited=f"success of {command!r}",
        look=f'{_run(command)}\n    if [ $status = 0 ]; then cat "$output"; exit; fi',
        evidence=_LAST_OUTPUT,
        remedy="Run the command by hand in the guest; a longer deadline helps only if it was about to succeed.",
    )


def command_fails(command: str) -> Wait:
    """A command that is still running at the end of the wait has not failed, and one that cannot be run never will."""
    return Wait(
        awaited=f"failure of {command!r}",
        look=f"{_run(command)}\n    case $status in 0 | {_UNKNOWN}) ;; 126 | 127) break ;; *) exit 0 ;; esac",
        evidence=_LAST_OUTPUT,
        remedy="Run the command by hand in the guest; a longer deadline helps only if it was about to fail.",
    )


_LAST_OUTPUT = '{ tail -n 10 "$output"; tail -n 10 "$errors"; } | grep -v "^$"'


def _run(command: str) -> str:
    """Once, for no longer than is left of the wait: a command that hangs must not block the shell."""
    return (
        '[ -n "$errors" ] || { output=$(mktemp) && errors=$(mktemp); } || exit 1\n'
        "    left=$((end - $(now)))\n"
        f"    timeout -k 5 $((left > 0 ? left / 100 + 1 : 1)) bash -c {shlex.quote(command)}"
        ' >"$output" 2>"$errors"\n'
        "    status=$?\n"
        '    seen="status $status"\n'
        f'    if [ $status = {_TIMED_OUT} ] || [ $status = {_KILLED} ] && [ "$(now)" -ge "$end" ]; then\n'
        f'        status={_UNKNOWN} seen="it was still running"\n'
        "    fi"
    )


def wait(machine: str, channel: Channel, what: Wait, deadline: Deadline | None = None, *, every_s: float = 0.5) -> str:
    """Wait in the guest of ``machine``; what the script printed. `WaitFailed` after ``deadline`` (`WAIT_S` seconds,
    longer on a slow host)."""
    deadline = deadline or Deadline(WAIT_S)
    patience = Deadline(deadline.left_s + _ANSWER_S * host_scale(), scaled=False)
    try:
        done = channel.run(what.script(deadline.left_s, every_s), patience)
    except ChannelTimeout as error:
        remedy = "The guest hangs, or its shell does: look at the console."
        raise WaitFailed(machine, what.awaited, deadline.passed_s, "the guest did not answer", (), remedy) from error
    if done.status == 0:
        return done.text
    broken = [f"the script of the wait {done.ending}"] if done.status != 1 else []
    seen, *evidence = [*broken, *done.text.splitlines(), *done.errors.splitlines()] or ["nothing"]
    raise WaitFailed(machine, what.awaited, deadline.passed_s, seen.strip(), tuple(evidence), what.remedy)

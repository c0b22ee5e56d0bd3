"""The shared machine of a worker: tests look at it one after the other, and a test that changes it is named."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.deadline import Deadline
from harness.core.errors import BootproofError
from harness.guest.channel import Channel, Completed
from harness.guest.probes import Probe, ask, read
from harness.guest.testinfra_host import Facts, Host, open_guest
from harness.lab import Lab, OpenLab
from harness.machine.machine import Machine
from harness.model.events import Resumed
from harness.model.unit_names import same_service
from harness.qemu.qmp import QmpError

_MOST_NAMED = 5
_MOST_LATE_S = 0.1
"""How late a guest's clock may become by pauses before it is set: the command takes longer than most pauses."""
_FILES = Probe(
    "files",
    r"""
while read -r _ place type options _; do
    if [ "$place $type" = "/ overlay" ]; then upper=${options#*upperdir=} upper=${upper%%,*}; fi
done </proc/mounts || exit
files=$upper
[ -z "$upper" ] || [ -d "$upper" ] || files=/ upper=
data=/data
[ -e $data ] || data=
find /proc/mounts ${files:+"$files"} $data -xdev -ignore_readdir_race \
    ! -type d ! -path '*/log/*' ! -path '*/systemd/timesync/*' -printf '%p %C@ %s\n' || exit
echo "upper=$upper"
""",
)
"""The files in the overlay's upper folder and on /data, without logs, each with its ctime and size; then that folder.
All files of the root file system where that folder is not mounted: casper hides it.
The first line is about /proc/mounts, and shows that find(1) could look."""
_UNITS = Probe("units", "systemctl list-units --state=active,failed --plain --no-legend --type=service,socket,mount")

_MOST_BYTES = 32 << 20
"""Some 300,000 files."""
_SESSIONS = ("user@", "user-runtime-dir@", "run-user-")
"""Units that a login starts, and that end some time after it."""

Snapshot = dict[str, str]
MakeMachine = Callable[[str, Lab, Path], AbstractContextManager[Machine]]


@dataclass(frozen=True, slots=True)
class _Opened:
    machine: Machine
    stack: ExitStack
    at_first: Snapshot


class SharedMachine:
    """The shared machine of one worker: made on its first use, and again after `release`.

    It may be paused while no test uses it; each use continues it. A machine that does not continue is replaced.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        make_machine: MakeMachine,
        open_lab: OpenLab,
        on_new: Callable[[Machine], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_new`` is called with each new machine before a test uses it; ``now`` is the host's clock in seconds."""
        self._on_new, self._now = on_new, now
        self._name, self._folder = name, folder
        self._make_machine, self._open_lab = make_machine, open_lab
        self._opened: _Opened | None = None
        self._paused_s: float | None = None
        self._late_s = 0.0
        self._count = 0
        self._facts: Facts = {}

    @property
    def machine(self) -> Machine:
        """The machine that runs now; made if there is none, and continued if it is paused."""
        self.resume()
        if self._opened is None:
            self._opened = self._open()
        return self._opened.machine

    @property
    def running(self) -> Machine | None:
        """The machine that runs or is paused now, or None."""
        return self._opened.machine if self._opened else None

    @property
    def host(self) -> Host:
        """A testinfra Host; each command reaches the machine that is shared at that time."""
        self._facts |= self.machine.facts
        return open_guest(self._name, _Channel(self), self._facts)

    def release(self) -> None:
        """End the machine; the next use makes another."""
        opened, self._opened, self._paused_s, self._late_s = self._opened, None, None, 0.0
        if opened is not None:
            opened.stack.close()
            for disk in opened.machine.spec.disks:
                disk.path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop the machine until its next use; nothing if there is none that runs, or QEMU cannot."""
        if self._opened is None or self._paused_s is not None or not self._opened.machine.is_on:
            return
        with suppress(QmpError):  # the next use finds out what has become of it
            self._opened.machine.pause()
            self._paused_s = self._now()

    def resume(self) -> None:
        """Continue the machine if it is paused, with the right time. If it does not answer, it is ended, and the run
        says why: the next use makes another."""
        if self._opened is None or self._paused_s is None:
            return
        machine, started_s, run = self._opened.machine, self._now(), self._opened.machine.context.run
        paused_s = started_s - self._paused_s
        self._late_s += paused_s
        is_late = self._late_s > _MOST_LATE_S
        try:
            machine.resume(sets_clock=is_late)
        except BootproofError as error:
            first = str(error).partition("\n")[0]
            run.add_note(f"{machine.name} did not continue after its pause, and another takes its place: {first}")
            self.release()
            return
        self._paused_s, self._late_s = None, 0.0 if is_late else self._late_s
        took_s = self._now() - started_s
        run.add(Resumed(machine=machine.name, paused_s=round(paused_s, 3), took_s=round(took_s, 4)))

    def changes(self) -> tuple[str, ...]:
        """A sentence for each file and unit that changed since the machine was made; empty if there is no machine.

        A paused machine was not used since it was looked at.
        """
        if self._opened is None or self._paused_s is not None:
            return ()
        machine, before = self._opened.machine, self._opened.at_first
        try:
            now = take_snapshot(machine.channel)
            for unit in _come_and_go(machine, [name for name in _changed(before, now) if not name.startswith("/")]):
                now[unit] = before.get(unit, "")
        except BootproofError as error:
            return (f"it no longer answers ({str(error).partition(chr(10))[0]})",)
        return tuple(differences(before, now))

    def _open(self) -> _Opened:
        self._count += 1
        name = self._name if self._count == 1 else f"{self._name}-{self._count}"
        with ExitStack() as stack:
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            lab = stack.enter_context(self._open_lab(folder / "lab"))
            machine = stack.enter_context(self._make_machine(name, lab, folder))
            self._on_new(machine)
            at_first = take_snapshot(machine.channel)
            return _Opened(machine, stack.pop_all(), at_first)


class _Channel(Channel):
    """Runs each command on the machine that is shared at that time."""

    def __init__(self, shared: SharedMachine) -> None:
        self._shared = shared

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        return self._shared.machine.run(command, deadline)


def take_snapshot(channel: Channel) -> Snapshot:
    """The files and units of a guest that a test could change; `ImageError` if a command fails."""
    answers = ask(channel, (_FILES, _UNITS), most_bytes=_MOST_BYTES)
    return read(answers, _FILES, _files) | read(answers, _UNITS, _units)


def _files(text: str) -> Snapshot:
    first, *files, last = text.splitlines()
    if not first.startswith("/proc/mounts ") or not last.startswith("upper="):
        raise ValueError("it does not begin with /proc/mounts and end with upper=")
    upper = last.removeprefix("upper=")
    return {line.rsplit(" ", 2)[0].removeprefix(upper): line for line in files}


def _units(text: str) -> Snapshot:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[2] for row in rows if not row[0].startswith(_SESSIONS)}


def _come_and_go(machine: Machine, units: Sequence[str]) -> list[str]:
    """Those of ``units`` that start on demand and end when idle, and so change without a test's doing.

    systemd.service(5): a bus name, a socket or a timer starts them. Units that the definition demands do not count.
    """
    definition = machine.definition
    demanded = {name for unit in (*definition.services, *definition.sockets) for name in same_service(unit)}
    asked = [unit for unit in units if unit not in demanded]
    return triggered_units(machine.channel, asked) if asked else []


def triggered_units(channel: Channel, units: Sequence[str]) -> list[str]:
    """Those of ``units`` with a bus name or a trigger."""
    triggers = Probe("triggers", f"systemctl show -p Id -p BusName -p TriggeredBy -- {shlex.join(units)}")
    return read(ask(channel, [triggers]), triggers, _triggered)


def _triggered(text: str) -> list[str]:
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n"))
    return [block["Id"] for block in blocks if block["TriggeredBy"] or block.get("BusName")]


def _changed(before: Snapshot, after: Snapshot) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name, "") != after.get(name, ""))


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """A sentence for each of the first few names whose state differs, and one for the rest: pure."""
    names = _changed(before, after)
    sentences = [f"{name} {_verb(before.get(name), after.get(name))}" for name in names[:_MOST_NAMED]]
    return [*sentences, f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else sentences


def _verb(before: str | None, after: str | None) -> str:
    if before is None:
        return f"is {after}" if after in ("active", "failed") else "is new"
    if after is None:
        return f"is no longer {before}" if before in ("active", "failed") else "is gone"
    return f"is {after}" if after in ("active", "failed") else "was changed"

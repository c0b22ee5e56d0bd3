"""The run's folder: logs, findings and verdict of one invocation, written by all of its workers.

    verdict.json  junit.xml  events.jsonl  id_ed25519  <machine>/boot-<n>/{console.log,qmp.log,argv,…}

Each event is appended to ``events.jsonl`` as one line when it happens, so a crashed worker loses nothing.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.core import process, serialization
from harness.core.errors import Blame, HostError
from harness.model.events import KINDS, Event, Note, PhaseBegan, Recorded, Unchecked
from harness.model.layout import EVENTS
from harness.model.verdict import BootResult, Finding
from harness.store.store import Store

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Run:
    """Writes and reads one run's folder; ``worker`` is xdist's name for this process, or "main".

    ``events_file`` is where its events are, in the folder.
    """

    folder: Path
    worker: str
    events_file: str = EVENTS

    @property
    def key(self) -> Path:
        """The SSH key of this run; its public half lies beside it."""
        return self.folder / "id_ed25519"

    def add(self, event: Event) -> None:
        """Append one event, whole: a single write to a file opened for appending; `HostError` if that fails."""
        self.add_all([Recorded(worker=self.worker, time_s=time.time(), event=event)])

    def add_all(self, recorded: Iterable[Recorded]) -> None:
        """Append events that were recorded elsewhere, all or none of them."""
        self._append("".join(map(_line, recorded)).encode())

    def _append(self, lines: bytes) -> None:
        try:
            with (self.folder / self.events_file).open("ab", buffering=0) as file:
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def add_finding(self, finding: Finding) -> None:
        self.add(finding)

    def add_boot(self, boot: BootResult) -> None:
        self.add(boot)

    def add_phase(self, machine: str, boot: int, phase: str) -> None:
        self.add(PhaseBegan(machine=machine, boot=boot, phase=phase))

    def add_note(self, text: str) -> None:
        """``text``, a sentence, is shown to the person who follows the run."""
        self.add(Note(text=text))

    def add_unchecked(self, what: str) -> None:
        """``what``, a sentence, could not be checked here; the verdict lists the same sentence once."""
        self.add(Unchecked(what=what))

    def expected_to_fail(self, folder: Path) -> Run:
        """A run in ``folder``, which is created, whose events do not count in this run: for boots that may fail."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (self.key, self.key.with_suffix(".pub")):
                shutil.copy2(name, folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return Run(folder, self.worker)

    def trial(self, folder: Path) -> Run:
        """This run, but its events are in ``folder``, which is in the run's, and do not count until `adopt`."""
        return Run(self.folder, self.worker, str((folder / f"trial-{EVENTS}").relative_to(self.folder)))

    def adopt(self, trial: Run) -> None:
        """Let the events of ``trial`` count from now on."""
        file = trial.folder / trial.events_file
        self._append(file.read_bytes() if file.exists() else b"")

    def events(self) -> Iterator[Recorded]:
        """All events so far, in the order they were written. An unreadable line is a finding of the host."""
        return EventReader(self.folder / self.events_file).read()

    def of_kind(self, kind: type[E]) -> list[E]:
        """All events of one class so far."""
        return [recorded.event for recorded in self.events() if isinstance(recorded.event, kind)]

    def findings(self) -> tuple[Finding, ...]:
        """All findings, each once, in the order they were made."""
        return tuple(dict.fromkeys(self.of_kind(Finding)))

    def boots(self) -> tuple[BootResult, ...]:
        return tuple(self.of_kind(BootResult))


def _line(recorded: Recorded) -> str:
    plain = {
        "kind": type(recorded.event).__name__,
        "worker": recorded.worker,
        "time_s": round(recorded.time_s, 3),
        "data": serialization.dump(recorded.event),
    }
    return json.dumps(plain) + "\n"


class EventReader:
    """Reads the events in ``file``; each `read` begins where the one before it ended."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0

    def read(self) -> Iterator[Recorded]:
        """The events of all lines that were completed since the last call."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").split("\n")[:-1]:
            yield self._parse(line)

    def _parse(self, line: str) -> Recorded:
        try:
            plain = serialization.parse(line)
            event = serialization.load(KINDS[plain["kind"]], plain["data"])
            return Recorded(worker=str(plain["worker"]), time_s=float(plain["time_s"]), event=event)
        except (ValueError, TypeError, KeyError):
            return Recorded(worker="main", time_s=0.0, event=self._unreadable(line))

    def _unreadable(self, line: str) -> Finding:
        return Finding(
            id="event-unreadable",
            what=f"{self._file} has a line that is not a valid event, so the verdict may lack a finding or a result",
            where=str(self._file.parent),
            blame=Blame.HOST,
            evidence=(line[:200],),
            cause="the disk was full, or another program wrote to the file",
        )


def make_key(run: Run, store: Store) -> None:
    """Put the SSH key that machines of this run accept for root into its folder.

    It is the store's key, because templates contain it.
    """
    with store.writable(), store.locked("ssh"):
        key = store.folder("ssh") / run.key.name
        if not key.exists():
            with store.workfolder() as work:
                made = work / key.name
                process.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bootproof", "-f", str(made)])
                made.with_suffix(".pub").replace(key.with_suffix(".pub"))
                made.replace(key)
    try:
        for name in (key, key.with_suffix(".pub")):
            shutil.copy2(name, run.folder)
    except OSError as error:
        raise unwritable(run.folder, error) from error


def unwritable(folder: Path, error: OSError) -> HostError:
    """The error for a failed write to the run's ``folder``."""
    return HostError(
        f"{folder} cannot be written: {error.strerror}; make room there, or choose another folder with --run-dir"
    )


def make_run_folder(parent: Path, name: str) -> Path:
    """A new folder below ``parent``; ``parent/latest`` points to it."""
    folder = new_run_folder(parent, name)
    make_latest(folder)
    return folder


def new_run_folder(parent: Path, name: str) -> Path:
    """A new folder below ``parent``, to which nothing points yet."""
    stem = time.strftime("%Y-%m-%dT%H-%M-%S-") + name
    for attempt in range(100):
        folder = parent / (stem if not attempt else f"{stem}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    return folder


def make_latest(folder: Path) -> None:
    """Let ``latest`` beside ``folder`` point to it, in one step."""
    link = folder / "latest"
    link.symlink_to(folder.name)
    link.replace(folder.parent / "latest")

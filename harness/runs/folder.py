"""The run's folder: logs, findings and verdict of one invocation, written by all of its workers.

    verdict.json  junit.xml  events.jsonl  id_ed25519  <machine>/boot-<n>/{console.log,qmp.log,argv,…}

``events.jsonl`` is appended to at once and line by line, since a crashed worker brings nothing home.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import process, serialization
from harness.core.errors import HostError, Blame
from harness.store.store import Store
from harness.model.verdict import BootResult, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of ``events.jsonl``. ``kind`` is phase, finding, boot, planned, result, note, …"""

    kind: str
    worker: str
    time_s: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """Writes and reads one run's folder; ``worker`` is xdist's name for this process, or "main"."""

    folder: Path
    worker: str

    @property
    def _events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def key(self) -> Path:
        """The SSH key of this run; its public half lies beside it."""
        return self.folder / "id_ed25519"

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Append one event, whole: a single write to a file opened for appending; `HostError` if that fails."""
        event = Event(kind=kind, worker=self.worker, time_s=round(time.time(), 3), data=data)
        line = (json.dumps(serialization.dump(event)) + "\n").encode()
        try:
            with self._events.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def add_finding(self, finding: Finding) -> None:
        self.add("finding", serialization.dump(finding))

    def add_boot(self, boot: BootResult) -> None:
        self.add("boot", serialization.dump(boot))

    def add_phase(self, machine: str, boot: int, phase: str) -> None:
        self.add("phase", {"machine": machine, "boot": boot, "phase": phase})

    def add_unchecked(self, what: str) -> None:
        """``what``, a sentence, could not be looked at here; said as often as you like, it counts once."""
        self.add("unchecked", {"what": what})

    def expected_to_fail(self, folder: Path) -> Run:
        """A run in ``folder``, made for it, of which nothing counts in this one: for boots that may well fail."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (self.key, self.key.with_suffix(".pub")):
                shutil.copy2(name, folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return Run(folder, self.worker)

    def unchecked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(event.data["what"] for event in self.events() if event.kind == "unchecked"))

    def events(self) -> Iterator[Event]:
        """All events so far, in the order they were written. One that cannot be read is a finding of the host."""
        text = self._events.read_text("utf-8", "replace") if self._events.exists() else ""
        for line in text.split("\n")[:-1]:
            try:
                yield serialization.load(Event, json.loads(line))
            except ValueError:
                yield self._unreadable(line)

    def _unreadable(self, line: str) -> Event:
        finding = Finding(
            id="event-unreadable",
            what=f"{self._events} has a line that is no event, so the verdict may lack what it said",
            where=str(self.folder),
            blame=Blame.HOST,
            evidence=(line[:200],),
            cause="the disk was full, or somebody else wrote there",
        )
        return Event(kind="finding", worker=self.worker, time_s=0.0, data=serialization.dump(finding))

    def findings(self) -> tuple[Finding, ...]:
        """All findings, each once, in the order they were made."""
        found = [serialization.load(Finding, event.data) for event in self.events() if event.kind == "finding"]
        return tuple(dict.fromkeys(found))

    def boots(self) -> tuple[BootResult, ...]:
        return tuple(serialization.load(BootResult, event.data) for event in self.events() if event.kind == "boot")


def make_key(run: Run, store: Store) -> None:
    """The SSH key that machines of this run accept for root: the store's, since frozen machines have it in them."""
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
    """The error for a write to the run's ``folder`` that failed."""
    return HostError(f"{folder} cannot be written: {error.strerror}; make room there, or --run-dir names another")


def make_run_folder(parent: Path, name: str) -> Path:
    """A new folder below ``parent``; ``parent/latest`` points to it."""
    stem = time.strftime("%Y-%m-%dT%H-%M-%S-") + name
    for attempt in range(100):
        folder = parent / (stem if not attempt else f"{stem}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    link = folder / "latest"
    link.symlink_to(folder.name)
    link.replace(parent / "latest")
    return folder

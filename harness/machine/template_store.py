"""The templates in the store, as one run sees them: found, held, published, evicted, and failures remembered.

    templates/<key>/    memory  state  disk0.raw …  boot-<n>/  template.json

A template whose files were altered is recognized by their sizes and times, and made again. It carries the logs of the
boots that led to it: a run that uses it copies them into its own folder, even after the run that made it was removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core import serialization
from harness.core.errors import Blame, BootproofError, HostError
from harness.core.locks import lock_folder
from harness.model.verdict import BootResult, Finding
from harness.qemu.snapshot import CannotFreeze
from harness.runs.folder import Run, unwritable
from harness.store.memo import RememberedFailure
from harness.store.store import Store, note_use
from harness.store.template_record import RECORD, Template, discard, evict, stamp

_RESERVE_MIB = 512
"""Disk space that freezing needs besides the guest's memory: its device state, logs and what it wrote to its disk."""


class StateFailed(BootproofError):
    """``state`` was not reached earlier in this run because of ``reason``; ``blame`` says whose fault that was.

    ``finding`` is that of the boot that failed, None if something else failed.
    """

    def __init__(self, state: str, reason: str, blame: Blame, finding: Finding | None = None) -> None:
        super().__init__(state, reason, blame, finding)
        self.state, self.reason, self.blame, self.finding = state, reason, blame, finding

    def __str__(self) -> str:
        return f"the state {self.state!r} was not reached, and is not tried again in this run: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateStore:
    """The templates of ``store`` for one ``run``. They may take ``most_bytes``; beyond that, the least recently used
    are removed."""

    store: Store
    run: Run
    most_bytes: int = 12 << 30

    def folder(self, key: str) -> Path:
        """Where the template with that key is, or will be."""
        return self.store.folder("templates") / key

    def find(self, key: str, until: ExitStack) -> Template | None:
        """The template with that key, not evicted before ``until`` closes; None if there is none.

        One that is altered or unreadable is removed; `CannotFreeze` if a machine still uses it.
        """
        folder = self.folder(key)
        descriptor = lock_folder(folder, is_shared=True)
        if descriptor is None:
            return None
        with ExitStack() as stack:
            stack.callback(os.close, descriptor)
            try:
                template = serialization.read(Template, folder / RECORD)
                problem = template.alteration()
            except (OSError, ValueError) as error:
                problem = str(error)
            if not problem:
                note_use(folder)
                until.push(stack.pop_all())
                return template
        if not discard(self.store, folder):
            raise CannotFreeze(f"its template is damaged ({problem}), and another machine still uses it")
        return None

    def hold(self, key: str, state: str, make: Callable[[], None], until: ExitStack) -> Template:
        """The template with that key, not evicted before ``until`` closes; ``make`` publishes it if there is none.

        Raises `StateFailed` or `CannotFreeze` if ``make`` failed before in this run.
        """
        while True:
            self.raise_remembered_failure(key, state)
            if template := self.find(key, until):
                self._note_reuse(template)
                with suppress(OSError):
                    evict(self.store, self.most_bytes)
                return template
            with self.store.locked(f"template-{key[:16]}"):
                self.raise_remembered_failure(key, state)
                if not (self.folder(key) / RECORD).exists():
                    self._try(make, key)

    def _try(self, make: Callable[[], None], key: str) -> None:
        try:
            make()
        except CannotFreeze as error:
            self.remember_failure(key, error, is_only_unfrozen=True)
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pytest.fail() in a state's function does not raise an Exception
            self.remember_failure(key, error)
            raise

    def check_room(self, memory_mib: int) -> None:
        """`CannotFreeze` if a guest's memory does not fit on the disk: SIGBUS would kill its QEMU without a reason."""
        free_mib = shutil.disk_usage(self.store.root).free >> 20
        needed_mib = memory_mib + _RESERVE_MIB
        if free_mib < needed_mib:
            raise CannotFreeze(f"freezing needs {needed_mib} MiB below {self.store.root}, {free_mib} MiB are free")

    def publish(self, folder: Path, template: Template) -> None:
        """Move the files of ``template`` from a work folder to its own, with their stamps.

        No fsync: after a crash of the host its boot id is another one, so no key finds this template.
        """
        files = sorted(file for file in folder.iterdir() if file.is_file())
        for file in files:
            file.chmod(0o600 if file.name == "memory" else 0o400)  # QEMU 7.2 opens memory for writing, and only maps it
        template = replace(template, files={file.name: stamp(file) for file in files})
        serialization.write(folder / RECORD, template)
        folder.rename(template.folder)

    def _note_reuse(self, template: Template) -> None:
        """A boot that an earlier run made, on this host and with these artifacts, counts in this run's verdict."""
        folder = self.run.folder / "states"
        try:
            folder.mkdir(exist_ok=True)
            (folder / f"{template.folder.name}.used").touch(exist_ok=False)
        except OSError:  # noted already, or a full disk: then the boots are missing, and such a run never passes
            return
        if template.run != self.run.folder:
            self.run.add_note(f"state {template.state}: frozen by an earlier run, {template.run}")
            for boot in template.boots:
                self.run.add_boot(self._with_own_logs(boot, template))

    def _with_own_logs(self, boot: BootResult, template: Template) -> BootResult:
        """The boot of an earlier run, with its logs copied into the folder of this one."""
        logs = self.run.folder / boot.machine / f"boot-{boot.number}"
        try:
            shutil.copytree(template.folder / logs.name, logs, dirs_exist_ok=True)
        except OSError as error:
            raise unwritable(self.run.folder, error) from error
        return replace(boot, run=str(template.run), console=str(logs / "console.log"))

    def remember_failure(self, key: str, error: BaseException, *, is_only_unfrozen: bool = False) -> None:
        """For the rest of the run; with ``is_only_unfrozen``, the state can still be reached by a boot."""
        failure = RememberedFailure.of(error, is_only_unfrozen=is_only_unfrozen)
        with suppress(OSError, HostError), self.store.locked(f"failure-{key[:16]}"):  # a full disk: it is tried again
            folder = self.run.folder / "states"
            folder.mkdir(exist_ok=True)
            serialization.write(folder / f"{key}.json", failure)

    def raise_remembered_failure(self, key: str, state: str) -> None:
        """`CannotFreeze` or `StateFailed` if the template with that key failed before in this run."""
        try:
            failure = serialization.read(RememberedFailure, self.run.folder / "states" / f"{key}.json")
        except (FileNotFoundError, ValueError):
            return
        if failure.is_only_unfrozen:
            raise CannotFreeze(failure.said)
        raise StateFailed(state, failure.said, failure.blame, failure.finding)

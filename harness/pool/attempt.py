"""One shard on one host: GNU parallel starts ``python -m harness.pool.attempt POOL SHARD`` for it.

The status is 0 if the part arrived and has a verdict, else 75, with which parallel tries the shard on another host.
What happens is written to a file in the run's folder, from which the table is made.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.core import digest, locks, process, serialization
from harness.core.deadline import Deadline
from harness.core.errors import BootproofError, HostError
from harness.model.layout import PLAN as PART_PLAN
from harness.model.verdict import Outcome
from harness.pool.files import send_archive, send_artifacts, unpack
from harness.pool.frames import FrameReader, Frames, Kind, PeerLost
from harness.pool.hosts import PoolHost
from harness.pool.on_host import Job
from harness.pool.table import Attempt, AttemptState
from harness.promotion.attest import NotVerified
from harness.promotion.merge import PartRun, read_part
from harness.store.store import find_store

HOST_VARIABLE = "BOOTPROOF_POOL_HOST"
"""The number of the host, from 1: what GNU parallel chose."""
POOL, LOCK, ATTEMPTS, PARTS, REPOSITORY, PLAN = "pool.json", "lock", "attempts", "parts", "repository.tar", "plan.json"
_LOOK_EVERY_S = 1.0
_ENDS_S, _LOST_S = 40.0, 3.0
"""How long a host may take to end its machines and to remove its folder; a lost one does so by itself."""
_QUOTED = 3
_TELLING = re.compile(r"[A-Za-z%]")
"""What a line of progress has that is not only pytest's dots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A run on many hosts, as all of its processes know it."""

    hosts: tuple[PoolHost, ...]
    bootproof: str
    job: Job
    plan: str
    images: tuple[str, ...]
    limit_s: float


def main(words: list[str]) -> int:
    """Run one shard; `HostError`'s status if there is no verdict about the image."""
    folder, shard = Path(words[0]), int(words[1])
    pool = serialization.read(Pool, folder / POOL)
    host = pool.hosts[int(os.environ[HOST_VARIABLE]) - 1]
    process.unwind_when_told_to_end()
    with _holding(folder / ATTEMPTS):
        return _Attempt(folder, pool, host, shard).run()


@contextmanager
def _holding(folder: Path) -> Iterator[None]:
    """Hold a lock that the run waits for before it ends."""
    descriptor = locks.lock_folder(folder, is_shared=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


class _Attempt:
    """Writes what happens to its file."""

    def __init__(self, folder: Path, pool: Pool, host: PoolHost, shard: int) -> None:
        self._folder, self._pool, self._host = folder, pool, host
        number = len(list((folder / ATTEMPTS).glob(f"{shard}-*.json"))) + 1
        self._file = folder / ATTEMPTS / f"{shard}-{number}.json"
        began_s = time.time()
        self._state = Attempt(
            shard=shard,
            number=number,
            host=host.name,
            state=AttemptState.CONNECTS,
            detail="",
            began_s=began_s,
            changed_s=began_s,
        )
        self._note(AttemptState.CONNECTS)

    def run(self) -> int:
        deadline = Deadline(self._pool.limit_s, scaled=False)
        try:
            return self._over(deadline)
        except KeyboardInterrupt:
            self._note(AttemptState.FAILED, "interrupted")
        except TimeoutError:
            self._note(AttemptState.FAILED, f"not done within the limit of {self._pool.limit_s / 60:.0f} min")
        except (BootproofError, OSError) as error:
            self._note(AttemptState.FAILED, str(error).partition("\n")[0])
        except Exception as error:  # of a library, about what the host sent: the shard is tried elsewhere
            self._note(AttemptState.FAILED, f"{type(error).__name__}: {error}".partition("\n")[0])
        return HostError.exit_status

    def _over(self, deadline: Deadline) -> int:
        with ExitStack() as stack:
            child = stack.enter_context(self._connected())
            assert child.stdin is not None
            assert child.stdout is not None
            frames = Frames(child.stdout.fileno(), child.stdin.fileno())
            stack.enter_context(_while_wanted(self._folder / LOCK))
            ends_s = _ENDS_S
            try:
                with frames.beating():
                    return self._talk(frames, deadline)
            except PeerLost as error:
                ends_s = _LOST_S
                raise PeerLost(f"the host is lost: {error}{self._said(child)}") from error
            finally:
                _let_end(child, ends_s)

    @contextmanager
    def _connected(self) -> Iterator[process.Popen[bytes]]:
        argv = self._host.ssh(f"{self._pool.bootproof} pool-host")
        with (
            self._file.with_suffix(".err").open("wb") as errors,
            process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE, stderr=errors.fileno()) as child,
        ):
            yield child

    def _said(self, child: process.Popen[bytes]) -> str:
        """The end of what ssh or the host's shell printed."""
        with suppress(Exception):
            child.wait(2.0)
        lines = self._file.with_suffix(".err").read_text("utf-8", "replace").strip().splitlines()
        return f": {'; '.join(lines[-_QUOTED:])}" if lines else ""

    def _talk(self, frames: Frames, deadline: Deadline) -> int:
        job, store = replace(self._pool.job, shard=self._state.shard), find_store()
        frames.send(Kind.MESSAGE, json.dumps(serialization.dump(job)).encode())
        wanted = _message(frames, deadline, "wanted")
        self._note(AttemptState.BRINGS, f"the repository and {len(wanted)} artifacts" if wanted else "the repository")
        try:
            send_archive(self._folder / REPOSITORY, frames.writer())
            for sha256 in wanted:
                send_artifacts(str(sha256), store, frames.writer())
        except PeerLost:
            _message(frames, deadline, "line")  # which may say why
            raise
        self._note(AttemptState.RUNS)
        first = self._followed(frames, deadline)
        self._note(AttemptState.FETCHES)
        with TemporaryDirectory(prefix="fetched-", dir=self._folder) as fetched:
            unpack(FrameReader(frames, first), Path(fetched))
            ended = frames.receive(deadline).message()
            return self._keep(Path(fetched), ended)

    def _followed(self, frames: Frames, deadline: Deadline) -> Any:
        """Note lines of progress until the first frame of the part."""
        with self._file.with_suffix(".log").open("a", encoding="utf-8") as log:
            while (frame := frames.receive(deadline)).kind is Kind.MESSAGE:
                message = frame.message()
                if "failed" in message:
                    raise HostError(str(message["failed"]))
                line = str(message.get("line", ""))
                print(line, file=log, flush=True)
                if _TELLING.search(line):
                    self._note(AttemptState.RUNS, line.strip())
        return frame

    def _keep(self, fetched: Path, ended: dict[str, Any]) -> int:
        """Keep the part, if it is the one that was asked for and whole."""
        status = int(ended.get("status", HostError.exit_status))
        parts = check_parts(fetched, self._pool, self._state.shard)
        if len(parts) < len(self._pool.images) and not is_concluded(parts, self._pool):
            tail = [str(line) for line in ended.get("tail", ())]
            raise HostError(f"pytest ended with status {status} without a verdict: {_reason(tail)}")
        place = self._folder / PARTS / str(self._state.shard)
        shutil.rmtree(place, ignore_errors=True)
        fetched.rename(place)
        fetched.mkdir()
        outcomes = ", ".join(f"{part.verdict.image}: {part.verdict.outcome}" for part in parts)
        if status == 0 or is_concluded(parts, self._pool):
            self._note(AttemptState.DONE, outcomes)
            return 0
        why = next((finding.what for part in parts for finding in part.verdict.findings), f"pytest's status {status}")
        self._note(AttemptState.INCONCLUSIVE, f"{outcomes}: {why}")
        return HostError.exit_status

    def _note(self, state: AttemptState, detail: str = "") -> None:
        changed_s = self._state.changed_s if state is self._state.state else time.time()
        self._state = replace(self._state, state=state, detail=detail[:300], changed_s=changed_s)
        serialization.write(self._file, self._state)


def check_parts(folder: Path, pool: Pool, shard: int) -> list[PartRun]:
    """The parts in ``folder``, one an image. `NotVerified` if one was altered, or is not this shard of this plan."""
    parts = [read_part(run, {}) for run in sorted(folder.iterdir()) if (run / "verdict.json").is_file()]
    for part in parts:
        if digest.of_file(part.folder / PART_PLAN) != pool.plan or part.part.plan != pool.plan:
            raise NotVerified(f"{part.folder.name} is of another run, with another plan", "run the shard again")
        if other := _difference(part):
            raise NotVerified(f"{part.folder.name} ended before its tests: {other}", "run the shard again")
        if part.part.number != shard:
            raise NotVerified(f"{part.folder.name} is part {part.part.number}, not part {shard}", "run the shard again")
    if {part.verdict.image for part in parts} - set(pool.images) or len(parts) > len(pool.images):
        raise NotVerified(f"{folder.name} holds parts of other images", "run the shard again")
    return parts


def is_concluded(parts: Sequence[PartRun], pool: Pool) -> bool:
    """Whether the shard need not run again: there is a verdict on each image, or one has failed.

    Another try could not undo a failure, whatever went wrong besides.
    """
    outcomes = {part.verdict.outcome for part in parts}
    return Outcome.FAILED in outcomes or (len(parts) == len(pool.images) and Outcome.INCONCLUSIVE not in outcomes)


def _difference(part: PartRun) -> str:
    """Why this part is bound to other inputs than the plan; empty if it is not."""
    wanted = part.plan.image(part.verdict.image).digests
    if all(part.verdict.digests.get(what) == sha256 for what, sha256 in wanted.items()):
        return ""
    return next((finding.what for finding in part.verdict.findings), "its digests are not those of the plan")


def _message(frames: Frames, deadline: Deadline, name: str) -> Any:
    message = frames.receive(deadline).message()
    if "failed" in message:
        raise HostError(str(message["failed"]))
    return message.get(name)


def _reason(tail: list[str]) -> str:
    told = [line for line in tail if "ERROR" in line or line.startswith(("Exit:", "!"))]
    return "; ".join((told or tail)[-_QUOTED:])


@contextmanager
def _while_wanted(lock: Path) -> Iterator[None]:
    """Interrupt this process when nobody holds ``lock``: the run was interrupted, or is gone."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            if not locks.is_locked(lock):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="wanted", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _let_end(child: process.Popen[bytes], ends_s: float) -> None:
    """Close the connection's input, which ends the host's part, and wait until the host closes the other half."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(OSError):
        child.stdin.close()
    deadline = Deadline(ends_s, scaled=False)
    while select.select([child.stdout], [], [], deadline.left_s)[0]:
        if not os.read(child.stdout.fileno(), 1 << 16):
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

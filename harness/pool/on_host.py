"""What ``bootproof run`` starts on a host by SSH: it tells the host's state, or runs one shard.

The other side is `harness.pool.attempt`. This process ends, with its machines and its folder, when the shard is done,
when the other side says so or closes the connection, or when it is silent.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from harness.core import digest, process, serialization
from harness.core.deadline import usable_cores
from harness.core.errors import BootproofError, HostError
from harness.host import admission
from harness.host.accelerator import DEVICE
from harness.host.doctor import CheckState, HostCheck, examine
from harness.pool.files import PLAN, REPOSITORY, RUNS, has_artifacts, send_runs, take_artifacts, unpack
from harness.pool.frames import FrameReader, Frames, PeerLost
from harness.qemu import program
from harness.store.store import Store, find_store

_LOOK_EVERY_S = 0.3
_GRACE_S = 20.0
"""How long pytest may take to end its machines and to write a verdict."""
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """The state of a host. ``harness`` is the digest that a plan is bound to; ``time_s`` its clock, in Unix time.

    ``problems`` are what ``bootproof doctor`` there says is missing, empty if it was not asked.
    """

    bootproof: str
    harness: str
    accelerator: str
    qemu: str
    cores: int
    memory_mib: int
    free_gib: float
    time_s: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One shard: ``arguments`` are pytest's, ``artifacts`` the digests that its machines boot.

    ``replaced`` maps options that name artifacts on the other side to those digests.
    """

    shard: int
    of: int
    arguments: tuple[str, ...]
    artifacts: tuple[str, ...]
    replaced: dict[str, str] = field(default_factory=dict)


def describe(*, is_examined: bool) -> HostReport:
    """The state of this host; with ``is_examined``, ``bootproof doctor`` looks too.

    What killed processes left in the store is removed before.
    """
    with suppress(HostError, OSError), find_store().workfolder():
        pass
    checks = examine() if is_examined else []
    store = find_store().root
    place = next(folder for folder in (store, *store.parents) if folder.exists())
    return HostReport(
        bootproof=version("bootproof"),
        harness=harness_digest(),
        accelerator=_accelerator(checks),
        qemu=_qemu(),
        cores=usable_cores(),
        memory_mib=admission.memory()[1],
        free_gib=round(shutil.disk_usage(place).free / (1 << 30), 1),
        time_s=time.time(),
        problems=tuple(f"{check.name}: {check.detail}" for check in checks if check.is_missing),
    )


def _accelerator(checks: Iterable[HostCheck]) -> str:
    """As `HostReport` has it: "kvm?" where the device exists and no kernel has shown yet that it works."""
    if any(check.name == "accelerator" and check.state is not CheckState.OK for check in checks):
        return "tcg"
    if any(check.name == "accelerator" and check.detail.startswith("kvm:") for check in checks):
        return "kvm"
    return "kvm?" if os.access(DEVICE, os.R_OK | os.W_OK) else "tcg"


def harness_digest() -> str:
    """The digest of Bootproof's code, as a verdict is bound to it."""
    return digest.of_package(Path(__file__).parents[1], without="suite")


def _qemu() -> str:
    with suppress(BootproofError):
        return program.in_use().version
    return ""


def serve() -> int:
    """Run the shard that standard input names; everything else is said in frames on standard output."""
    source, sink = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may print between the frames
    frames = Frames(source, sink)
    try:
        with frames.beating():
            try:
                _run(frames)
            except PeerLost:
                raise
            except BootproofError as error:
                frames.say(failed=str(error))
            except OSError as error:
                frames.say(failed=f"{error.filename or 'this host'}: {error.strerror}")
    except PeerLost:
        return HostError.exit_status
    return 0


def _run(frames: Frames) -> None:
    job = serialization.load(Job, frames.receive().message())
    store = find_store()
    with store.writable(), store.workfolder() as folder:
        wanted = [one for one in job.artifacts if not has_artifacts(one, store)]
        frames.say(wanted=wanted)
        unpack(frames.reader(), folder)
        held = [take_artifacts(one, FrameReader(frames), store) for one in wanted]
        frames.say(line=f"{len(held)} artifacts were brought" if held else "artifacts are here already")
        (folder / RUNS).mkdir()
        status = _pytest(frames, _words(job, folder, store), folder)
        send_runs(folder / RUNS, frames.writer())
        frames.say(status=status, tail=_tail(folder / "pytest.log"))


def _words(job: Job, folder: Path, store: Store) -> list[str]:
    """The command line of pytest: artifacts that the other side named by folder are in the store here."""
    arguments = list(job.arguments)
    for option, sha256 in job.replaced.items():
        for number, word in enumerate(arguments):
            if word == option and number + 1 < len(arguments):
                arguments[number + 1] = str(store.artifacts(sha256).folder)
            elif word.startswith(f"{option}="):
                arguments[number] = f"{option}={store.artifacts(sha256).folder}"
    own = ["--shard", f"{job.shard}/{job.of}", "--plan", str(folder / PLAN), f"--run-dir={folder / RUNS}"]
    own.append(f"--basetemp={folder / 'tmp'}")  # else tests leave pytest's own folders on the host
    return [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *arguments, *own]


def _pytest(frames: Frames, words: list[str], folder: Path) -> int:
    """Run it while the other side is there; its status. `PeerLost` when the other side is gone."""
    log, gone = folder / "pytest.log", threading.Event()
    threading.Thread(target=_watch, args=(frames, gone), name="watch", daemon=True).start()
    with (
        log.open("wb") as output,
        _in_session(words, folder / REPOSITORY, output.fileno()) as child,
        log.open("rb") as printed,
    ):
        while child.poll() is None and not gone.wait(_LOOK_EVERY_S):
            _forward(frames, printed.read())
        if gone.is_set():
            raise PeerLost("the other side is gone")
        _forward(frames, printed.read())
    return child.returncode


@contextmanager
def _in_session(words: list[str], cwd: Path, output: int) -> Iterator[process.Popen[bytes]]:
    """A process in a session of its own, killed with this process. When the block ends, all of its group has ended."""
    # The death signal is set after setsid, in the process that becomes pytest.
    argv = ["setsid", *process.tied_to_us(["env", "-C", str(cwd), *words])]
    with process.spawn(argv, stdout=output, stderr=output, grace_s=_GRACE_S) as child:
        try:
            yield child
        finally:
            _end_group(child)


def _end_group(child: process.Popen[bytes]) -> None:
    """SIGTERM to all, SIGKILL to what is left."""
    with suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            with suppress(Exception):
                child.wait(_GRACE_S)
        os.killpg(child.pid, signal.SIGKILL)


def _watch(frames: Frames, gone: threading.Event) -> None:
    """The other side sends nothing but heartbeats while pytest runs; anything else is its end."""
    with suppress(PeerLost, OSError):
        frames.receive()
    gone.set()


def _forward(frames: Frames, printed: bytes) -> None:
    for line in printed.decode("utf-8", "replace").splitlines():
        if line.strip():
            frames.say(line=line[:500])


def _tail(log: Path) -> list[str]:
    lines = log.read_text("utf-8", "replace").splitlines()
    return [line for line in lines if line.strip()][-_TAIL_LINES:]

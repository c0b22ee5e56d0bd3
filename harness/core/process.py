"""Running programs. The only importer of ``subprocess``."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from subprocess import PIPE as PIPE
from subprocess import Popen as Popen

from harness.core.errors import HostError

_log = logging.getLogger(__name__)

_KEPT_LINES = 30
_KEPT_BYTES = 1 << 14


class CommandFailed(HostError):
    """A program failed, mostly with another status than 0; ``tail`` is the end of its output, all in ``log`` if set."""

    def __init__(self, argv: tuple[str, ...], status: int, tail: str, log: str | None = None) -> None:
        super().__init__(argv, status, tail, log)
        self.argv, self.status, self.tail, self.log = argv, status, tail, log

    def __str__(self) -> str:
        where = f"; its output is in {self.log}" if self.log else ""
        ended = f"ended with status {self.status}" if self.status else "failed, although its status is 0"
        return f"{self.argv[0]} {ended}{where}\n$ {shlex.join(self.argv)}\n{self.tail}".rstrip()


def unwind_when_told_to_end() -> None:
    """Make SIGTERM and SIGHUP interrupt this process as Ctrl-C does, so that all its blocks are left in order.

    Call it in the main thread. A signal that is ignored, as under nohup(1), stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def tied_to_us(argv: Sequence[str], *, parent: int | None = None) -> list[str]:
    """``argv`` with a prefix that has it killed when the thread that starts it ends: start it from the main thread.

    With ``parent``, the process id of the caller, it also does not start if the caller ended before the prefix ran.
    """
    tied = ["setpriv", "--pdeathsig", "KILL"]
    if parent is None:
        return [*tied, *argv]
    return [*tied, "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(parent), *argv]


def find(program: str) -> str | None:
    """The full path of ``program``; None if it is not installed."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def require(program: str, package: str) -> str:
    """The full path of ``program``; `HostError` with the Debian ``package`` to install if there is none."""
    path = find(program)
    if path is None:
        raise HostError(f"{program} is not installed (PATH was searched): apt-get install {package}")
    return path


def require_file(path: Path, package: str) -> Path:
    """``path``; `HostError` with the Debian ``package`` to install if there is no such file."""
    if not path.is_file():
        raise HostError(f"{path} is missing: apt-get install {package}")
    return path


def output(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> str:
    """Standard output of ``argv``; `CommandFailed`, with its standard error, for any status but 0."""
    status, stdout, stderr = capture(argv, env=env)
    if status:
        raise CommandFailed(tuple(argv), status, _tail(stderr))
    return stdout


def capture(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """The status of ``argv``, its standard output and its standard error: for programs whose status does not say
    whether they failed."""
    with spawn(argv, stdout=PIPE, stderr=PIPE, env=env) as child, child:
        stdout, stderr = child.communicate()
    return child.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")


def answer(argv: Sequence[str]) -> tuple[int, str]:
    """The status of ``argv`` and its output, standard error included: for programs whose status is an answer."""
    with spawn(argv, stdout=PIPE, stderr=STDOUT) as child, child:
        printed, _ = child.communicate()
    return child.returncode, printed.decode("utf-8", "replace")


def run(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, grace_s: float = 5.0) -> None:
    """Run ``argv`` until its output is closed, appending the output to ``log``.

    `CommandFailed`, for any status but 0, has the end of the output even if a full disk keeps it out of ``log``. On an
    interrupt the child is dead and reaped before the interrupt continues.
    """
    end = b""
    with ExitStack() as stack:
        file = stack.enter_context(log.open("ab", buffering=0))
        child = stack.enter_context(spawn(argv, stdout=PIPE, stderr=STDOUT, env=env, grace_s=grace_s))
        assert isinstance(child.stdout, BufferedReader)
        printed = stack.enter_context(child.stdout)
        while chunk := printed.read1():
            end = (end + chunk)[-_KEPT_BYTES:]
            with suppress(OSError):
                file.write(chunk)
        status = child.wait()
    if status:
        raise CommandFailed(tuple(argv), status, _tail(end), str(log))


@contextmanager
def reading(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[BufferedReader]:
    """Standard output of ``argv`` as a stream, for output that is too large for memory.

    `CommandFailed` after the block for any status but 0, if all was read. A block that ends earlier ends the program.
    """
    with tempfile.TemporaryFile() as errors, spawn(argv, stdout=PIPE, stderr=errors.fileno(), env=env) as child:
        assert isinstance(child.stdout, BufferedReader)
        with child.stdout as printed:
            yield printed
            if printed.read(1):
                return
        if child.wait():
            errors.seek(0)
            raise CommandFailed(tuple(argv), child.returncode, _tail(errors.read()))


@contextmanager
def writing(argv: Sequence[str], package: str, stdout: int) -> Iterator[BufferedWriter]:
    """Standard input of ``argv`` as a stream; it prints to the descriptor ``stdout``. ``package`` is as in `require`.

    `CommandFailed` after the block for any status but 0. A block that raises ends the program.
    """
    argv = [require(argv[0], package), *argv[1:]]
    with tempfile.TemporaryFile() as errors, spawn(argv, stdin=PIPE, stdout=stdout, stderr=errors.fileno()) as child:
        assert isinstance(child.stdin, BufferedWriter)
        try:
            with child.stdin as pipe:
                yield pipe
        except BrokenPipeError:  # its status and standard error say why
            pass
        if child.wait():
            errors.seek(0)
            raise CommandFailed(tuple(argv), child.returncode, _tail(errors.read()))


def cores_s() -> tuple[float, float]:
    """Seconds that this host's cores worked since it booted, and seconds there were, all cores together.

    proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; waiting for a disk does not count as work.
    """
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    worked = user + nice + system + irq + softirq + steal
    ticks = os.sysconf("SC_CLK_TCK")
    return worked / ticks, (worked + idle + iowait) / ticks


def private_mib(pid: int) -> int | None:
    """MiB of memory that only the process ``pid`` has; None if unknown (proc(5), smaps_rollup)."""
    with suppress(OSError, ValueError):
        rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:])
        return {row[0]: int(row[1]) for row in rows}["Anonymous:"] >> 10
    return None


def lower_priority(pid: int, nice: int = 5) -> None:
    """Let programs of ordinary priority go first: all threads of the process ``pid``, and those that they start.

    setpriority(2) is about one thread, and where the kernel makes a group of each session (sched(7), autogroup), it
    counts only within the session; then the session of ``pid`` is lowered, too, unless it is the caller's own. A thread
    or process that has ended meanwhile is left alone.
    """
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
        if os.getsid(pid) != os.getsid(0):
            Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n", "ascii")


@contextmanager
def spawn(
    argv: Sequence[str],
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    grace_s: float = 5.0,
) -> Iterator[Popen[bytes]]:
    """Run ``argv`` while the block lasts; on leaving, it has ended, killed if it takes longer than ``grace_s``."""
    try:
        child = Popen(list(argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env, pass_fds=pass_fds)
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not installed (PATH was searched)") from error
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be started: {error.strerror}") from error
    _log.debug("process %d started: %s", child.pid, shlex.join(argv))
    try:
        yield child
    finally:
        _end(child, grace_s)
        _log.debug("process %d ended with status %d", child.pid, child.returncode)


def _end(child: Popen[bytes], grace_s: float) -> None:
    """SIGTERM first, SIGKILL after ``grace_s``."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def _tail(text: bytes | str) -> str:
    text = text if isinstance(text, str) else text.decode("utf-8", "replace")
    lines = text.rstrip().splitlines()
    return "\n".join(lines[-_KEPT_LINES:])

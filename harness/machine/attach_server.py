"""The attach server: access to a running machine from other terminals, to its console, QEMU's monitor, gdb and SSH.

Each machine has a folder that only its user can enter, with a socket and a `HeldMachine` that describes it. The server
is a thread of the process that runs the machine. A folder whose socket refuses was left by a process that was killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import serialization
from harness.core.deadline import Changes, Deadline
from harness.core.errors import BootproofError, HostError, UsageError
from harness.core.terminal import serve_console
from harness.machine.boot import RunningBoot
from harness.machine.observation import BootState
from harness.machine.reach_guest import ssh_argv

if TYPE_CHECKING:
    from harness.machine.machine import Machine  # imports testinfra, which `bootproof ps` need not wait for

CONSOLE, MONITOR, GDB, LOGIN, STOP = "console", "monitor", "gdb", "login", "stop"
"""Requests: the first line that a client sends."""
PROMPT = "(qemu) "
_ERROR = "error: "

_SOCKET, _RECORD, _GDB = "socket", "machine.json", "gdb"
_MOST_PATH_BYTES = 80
"""Limit of a base folder's path, so that the path of a socket in it fits into unix(7)'s 107 bytes."""
_SHOWN_BYTES = 8192
_LOGIN_S = 20.0
_LOG_IN = """\
systemctl cat serial-getty@ttyS0.service | grep -q -- --autologin && exit
mkdir -p /run/systemd/system/serial-getty@ttyS0.service.d || exit
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - vt220\\n' \
>/run/systemd/system/serial-getty@ttyS0.service.d/bootproof.conf || exit
systemctl daemon-reload || exit
systemctl --no-block restart serial-getty@ttyS0.service
"""
"""Log root in on the console without a password, unless the image does so itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMachine:
    """A machine that `bootproof attach` reaches.

    ``why`` is the reason that it runs. It ends at ``until`` (seconds since 1970), or with its terminal if that is 0.
    ``qemu`` is the process id of its QEMU, ``ssh`` the command line to root in it.
    """

    id: str
    machine: str
    image: str
    why: str
    since: float
    until: float
    qemu: int
    ssh: tuple[str, ...]


def held_machines() -> list[HeldMachine]:
    """The machines that run now, the oldest first; the folders of others are removed."""
    found: list[HeldMachine] = []
    for folder in (folder for base in _bases() for folder in base.iterdir() if not folder.name.startswith(".")):
        with suppress(OSError, ValueError):  # the machine has just ended
            if _is_answered(folder):
                found.append(serialization.read(HeldMachine, folder / _RECORD))
            else:
                shutil.rmtree(folder, ignore_errors=True)
    return sorted(found, key=lambda one: one.since)


def _is_answered(folder: Path) -> bool:
    """A socket that refuses belongs to a process that has ended: it was renamed to this path after it listened."""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(str(folder / _SOCKET))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def find(name: str | None) -> HeldMachine:
    """The machine with that id or name; without a name, the only one that runs. Else `UsageError`."""
    known = held_machines()
    if not known:
        raise UsageError(
            "no machine is held: pytest --keep-failed, bootproof boot and bootproof replay --shell hold one"
        )
    chosen = [one for one in known if name in (None, one.id, one.machine)]
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(f"{one.id} ({one.machine})" for one in chosen or known)
    raise UsageError(
        f"no machine is called {name!r}; running: {there}" if not chosen else f"several machines run, name one: {there}"
    )


@contextmanager
def ask(name: str, what: str) -> Iterator[socket.socket]:
    """A connection to the machine with that id for the request ``what``; `UsageError` if the machine has ended."""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            place = next(base / name / _SOCKET for base in _bases() if (base / name).is_dir())
            door.connect(str(place))
            door.sendall(f"{what}\n".encode())
        except (OSError, StopIteration) as error:
            raise UsageError(f"machine {name} has ended") from error
        yield door


def answer(name: str, what: str) -> str:
    """The answer of the machine with that id to the request ``what``; `HostError` if it refuses, with its reason."""
    with ask(name, what) as door, door.makefile("r", encoding="utf-8", errors="replace") as lines:
        reply = lines.read().strip()
    if reply.startswith(_ERROR):
        raise HostError(reply.removeprefix(_ERROR))
    return reply


@contextmanager
def open_access(running: RunningBoot, why: str, *, for_s: float = 0.0) -> Iterator[Access]:
    """Serve access to the running machine while the block lasts; `HostError` where no socket can be made."""
    base, spec = _base(), running.plan.spec
    with socket.socket(socket.AF_UNIX) as listening:
        hidden = Path(tempfile.mkdtemp(prefix=".", dir=base))
        folder = base / secrets.token_hex(2)
        try:
            while folder.exists():
                folder = base / secrets.token_hex(2)
            about = HeldMachine(
                id=folder.name,
                machine=spec.name,
                image=running.plan.artifacts.manifest.image,
                why=why,
                since=time.time(),
                until=time.time() + for_s if for_s else 0.0,
                qemu=running.child.pid,
                ssh=_ssh(running),
            )
            serialization.write(hidden / _RECORD, about)
            listening.bind(str(hidden / _SOCKET))
            listening.listen()
            hidden.rename(folder)
        except OSError as error:
            raise HostError(f"cannot serve access to {spec.name}: {base} is not writable or full: {error}") from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)  # unless it was renamed
        access = Access(running, folder, about, listening)
        access.start()
        try:
            yield access
        finally:
            access.close()
            shutil.rmtree(folder, ignore_errors=True)


class Access:
    """Serves the clients of one machine; made by `open_access`."""

    def __init__(self, running: RunningBoot, folder: Path, about: HeldMachine, listening: socket.socket) -> None:
        self.about = about
        self._running, self._folder, self._listening = running, folder, listening
        self._changes, self.is_stopped = Changes(), False
        self._thread = threading.Thread(target=self._listen, name="access", daemon=True)
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._gdb = ""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Accept no more clients, and end the connections of those there are."""
        self._end()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread, door in list(self._clients.items()):
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            thread.join()

    def wait(self, deadline: Deadline) -> None:
        """Return when somebody stops the machine, or the deadline is over."""
        self._changes.wait_for(lambda: self.is_stopped, deadline)

    def _end(self) -> None:
        self.is_stopped = True
        self._changes.note()

    def _listen(self) -> None:
        while True:
            try:
                door, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(door,), name="door", daemon=True)
            self._clients[thread] = door
            thread.start()

    def _serve(self, door: socket.socket) -> None:
        with door, suppress(OSError):
            what = _request(door)
            if what == MONITOR:
                self._monitor(door)
            elif what == CONSOLE:
                console = self._running.console
                serve_console(console, door, max(0, console.printed_bytes - _SHOWN_BYTES), lambda: self.is_stopped)
            elif what in _ANSWERS:
                door.sendall(f"{_ANSWERS[what](self)}\n".encode())
        self._clients.pop(threading.current_thread(), None)

    def _monitor(self, door: socket.socket) -> None:
        door.sendall(PROMPT.encode())
        with door.makefile("r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    reply = self._running.ask_monitor(line.strip()) if line.strip() else ""
                except BootproofError as error:
                    reply = f"{error}\n"
                door.sendall(f"{reply}{PROMPT}".encode())

    def _answer_gdb(self) -> str:
        with self._lock:
            path = self._folder / _GDB
            if not self._gdb:
                try:
                    reply = self._running.ask_monitor(f"gdbserver unix:{path},server=on,wait=off").strip()
                except BootproofError as error:
                    return f"{_ERROR}{error}"
                if not path.exists():
                    return f"{_ERROR}{reply}"
                self._gdb = str(path)
            return self._gdb

    def _answer_login(self) -> str:
        phase = next(reversed(self._running.console.phases), "firmware")
        is_shown = self._running.watch.view.shows_phases
        if phase != "userspace" and is_shown and not self._running.plan.is_clone:
            return f"{_ERROR}the machine is still in {phase}"
        with self._lock:
            try:
                done = self._running.channel.run(_LOG_IN, Deadline(_LOGIN_S, scaled=False))
            except BootproofError as error:
                return f"{_ERROR}{str(error).splitlines()[0]}"
        return "" if done.status == 0 else f"{_ERROR}{done.errors}"

    def _answer_stop(self) -> str:
        self._end()
        return ""


_ANSWERS: dict[str, Callable[[Access], str]] = {
    GDB: Access._answer_gdb,
    LOGIN: Access._answer_login,
    STOP: Access._answer_stop,
}


def hold_machine(machine: Machine, why: str, *, for_s: float) -> None:
    """For ``pytest --keep-failed``: wait until somebody stops the machine, QEMU ends, or ``for_s`` seconds have passed.

    Returns at once if QEMU has ended, or the machine was held before. If it cannot be held, the run notes why; the
    failure stays what it was.
    """
    running = machine.running_boot
    if running.watch.state is BootState.HELD or running.child.status is not None:
        return
    running.watch.state = BootState.HELD
    try:
        with running.outliving_resets(), open_access(running, why, for_s=for_s) as access:
            name = access.about.id
            machine.context.run.add_note(
                f"{machine.name} is held for {for_s / 60:.0f} minutes ({why}): "
                f"bootproof attach {name} (--ssh, --monitor, --gdb), bootproof stop {name}"
            )
            deadline = Deadline(for_s, scaled=False)
            while not (deadline.is_over or access.is_stopped or running.child.status is not None):
                access.wait(Deadline(min(1.0, deadline.left_s), scaled=False))
    except BootproofError as error:
        machine.context.run.add_note(f"{machine.name} cannot be held: {error}")


def _ssh(running: RunningBoot) -> tuple[str, ...]:
    """The command line to root in the guest, run on this host inside QEMU's network namespace."""
    plan, pid = running.plan, running.child.pid
    ssh = ssh_argv(plan, running.context, running.ask_monitor, BatchMode="no")[:-1]
    if os.readlink("/proc/self/ns/net") == os.readlink(f"/proc/{pid}/ns/net"):
        return tuple(ssh)
    is_ours = os.readlink("/proc/self/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
    user = () if is_ours else ("--user", "--preserve-credentials")
    return ("nsenter", "--target", str(pid), *user, "--net", "--", *ssh)


def _bases() -> list[Path]:
    """The existing folders that only this user can read and write."""
    return [folder for folder in _places() if folder.is_dir() and not _problem(folder)]


def _places() -> list[Path]:
    """The folder of the login session, and one for users without a session; the preferred one first."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    parents = [named] if named and len(os.fsencode(named)) <= _MOST_PATH_BYTES else []
    return [Path(parent, f"bootproof-{os.getuid()}") for parent in (*parents, tempfile.gettempdir())]


def _base() -> Path:
    problem = ""
    for folder in _places():
        with suppress(OSError):  # it exists, or its parent does not
            folder.mkdir(mode=0o700)
        problem = _problem(folder)
        if not problem:
            return folder
    raise HostError(problem)


def _problem(folder: Path) -> str:
    try:
        about = folder.lstat()
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        return f"{folder} belongs to another user, or others may enter it; remove it"
    return ""


def _request(door: socket.socket) -> str:
    """The first line, without consuming any byte after it."""
    line = b""
    while (byte := door.recv(1)) and byte != b"\n":
        line += byte
    return line.decode("utf-8", "replace")

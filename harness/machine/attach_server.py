"""Ways into a machine that runs, for people at other terminals: its console, QEMU's monitor, a debugger, SSH.

Each such machine has a folder of its user's, with a socket in it and `HeldMachine`, which says what it is. What answers
on the socket ends with the process that runs the machine; a folder of a process that is gone is what a killed one left.
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

from harness.core import serialization
from harness.core.deadline import Changes, Deadline
from harness.core.errors import BootproofError, HostError, UsageError
from harness.guest.ssh import ssh_command
from harness.machine.boot import RunningBoot

CONSOLE, MONITOR, GDB, LOGIN, STOP = "console", "monitor", "gdb", "login", "stop"
"""What a client asks for in the line it sends first."""
PROMPT = "(qemu) "
_ERROR = "error: "

_SOCKET, _RECORD, _GDB = "door", "kept.json", "gdb"
_MOST_PATH_BYTES = 80
"""Of a base folder, so that a socket in it has a name that fits: unix(7) has room for 107."""
_SHOWN_BYTES = 8192
_LOGIN_S = 20.0
_LOG_IN = """\
systemctl cat serial-getty@ttyS0.service | grep -q -- --autologin && exit
mkdir -p /run/systemd/system/serial-getty@ttyS0.service.d
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - vt220\\n' \
>/run/systemd/system/serial-getty@ttyS0.service.d/bootproof.conf
systemctl daemon-reload
systemctl --no-block restart serial-getty@ttyS0.service
"""
"""Root gets a shell on the console, without a password, if nobody has one there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMachine:
    """A machine that people can get into. ``why`` it runs is a sentence; it ends at ``until`` (seconds since 1970), or
    with its terminal if that is 0. ``qemu`` is its QEMU's process, ``ssh`` the command to root in it."""

    id: str
    machine: str
    image: str
    why: str
    since: float
    until: float
    qemu: int
    ssh: tuple[str, ...]


def kept() -> list[HeldMachine]:
    """All that run now, the oldest first; what is left of others is removed."""
    found = list[HeldMachine]()
    for folder in (folder for base in _bases() for folder in base.iterdir() if not folder.name.startswith(".")):
        with suppress(OSError, ValueError):  # it has just ended
            if _is_answered(folder):
                found.append(serialization.read(HeldMachine, folder / _RECORD))
            else:
                shutil.rmtree(folder, ignore_errors=True)
    return sorted(found, key=lambda one: one.since)


def _is_answered(folder: Path) -> bool:
    """A socket that is bound and refuses is one of a process that is gone: it listened before it had that name."""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(str(folder / _SOCKET))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def find(name: str | None) -> HeldMachine:
    """The one called that, by its id or its machine; the only one there is, without a name."""
    known = kept()
    if not known:
        raise UsageError(
            "no machine is kept: pytest --keep-failed, bootproof boot and bootproof replay --shell run some"
        )
    chosen = [one for one in known if name in (None, one.id, one.machine)]
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(f"{one.id} ({one.machine})" for one in chosen or known)
    raise UsageError(f"no machine is called {name!r}; there: {there}" if not chosen else f"say which machine: {there}")


@contextmanager
def ask(name: str, what: str) -> Iterator[socket.socket]:
    """A connection to the machine of that id, for ``what``; `UsageError` if nobody answers there."""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            place = next(base / name / _SOCKET for base in _bases() if (base / name).is_dir())
            door.connect(str(place))
            door.sendall(f"{what}\n".encode())
        except (OSError, StopIteration) as error:
            raise UsageError(f"machine {name} has ended") from error
        yield door


def answer(name: str, what: str) -> str:
    """All that the machine of that id has to say about it; `HostError` if that is why it cannot."""
    with ask(name, what) as door, door.makefile("r", encoding="utf-8", errors="replace") as lines:
        said = lines.read().strip()
    if said.startswith(_ERROR):
        raise HostError(said.removeprefix(_ERROR))
    return said


@contextmanager
def open_access(power: RunningBoot, why: str, *, for_s: float = 0.0) -> Iterator[Access]:
    """The machine, which must run, can be got into while the block lasts; `HostError` where no socket can be made."""
    base, spec = _base(), power.plan.spec
    with socket.socket(socket.AF_UNIX) as listening:
        hidden = Path(tempfile.mkdtemp(prefix=".", dir=base))
        folder = base / secrets.token_hex(2)
        try:
            while folder.exists():
                folder = base / secrets.token_hex(2)
            about = HeldMachine(
                id=folder.name,
                machine=spec.name,
                image=power.plan.artifacts.manifest.image,
                why=why,
                since=time.time(),
                until=time.time() + for_s if for_s else 0.0,
                qemu=power.child.pid,
                ssh=_ssh(power),
            )
            serialization.write(hidden / _RECORD, about)
            listening.bind(str(hidden / _SOCKET))
            listening.listen()
            hidden.rename(folder)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise HostError(f"there is no way into {spec.name}, for which {base} has no room: {error}") from error
        except BootproofError:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        access = Access(power, folder, about, listening)
        access.start()
        try:
            yield access
        finally:
            access.close()
            shutil.rmtree(folder, ignore_errors=True)


class Access:
    """Answers those who come in; `open_access` makes it."""

    def __init__(self, power: RunningBoot, folder: Path, about: HeldMachine, listening: socket.socket) -> None:
        self.about = about
        self._power, self._folder, self._listening = power, folder, listening
        self._changes, self._is_over = Changes(), False
        self._thread = threading.Thread(target=self._listen, name="access", daemon=True)
        self._lock = threading.Lock()
        self._inside = dict[threading.Thread, socket.socket]()
        self._gdb = ""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Nobody gets in any more, and whoever is inside is told that it is over."""
        self._end()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread, door in list(self._inside.items()):
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            thread.join()

    def wait(self, deadline: Deadline) -> None:
        """Until somebody stops the machine, or the deadline is over."""
        self._changes.wait_for(lambda: self._is_over, deadline)

    @property
    def is_stopped(self) -> bool:
        return self._is_over

    def _end(self) -> None:
        self._is_over = True
        self._changes.note()

    def _listen(self) -> None:
        while True:
            try:
                door, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(door,), name="door", daemon=True)
            self._inside[thread] = door
            thread.start()

    def _serve(self, door: socket.socket) -> None:
        with door, suppress(OSError):
            what = _request(door)
            if what == MONITOR:
                self._monitor(door)
            elif what == CONSOLE:
                self._console(door)
            elif what in _ANSWERS:
                door.sendall(f"{_ANSWERS[what](self)}\n".encode())
        self._inside.pop(threading.current_thread(), None)

    def _console(self, door: socket.socket) -> None:
        threading.Thread(target=self._type, args=(door,), daemon=True).start()
        console = self._power.console
        position = max(0, console.printed_bytes - _SHOWN_BYTES)
        while not (self._is_over or console.is_closed):
            chunk = console.read(position, Deadline(0.2, scaled=False))
            position += len(chunk)
            door.sendall(chunk)
        door.shutdown(socket.SHUT_RDWR)

    def _type(self, door: socket.socket) -> None:
        with suppress(OSError):
            while typed := door.recv(1024):
                self._power.console.send(typed.decode("utf-8", "replace"))

    def _monitor(self, door: socket.socket) -> None:
        door.sendall(PROMPT.encode())
        with door.makefile("r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    said = self._power.ask_monitor(line.strip()) if line.strip() else ""
                except BootproofError as error:
                    said = f"{error}\n"
                door.sendall(f"{said}{PROMPT}".encode())

    def _answer_gdb(self) -> str:
        with self._lock:
            path = self._folder / _GDB
            if not self._gdb:
                try:
                    said = self._power.ask_monitor(f"gdbserver unix:{path},server=on,wait=off").strip()
                except BootproofError as error:
                    return f"{_ERROR}{error}"
                if not path.exists():
                    return f"{_ERROR}{said}"
                self._gdb = str(path)
            return self._gdb

    def _answer_login(self) -> str:
        phase = next(reversed(self._power.console.phases), "firmware")
        if phase != "userspace" and not self._power.plan.frozen:
            return f"{_ERROR}it is in {phase}"
        with self._lock:
            try:
                done = self._power.channel.run(_LOG_IN, Deadline(_LOGIN_S, scaled=False))
            except BootproofError as error:
                return f"{_ERROR}{str(error).splitlines()[0]}"
        return "" if done.status == 0 else f"{_ERROR}{done.stderr.decode('utf-8', 'replace').strip()}"

    def _answer_stop(self) -> str:
        self._end()
        return ""


_ANSWERS: dict[str, Callable[[Access], str]] = {
    GDB: Access._answer_gdb,
    LOGIN: Access._answer_login,
    STOP: Access._answer_stop,
}


def _ssh(power: RunningBoot) -> tuple[str, ...]:
    """The command to root in the guest, from this host: by way of the lab's network, which QEMU is in."""
    plan, pid = power.plan, power.child.pid
    options = {**power.context.lab.ssh_options(plan.spec, power.ask_monitor), "BatchMode": "no"}
    known_hosts = str(plan.folder.parent / "known_hosts")
    ssh = ssh_command(plan.spec.address, str(power.context.run.key), known_hosts, options)[:-1]
    if os.readlink("/proc/self/ns/net") == os.readlink(f"/proc/{pid}/ns/net"):
        return tuple(ssh)
    is_ours = os.readlink("/proc/self/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
    user = () if is_ours else ("--user", "--preserve-credentials")
    return ("nsenter", "--target", str(pid), *user, "--net", "--", *ssh)


def _bases() -> list[Path]:
    """This user's own folders that there are, which nobody else can write to or read."""
    return [folder for folder in _places() if folder.is_dir() and not _problem(folder)]


def _places() -> list[Path]:
    """A session's own, and the one of those who have no session; the best first."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    parents = [named] if named and len(os.fsencode(named)) <= _MOST_PATH_BYTES else []
    return [Path(parent, f"bootproof-{os.getuid()}") for parent in (*parents, tempfile.gettempdir())]


def _base() -> Path:
    problem = ""
    for folder in _places():
        with suppress(OSError):  # it is there, or its parent is not
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
        return f"{folder} belongs to somebody else, or others may enter it; remove it"
    return ""


def _request(door: socket.socket) -> str:
    """The first line, and not a byte of what may follow it."""
    line = b""
    while (byte := door.recv(1)) and byte != b"\n":
        line += byte
    return line.decode("utf-8", "replace")

"""The first process of a lab: it starts everything in the lab, and ends everything when it ends.

This is a program of its own: ``python -I -S supervisor.py CONTROL_FD``, under unshare(1) where the lab has namespaces.
It imports only modules that load in milliseconds. CONTROL_FD is a SOCK_SEQPACKET socket; each message is a JSON object.
Requests have ``id`` and ``op``, answers are ``{"id", "value"}`` or ``{"id", "error"}``. The end of a spawned program is
reported as ``{"exit": id of its spawn, "status"}``, always after the answer to the spawn. When the control socket is
closed, this program kills the programs that it started and ends. As process 1 of a PID namespace it ends every other
process in there as well (pid_namespaces(7)).
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MESSAGE_BYTES = 1 << 18
MESSAGE_FDS = 64  # unix(7), SCM_RIGHTS, allows 253

_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
_ICMP6_FILTER = 1  # linux/icmpv6.h
_ONLY_SOLICITATIONS = struct.pack("@8I", *(0xFFFFFFFF ^ (1 << 5 if word == 4 else 0) for word in range(8)))
"""A set bit blocks its type; 133, router solicitation, is bit 5 of word 4."""

_ETH_P_ALL = 3  # linux/if_ether.h, linux/if_packet.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_RX_RING, _PACKET_VERSION = 263, 1, 5, 10
_PACKET_MR_PROMISC, _TPACKET_V2 = 1, 1
_BLOCK_BYTES = 1 << 16

Answer = tuple[Any, tuple[int, ...]]
Operation = Callable[[dict[str, Any], list[int]], Answer]


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors, which no program started later inherits.

    (Python 3.11's recv_fds takes MSG_CMSG_CLOEXEC and ignores it.)
    """
    message, fds, _, _ = socket.recv_fds(sock, MESSAGE_BYTES, MESSAGE_FDS)
    for fd in fds:
        os.set_inheritable(fd, False)
    return message, fds


class Supervisor:
    """The programs of this lab by the id of the request that started them, and the operations on them."""

    def __init__(self, control: socket.socket, selector: selectors.BaseSelector) -> None:
        self.control, self.selector = control, selector
        self.pids: dict[int, int] = {}
        self.operations: dict[str, Operation] = {
            "run": self.run,
            "spawn": self.spawn,
            "signal": self.signal,
            "listen": self.listen,
            "connect": self.connect,
            "advertise": self.advertise,
            "packets": self.packets,
        }

    def answer(self) -> bool:
        """Answer one request; False if the control socket is closed."""
        message, fds = receive(self.control)
        if not message:
            return False
        request = json.loads(message)
        given: tuple[int, ...] = ()
        try:
            value, given = self.operations[request["op"]](request, fds)
            reply = {"id": request["id"], "value": value}
        except (OSError, ValueError) as error:
            reply = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
        self.send(reply, given)
        for fd in (*fds, *given):
            os.close(fd)
        return True

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the next read sees it as well, and ends this program
            socket.send_fds(self.control, [json.dumps(message).encode()], list(fds))

    def run(self, request: dict[str, Any], fds: list[int]) -> Answer:
        """Run a short program to its end, with ``input`` on its standard input; its exit status."""
        read, write = os.pipe()
        os.set_blocking(write, True)
        pid = self._start(request["argv"], [read, *fds], [0, 1, 2])
        os.close(read)
        os.write(write, request["input"].encode())  # shorter than a pipe holds: pipe(7), 64 KiB
        os.close(write)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), ()

    def spawn(self, request: dict[str, Any], fds: list[int]) -> Answer:
        """Start ``argv``, with ``fds`` as the descriptors ``targets``. Returns its pid and a pidfd."""
        pid = self._start(request["argv"], fds, request["targets"])
        self.pids[request["id"]] = pid
        return pid, (os.pidfd_open(pid),)

    def signal(self, request: dict[str, Any], _fds: list[int]) -> Answer:
        """Send a signal, unless the program has ended: its pid may be another program's by now."""
        pid = self.pids.get(request["process"])
        if pid is not None:
            os.kill(pid, request["signal"])
        return None, ()

    def listen(self, request: dict[str, Any], _fds: list[int]) -> Answer:
        """Bind and listen inside the lab; the descriptor works anywhere."""
        sock = socket.create_server((request["address"], request["port"]), backlog=128)
        return None, (sock.detach(),)

    def connect(self, request: dict[str, Any], _fds: list[int]) -> Answer:
        """A TCP socket that is connecting inside the lab: it may be refused, or never be answered. The caller waits."""
        sock = socket.socket()
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect((request["address"], request["port"]))
        return None, (sock.detach(),)

    def advertise(self, request: dict[str, Any], _fds: list[int]) -> Answer:
        """Answer IPv6 router solicitations on ``interface`` from now on: there is no router.

        Without an answer, iPXE waits up to 16 s before it uses its DHCPv4 lease.
        """
        index = socket.if_nametoindex(request["interface"])
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, request["interface"].encode())
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)  # RFC 4861, 6.1.2
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        group = socket.inet_pton(socket.AF_INET6, _ALL_ROUTERS) + struct.pack("@I", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _ONLY_SOLICITATIONS)
        self.selector.register(sock, selectors.EVENT_READ, lambda: _advertise_nothing(sock))
        return None, ()

    def packets(self, request: dict[str, Any], _fds: list[int]) -> Answer:
        """A socket for all packets on ``interface``; from now on the kernel fills its ring of ``frames``.

        It is promiscuous: only then does a bridge pass forwarded packets to itself (Linux, networking/packet_mmap).
        """
        size, frames = request["frame_bytes"], request["frames"]
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        ring = struct.pack("@IIII", _BLOCK_BYTES, size * frames // _BLOCK_BYTES, size, frames)
        sock.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
        member = struct.pack("@iHH8s", socket.if_nametoindex(request["interface"]), _PACKET_MR_PROMISC, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
        sock.bind((request["interface"], _ETH_P_ALL))
        return None, (sock.detach(),)

    def wake(self, wakeup: int) -> bool:
        os.read(wakeup, 4096)
        self.reap()
        return True

    def reap(self) -> None:
        """Reap every process that ended, orphans included; report those that were spawned."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for key in [key for key, value in self.pids.items() if value == pid]:
                del self.pids[key]
                self.send({"exit": key, "status": os.waitstatus_to_exitcode(status)})

    def end(self) -> None:
        """Kill the process groups of all programs that still run, and wait for them."""
        for pid in self.pids.values():
            with suppress(ProcessLookupError):  # it has ended, not reaped yet, and its group with it
                os.killpg(pid, signal.SIGKILL)
        for pid in self.pids.values():
            os.waitpid(pid, 0)

    def _start(self, argv: list[str], fds: list[int], targets: list[int]) -> int:
        """Each fd is duplicated to a number above all targets first, so that none overwrites another."""
        above = max([2, *targets]) + 1
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2) if number not in targets
        ]
        actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(moved, targets, strict=True)]
        try:
            return os.posix_spawnp(
                argv[0],
                argv,
                os.environ,
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ],
            )
        finally:
            for fd in moved:
                os.close(fd)


def _advertise_nothing(sock: socket.socket) -> bool:
    """A router advertisement of lifetime 0 without options (RFC 4861, 4.2); the kernel adds the checksum."""
    sock.recv(2048)
    with suppress(OSError):  # no carrier any more, for example: then nobody waits for it
        sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 0, 0, 0, 0, 0), (_ALL_NODES, 0))
    return True


def main(control_fd: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only the end of the control socket ends this program
    os.set_inheritable(control_fd, False)
    wakeup_read, wakeup_write = os.pipe()
    for fd in (wakeup_read, wakeup_write):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    with socket.socket(fileno=control_fd) as control, selectors.DefaultSelector() as selector:
        supervisor = Supervisor(control, selector)
        selector.register(control, selectors.EVENT_READ, supervisor.answer)
        selector.register(wakeup_read, selectors.EVENT_READ, lambda: supervisor.wake(wakeup_read))
        supervisor.send({"ready": True})
        while all(key.data() for key, _ in selector.select()):
            pass
        supervisor.end()


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""The lab: one isolated virtual network with its DHCP, TFTP, DNS and HTTP servers.

A lab is one process tree in its own user, network, PID and mount namespace. `holder` makes it and is its
process 1; it ends when the socket that only this process holds is closed, however that comes about, and the
kernel ends everything else in it. This process never forks, sets or unshares namespaces.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import process
from harness.deadline import Deadline, poll
from harness.errors import HostError
from harness.lab import dnsmasq, holder
from harness.lab.control import Control, LabError, LabProcess, controlled
from harness.lab.dnsmasq import DhcpConfig
from harness.lab.http import Answer, HttpServer, Request, RequestRecord, serving
from harness.spec import GATEWAY, PREFIX_LENGTH

__all__ = [
    "Answer",
    "HttpServer",
    "Lab",
    "LabError",
    "LabProcess",
    "Request",
    "RequestRecord",
    "open_lab",
]

BRIDGE = "br0"
BRIDGE_MAC = "52:54:00:77:ff:01"
"""Fixed: a machine restored from a frozen state still has it in its ARP cache."""

_TUN = Path("/dev/net/tun")
_START_S = 20.0
_END_S = 5.0
_NETWORK = f"""\
link set lo up
link add {BRIDGE} address {BRIDGE_MAC} type bridge forward_delay 0 mcast_snooping 0
link set {BRIDGE} addrgenmode none
link set {BRIDGE} up
addr add {GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}
addr add fe80::1/64 dev {BRIDGE} nodad
"""
_TAP = f"""\
tuntap add {{tap}} mode tap
link set {{tap}} addrgenmode none
link set {{tap}} master {BRIDGE}
link set {{tap}} up
"""


class Lab:
    """An open lab; everything it keeps on disk is in ``workdir``, ``http`` serves ``http://10.77.0.1/``."""

    def __init__(self, workdir: Path, control: Control, http: HttpServer) -> None:
        self.workdir, self.http = workdir, http
        self._control = control
        self._taps: set[int] = set()

    def tap(self, number: int) -> str:
        """The name of the tap of that place, attached to the bridge; made when first asked for."""
        name = f"tap{number}"
        if number not in self._taps:
            _ip(self._control, _TAP.format(tap=name))
            self._taps.add(number)
        return name

    def listen(self, port: int) -> socket.socket:
        """A TCP socket that listens inside the lab, at 10.77.0.1, and is served from here."""
        return _listen(self._control, port)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        on_exit: Callable[[int], None] | None = None,
    ) -> LabProcess:
        """Start ``argv`` in the lab, in which it lives until it ends or the lab does.

        ``pass_fds`` keep their numbers, so that ``argv`` can name them; the caller closes its own copies.
        Standard streams that are None are /dev/null. ``on_exit`` is called once, with the exit status (-N after
        signal N), from the thread that reads the holder's answers: it must not ask the lab for anything.
        """
        given = {0: stdin, 1: stdout, 2: stderr}
        files = {number: fd for number, fd in given.items() if fd is not None}
        return self._control.spawn(argv, files | {fd: fd for fd in pass_fds}, on_exit)


@contextmanager
def open_lab(workdir: Path, *, names: dict[int, str] | None = None) -> Iterator[Lab]:
    """A lab while the block lasts, its servers answering; ``names`` are host names by place.

    Raises `HostError` where the host has no user namespaces, no /dev/net/tun or no dnsmasq.
    """
    dhcp = DhcpConfig(folder=workdir, names=names or {})
    _check_host()
    with ExitStack() as stack:
        control = stack.enter_context(_held(workdir / "lab.log"))
        _ip(control, _NETWORK)
        control.ask("advertise on the bridge", "advertise", interface=BRIDGE)
        server = _start_dnsmasq(control, dhcp)
        http = stack.enter_context(serving(_listen(control, 80)))
        _await_dnsmasq(server, dhcp)
        yield Lab(workdir, control, http)


def _ip(control: Control, batch: str) -> None:
    with control.log.open("ab") as log:
        status = control.run(["ip", "-batch", "-"], batch, log.fileno())
    if status:
        raise HostError(
            f"ip ended with status {status} in the lab, on:\n{batch}{_quoted(control.log)}\n"
            "a kernel without the bridge or tun module says 'Unknown device type': modprobe bridge tun"
        )


def _listen(control: Control, port: int) -> socket.socket:
    _, (fd,) = control.ask(f"listen on {GATEWAY}:{port}", "listen", address=GATEWAY, port=port)
    return socket.socket(fileno=fd)


@contextmanager
def _held(log: Path) -> Iterator[Control]:
    """A holder in its own namespaces; on leaving, it and everything below it is gone."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A session of its own: Ctrl-C at the terminal is for pytest, which ends the lab in order.
    argv = ["setsid", "unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--mount-proc"]
    argv += ["--fork", "--kill-child", sys.executable, "-I", "-S", holder.__file__, str(theirs.fileno())]
    env = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    with ours, log.open("ab") as file, ExitStack() as stack:
        output = file.fileno()
        with theirs:
            child = stack.enter_context(
                process.spawn(argv, env=env, stdout=output, stderr=output, pass_fds=[theirs.fileno()])
            )
        _await_holder(ours, log)
        try:
            with controlled(ours, log) as control:
                yield control
        finally:
            poll(lambda: child.poll() is not None, Deadline(_END_S, scaled=False), every_s=0.002)


def _await_holder(ours: socket.socket, log: Path) -> None:
    ours.settimeout(_START_S)
    try:
        is_ready = bool(ours.recv(holder.MESSAGE_BYTES))
    except (TimeoutError, ConnectionResetError):
        is_ready = False
    ours.settimeout(None)
    if not is_ready:
        raise HostError(
            f"no lab without namespaces; unshare said:\n{_quoted(log)}\n"
            "if not permitted, allow them: sysctl -w user.max_user_namespaces=10000 "
            "kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 "
            "(those that exist here), or run as root; in a container, run it with --privileged"
        )


def _check_host() -> None:
    for program, package in (
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
        ("dnsmasq", "dnsmasq-base"),
    ):
        process.require(program, package)
    if not os.access(_TUN, os.R_OK | os.W_OK):
        remedy = "chmod 0666 /dev/net/tun" if _TUN.exists() else "modprobe tun"
        raise HostError(f"no lab without {_TUN}, which user {os.getuid()} cannot open; as root: {remedy}")


def _start_dnsmasq(control: Control, dhcp: DhcpConfig) -> LabProcess:
    dhcp.tftp_root.mkdir(exist_ok=True)
    file = dhcp.folder / "dnsmasq.conf"
    file.write_text(dnsmasq.configuration(dhcp), "utf-8")
    with dhcp.log.open("wb") as log:
        return control.spawn(["dnsmasq", f"--conf-file={file}"], {1: log.fileno(), 2: log.fileno()})


def _await_dnsmasq(child: LabProcess, dhcp: DhcpConfig) -> None:
    def has_started() -> bool:
        return child.status is not None or dnsmasq.READY_SIGN in dhcp.log.read_bytes()

    poll(has_started, Deadline(_START_S), every_s=0.002)
    if child.status is not None or dnsmasq.READY_SIGN not in dhcp.log.read_bytes():
        raise HostError(f"dnsmasq did not start in the lab; it said:\n{_quoted(dhcp.log)}")


def _quoted(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:]) + f"\n({log})"

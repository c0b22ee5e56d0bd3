"""A lab in namespaces: a bridge, a tap for each machine, dnsmasq, and a capture of what passes the bridge.

It is one process tree in its own network, PID and mount namespace, and in a user namespace around them where the
host has those. `holder` is its process 1; when that ends, the kernel ends everything else in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from harness import process
from harness.deadline import Deadline, poll
from harness.errors import HostError
from harness.lab import capture, dnsmasq
from harness.lab.base import Lab
from harness.lab.control import Control, LabError, LabProcess
from harness.lab.dnsmasq import DhcpConfig
from harness.lab.held import START_S, NoHolder, held
from harness.lab.http import HttpServer, serving
from harness.lab.trace import Trace, followed
from harness.qemu import tap_netdev
from harness.spec import GATEWAY, PREFIX_LENGTH, MachineSpec, Network

BRIDGE = "br0"
BRIDGE_MAC = "52:54:00:77:ff:01"
"""Fixed: a machine restored from a frozen state still has it in its ARP cache."""

_TUN = Path("/dev/net/tun")
_IN_NAMESPACES = ("unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
_AS_USER = ("--user", "--map-root-user")
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


class BridgeLab(Lab):
    """Machines see each other; addresses, names and boot files are dnsmasq's."""

    network = Network.LAB

    def __init__(
        self, workdir: Path, control: Control, http: HttpServer, trace: Trace, dhcp: DhcpServer, kept: Capture
    ) -> None:
        super().__init__(workdir, control, http, trace)
        self.dhcp = dhcp
        self.captures, self._capture = kept.files, kept
        self._taps: set[str] = set()

    def netdevs(self, spec: MachineSpec) -> tuple[str, ...]:
        self.dhcp.answer_nic(spec.number, spec.dhcp_nic)
        return tuple(tap_netdev(nic, self.tap(spec.number, nic)) for nic in range(len(spec.nics)))

    def tap(self, number: int, nic: int = 0) -> str:
        name = f"tap{number}" if nic == 0 else f"tap{number}.{nic}"
        if name not in self._taps:
            _ip(self._control, _TAP.format(tap=name))
            self._taps.add(name)
        return name

    @property
    def capture_problem(self) -> str:
        return self._capture.problem

    def offer(self, file: Path) -> None:
        place = self.dhcp.config.tftp_root / file.name
        if not place.exists():
            half_made = place.with_name(f".{file.name}-{threading.get_ident()}")
            shutil.copyfile(file, half_made)
            half_made.replace(place)

    def listen(self, port: int) -> socket.socket:
        return _listen(self._control, port)


class Capture:
    """The lab's packets, kept in ``files``, the newest first, by ``child``; if that is a sentence, it says why by none.

    A lab without does all else.
    """

    def __init__(self, file: Path, log: Path, child: LabProcess | str) -> None:
        self.files = (file, file.with_name(file.name + capture.BEFORE))
        self._log, self._child = log, child

    @property
    def problem(self) -> str:
        """Why no more are kept, or none ever were, in its own words; nothing if they are."""
        if isinstance(self._child, str):
            return self._child
        return "" if self._child.status is None else _last_line(self._log)


class DhcpServer:
    """The lab's dnsmasq; what it tells whom can change while it runs."""

    def __init__(self, config: DhcpConfig, child: LabProcess) -> None:
        self.config = config
        self._child = child
        self._lock = threading.Lock()

    def answer_nic(self, number: int, nic: int | None) -> None:
        """From now on, of the network cards in that place only this one is answered, or none."""
        self.change(lambda config: replace(config, nics=config.nics | {number: nic}))

    def change(self, made: Callable[[DhcpConfig], DhcpConfig]) -> None:
        """From now on, whom it answers, and with what lease, is as ``made`` of what it was."""
        with self._lock:
            before, self.config = self.config, made(self.config)
            if dnsmasq.hosts(self.config) == dnsmasq.hosts(before):
                return
            _write_hosts(self.config)
            self._child.signal(signal.SIGHUP)  # dnsmasq(8): it reads them anew


@contextmanager
def open_bridge_lab(workdir: Path, names: dict[int, str]) -> Iterator[BridgeLab]:
    """A lab while the block lasts, its servers answering; ``names`` are host names by place.

    Raises `HostError` where the host has no namespaces, no /dev/net/tun or no dnsmasq.
    """
    dhcp, trace = DhcpConfig(folder=workdir, names=names), Trace()
    _check_host()
    with ExitStack() as stack:
        output = stack.enter_context(followed(dhcp.log, trace.note_line))
        control = _enter_namespaces(stack, workdir / "lab.log")
        _ip(control, _NETWORK)
        control.ask("advertise on the bridge", "advertise", interface=BRIDGE)
        server = _start_dnsmasq(control, dhcp, output)
        kept = _start_capture(control, workdir)
        http = stack.enter_context(serving(_listen(control, 80)))
        _await_dnsmasq(server, dhcp)
        yield BridgeLab(workdir, control, http, trace, DhcpServer(dhcp, server), kept)


def _enter_namespaces(stack: ExitStack, log: Path) -> Control:
    """Root needs no user namespace, but is better off with one: what runs in the lab is then not the host's root."""
    problems = []
    for more in (_AS_USER,) if os.geteuid() else (_AS_USER, ()):
        try:
            return stack.enter_context(held([*_IN_NAMESPACES, *more], log))
        except NoHolder as error:
            problems.append(error)
    raise HostError(
        f"no lab without namespaces; unshare said: {problems[0]}\n"
        "run as root, run the container with --privileged, or allow them to everybody:\n"
        f"sudo sysctl -w {' '.join(_settings())}"
    ) from problems[-1]


def _settings() -> Iterator[str]:
    """Those that this kernel has: the second is Debian's, the third Ubuntu's."""
    yield "user.max_user_namespaces=10000"
    for name, value in (("unprivileged_userns_clone", 1), ("apparmor_restrict_unprivileged_userns", 0)):
        if Path("/proc/sys/kernel", name).exists():
            yield f"kernel.{name}={value}"


def _ip(control: Control, batch: str) -> None:
    with control.log.open("ab") as log:
        status = control.run(["ip", "-batch", "-"], batch, log.fileno())
    if status:
        raise HostError(
            f"no lab without bridge and tap; ip said: {_last_line(control.log)}\non:\n{batch}({control.log})\n"
            "a kernel without the bridge or tun module says 'Unknown device type'\nsudo modprobe -a bridge tun"
        )


def _listen(control: Control, port: int) -> socket.socket:
    _, (fd,) = control.ask(f"listen on {GATEWAY}:{port}", "listen", address=GATEWAY, port=port)
    return socket.socket(fileno=fd)


def _check_host() -> None:
    for program, package in (
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
        ("dnsmasq", "dnsmasq-base"),
    ):
        process.require(program, package)
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))  # a container's may be there and yet be forbidden
    except OSError as error:
        remedy = "chmod 0666 /dev/net/tun" if _TUN.exists() else "modprobe tun"
        raise HostError(
            f"no lab without {_TUN}, which user {os.getuid()} cannot open ({error.strerror})\nsudo {remedy}"
        ) from error


def _start_dnsmasq(control: Control, dhcp: DhcpConfig, output: int) -> LabProcess:
    dhcp.tftp_root.mkdir(exist_ok=True)
    _write_hosts(dhcp)
    file = dhcp.folder / "dnsmasq.conf"
    file.write_text(dnsmasq.configuration(dhcp), "utf-8")
    return control.spawn(["dnsmasq", f"--conf-file={file}"], {1: output, 2: output})


def _start_capture(control: Control, workdir: Path) -> Capture:
    file, path = workdir / "capture.pcap", workdir / "capture.log"
    file.with_name(file.name + capture.BEFORE).unlink(missing_ok=True)  # of a lab that was here before
    size, count = capture.FRAME_BYTES, capture.FRAMES
    try:
        _, (fd,) = control.ask("capture packets", "packets", interface=BRIDGE, frame_bytes=size, frames=count)
    except LabError as error:
        return Capture(file, path, f"this kernel captures no packets: {error.problem}")
    with socket.socket(fileno=fd), path.open("wb") as log:
        argv = [sys.executable, "-I", "-S", capture.__file__, "3", str(file)]
        return Capture(file, path, control.spawn(argv, {1: log.fileno(), 2: log.fileno(), 3: fd}))


def _write_hosts(dhcp: DhcpConfig) -> None:
    half_made = dhcp.hosts_file.with_suffix(".new")
    half_made.write_text(dnsmasq.hosts(dhcp), "utf-8")
    half_made.replace(dhcp.hosts_file)


def _await_dnsmasq(child: LabProcess, dhcp: DhcpConfig) -> None:
    def has_started() -> bool:
        return child.status is not None or dnsmasq.READY_SIGN in dhcp.log.read_bytes()

    poll(has_started, Deadline(START_S), every_s=0.002)
    if child.status is not None or dnsmasq.READY_SIGN not in dhcp.log.read_bytes():
        raise HostError(f"no lab without dnsmasq, which did not start; it said: {_last_line(dhcp.log)}\n({dhcp.log})")


def _last_line(log: Path) -> str:
    return next(reversed(log.read_text("utf-8", "replace").splitlines()), "nothing")

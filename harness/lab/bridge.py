"""A lab in namespaces: a bridge, a tap for each network card, dnsmasq, and a capture of the bridge's packets.

It is one process tree in network, PID and mount namespaces of its own, and in a user namespace where the host has
those. `supervisor` is its process 1; when it ends, the kernel ends all other processes of the lab.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.core import process
from harness.core.errors import HostError
from harness.lab import capture, dnsmasq, packet_faults, rogue_dhcp
from harness.lab.base import Lab
from harness.lab.dhcp_server import DhcpServer, last_line, serving_dhcp
from harness.lab.dnsmasq import DhcpConfig
from harness.lab.http import HttpServer, Request, RequestRecord, serving
from harness.lab.start_supervisor import NoSupervisor, running_supervisor
from harness.lab.supervisor_client import LabError, LabProcess, SupervisorClient
from harness.lab.trace import Trace, followed_output
from harness.model.machine_spec import GATEWAY, PREFIX_LENGTH, MachineSpec, Network
from harness.model.network_faults import DhcpFault, HttpFault, NetworkFault
from harness.qemu.netdev import tap_netdev

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
    """Machines reach each other; dnsmasq gives addresses, names and boot files."""

    network = Network.LAB

    def __init__(
        self,
        workdir: Path,
        control: SupervisorClient,
        http: HttpServer,
        trace: Trace,
        dhcp: DhcpServer,
        packets: Capture,
    ) -> None:
        super().__init__(workdir, control, http, trace)
        self.dhcp = dhcp
        self.captures, self._capture = packets.files, packets
        self._taps: set[str] = set()
        self._rogue: LabProcess | None = None
        self._is_slow = False
        http.listeners.append(self._on_request)

    def netdevs(self, spec: MachineSpec) -> tuple[str, ...]:
        self.dhcp.answer(spec)
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

    @property
    def problem(self) -> str:
        return self.dhcp.problem

    def serve_by_tftp(self, file: Path) -> None:
        place = self.dhcp.config.tftp_root / file.name
        if not place.exists():
            half_made = place.with_name(f".{file.name}-{threading.get_ident()}")
            shutil.copyfile(file, half_made)
            half_made.replace(place)

    def listen(self, port: int) -> socket.socket:
        return _listen(self._control, port)

    def connect(self, address: str, port: int, timeout_s: float | None) -> socket.socket:
        what = f"connect to {address}:{port}"
        _, (fd,) = self._control.ask(what, "connect", address=address, port=port)
        sock = socket.socket(fileno=fd)
        try:
            wait_until_connected(sock, what, timeout_s)
        except OSError:
            sock.close()
            raise
        return sock

    def _apply_faults(self, faults: Sequence[NetworkFault]) -> None:
        if any(fault.needs_packets for fault in (*faults, *self.network_faults)):
            self._nft(packet_faults.rules(faults))
        self._shape(packet_faults.shaping(faults, BRIDGE))
        self.dhcp.change(lambda config: dnsmasq.with_faults(config, faults))
        self._set_rogue_server(is_there=self.dhcp.config.has_rogue)
        self.dhcp.answer_after(max((fault.silent_s for fault in faults if isinstance(fault, DhcpFault)), default=0.0))

    def _set_rogue_server(self, *, is_there: bool) -> None:
        if self._rogue and not is_there:
            self._rogue.end()
            self._rogue = None
        elif is_there and not self._rogue:
            self._rogue = rogue_dhcp.start(self._control, self.workdir / "rogue-dhcp.log", BRIDGE)

    def _on_request(self, request: Request | RequestRecord) -> None:
        """A request means that TFTP is over: lift its speed limit. A sent file means that the next may be refused."""
        if self._is_slow:
            self._shape("")
        refused = [fault for fault in self.network_faults if isinstance(fault, HttpFault) and fault.kind.is_refusal]
        name = request.path.rpartition("/")[2]
        if isinstance(request, RequestRecord) and any(fault.file.comes_after(name) for fault in refused):
            self._nft(packet_faults.rules(self.network_faults, refusing=True))

    def _shape(self, script: str) -> None:
        if self._is_slow:
            clear = packet_faults.clear_shaping(BRIDGE)
            _run(self._control, ["tc", "-batch", "-"], clear, "the lab cannot lift a speed limit")
        if script:
            problem = "the lab cannot limit the speed: the kernel needs sch_tbf"
            _run(self._control, ["tc", "-batch", "-"], script, problem)
        self._is_slow = bool(script)

    def _nft(self, script: str) -> None:
        program = process.require("nft", "nftables")
        problem = "the lab cannot lose packets: the kernel needs nf_tables"
        _run(self._control, [program, "-f", "-"], script, problem)


class Capture:
    """The lab's packets in ``files``, the newest first, written by ``child``, or the reason that none are captured.

    A lab works without a capture.
    """

    def __init__(self, file: Path, log: Path, child: LabProcess | str) -> None:
        self.files = (file, file.with_name(file.name + capture.BEFORE))
        self._log, self._child = log, child

    @property
    def problem(self) -> str:
        """Why packets are not captured, or not any more; empty if they are."""
        if isinstance(self._child, str):
            return self._child
        return "" if self._child.status is None else last_line(self._log)


@contextmanager
def open_bridge_lab(
    workdir: Path, names: dict[int, str], *, frame_bytes: int = capture.FRAME_BYTES
) -> Iterator[BridgeLab]:
    """A lab with its servers ready while the block lasts; ``names`` maps machine numbers to host names.

    ``frame_bytes`` is the size of a frame in the ring of the packet capture. Raises `HostError`, with the remedy, where
    the host has no namespaces, no /dev/net/tun or no dnsmasq.
    """
    config, trace = DhcpConfig(folder=workdir, names=names), Trace()
    _check_host()
    with ExitStack() as stack:
        output = stack.enter_context(followed_output(config.log, trace.note_line))
        control = _enter_namespaces(stack, workdir / "lab.log")
        _ip(control, _NETWORK)
        control.ask("advertise on the bridge", "advertise", interface=BRIDGE)
        dhcp = stack.enter_context(serving_dhcp(control, config, trace, output))
        packets = _start_capture(control, workdir, frame_bytes)
        http = stack.enter_context(serving(_listen(control, 80)))
        dhcp.wait_until_ready()
        yield BridgeLab(workdir, control, http, trace, dhcp, packets)


def _enter_namespaces(stack: ExitStack, log: Path) -> SupervisorClient:
    """Root needs no user namespace, but inside one the lab's programs are not the host's root."""
    problems = []
    for more in (_AS_USER,) if os.geteuid() else (_AS_USER, ()):
        try:
            return stack.enter_context(running_supervisor([*_IN_NAMESPACES, *more], log))
        except NoSupervisor as error:
            problems.append(error)
    raise HostError(
        f"no lab without namespaces: {problems[0]}\n"
        "run as root, run the container with --privileged, or allow namespaces to all users",
        remedy=f"sudo sysctl -w {' '.join(_settings())}",
    ) from problems[-1]


def _settings() -> Iterator[str]:
    """The settings that this kernel has: the second is Debian's, the third Ubuntu's."""
    yield "user.max_user_namespaces=10000"
    for name, value in (("unprivileged_userns_clone", 1), ("apparmor_restrict_unprivileged_userns", 0)):
        if Path("/proc/sys/kernel", name).exists():
            yield f"kernel.{name}={value}"


def _run(control: SupervisorClient, argv: list[str], script: str, problem: str, remedy: str = "") -> None:
    """Run a short program in the lab; if it fails, `HostError` with ``problem``, its output and the ``remedy``."""
    with control.log.open("ab") as log:
        status = control.run(argv, script, log.fileno())
    if status:
        output = f"{argv[0]}: {last_line(control.log)}\nits input, see {control.log} for all output:\n{script}".rstrip()
        raise HostError(f"{problem}: {output}", remedy=remedy)


def _ip(control: SupervisorClient, batch: str) -> None:
    _run(control, ["ip", "-batch", "-"], batch, "no lab without bridge and tap devices", "sudo modprobe -a bridge tun")


def _listen(control: SupervisorClient, port: int) -> socket.socket:
    _, (fd,) = control.ask(f"listen on {GATEWAY}:{port}", "listen", address=GATEWAY, port=port)
    return socket.socket(fileno=fd)


def wait_until_connected(sock: socket.socket, what: str, timeout_s: float | None) -> None:
    """Wait until ``sock``, which is connecting, is connected, and give it that timeout; `OSError` if it is not."""
    poll = select.poll()  # select(2) takes no descriptor above 1023
    poll.register(sock, select.POLLOUT)
    if not poll.poll(None if timeout_s is None else 1000 * timeout_s):
        raise TimeoutError(f"{what}: no answer within {timeout_s} s")
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, f"{what}: {os.strerror(number)}")
    sock.settimeout(timeout_s)


def _check_host() -> None:
    for program, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("dnsmasq", "dnsmasq-base")):
        process.require(program, package)
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))  # a container's may be there and yet be forbidden
    except OSError as error:
        remedy = "chmod 0666 /dev/net/tun" if _TUN.exists() else "modprobe tun"
        raise HostError(
            f"no lab without {_TUN}, which user {os.getuid()} cannot open ({error.strerror})", remedy=f"sudo {remedy}"
        ) from error


def _start_capture(control: SupervisorClient, workdir: Path, frame_bytes: int) -> Capture:
    file, path = workdir / "capture.pcap", workdir / "capture.log"
    file.with_name(file.name + capture.BEFORE).unlink(missing_ok=True)  # of a lab that was here before
    count = capture.FRAMES
    try:
        _, (fd,) = control.ask("capture packets", "packets", interface=BRIDGE, frame_bytes=frame_bytes, frames=count)
    except LabError as error:
        return Capture(file, path, f"this kernel captures no packets: {error.problem}")
    with socket.socket(fileno=fd), path.open("wb") as log:
        argv = [sys.executable, "-I", "-S", capture.__file__, "3", str(file)]
        return Capture(file, path, control.spawn(argv, {1: log.fileno(), 2: log.fileno(), 3: fd}))

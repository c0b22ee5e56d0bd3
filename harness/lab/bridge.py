"""A lab in namespaces: a bridge, a tap for each machine, dnsmasq, and a capture of what passes the bridge.

It is one process tree in its own network, PID and mount namespace, and in a user namespace around them where the
host has those. `holder` is its process 1; when that ends, the kernel ends everything else in it.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.lab import capture, dnsmasq, packet_faults, rogue_dhcp
from harness.lab.base import Lab
from harness.lab.dnsmasq import DhcpConfig
from harness.lab.http import HttpServer, Request, RequestRecord, serving
from harness.lab.start_supervisor import START_S, NoSupervisor, held
from harness.lab.supervisor_client import LabError, LabProcess, SupervisorClient
from harness.lab.trace import Trace, TraceEvent, followed
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
    """Machines see each other; addresses, names and boot files are dnsmasq's."""

    network = Network.LAB

    def __init__(
        self, workdir: Path, control: SupervisorClient, http: HttpServer, trace: Trace, dhcp: DhcpServer, kept: Capture
    ) -> None:
        super().__init__(workdir, control, http, trace)
        self.dhcp = dhcp
        self.captures, self._capture = kept.files, kept
        self._taps: set[str] = set()
        self._rival: LabProcess | None = None
        self._is_slow = False
        http.listeners.append(self._after)

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

    def offer(self, file: Path) -> None:
        place = self.dhcp.config.tftp_root / file.name
        if not place.exists():
            half_made = place.with_name(f".{file.name}-{threading.get_ident()}")
            shutil.copyfile(file, half_made)
            half_made.replace(place)

    def listen(self, port: int) -> socket.socket:
        return _listen(self._control, port)

    def _disturb(self, faults: Sequence[NetworkFault]) -> None:
        if any(fault.needs_packets for fault in (*faults, *self.network_faults)):
            self._nft(packet_faults.rules(faults))
        self._shape(packet_faults.shaping(faults, BRIDGE))
        self.dhcp.change(lambda config: dnsmasq.with_faults(config, faults))
        self._set_rival(is_there=self.dhcp.config.has_rogue)
        self.dhcp.speak_after(max((w.silent_s for w in faults if isinstance(w, DhcpFault)), default=0.0))

    def _set_rival(self, *, is_there: bool) -> None:
        if self._rival and not is_there:
            self._rival.end()
            self._rival = None
        elif is_there and not self._rival:
            self._rival = rogue_dhcp.start(self._control, self.workdir / "rival.log", BRIDGE)

    def _after(self, request: Request | RequestRecord) -> None:
        """When iPXE asks the web server, TFTP has done its part; when a file has been sent, the next may be refused."""
        if self._is_slow:
            self._shape("")
        refused = [fault for fault in self.network_faults if isinstance(fault, HttpFault) and fault.kind.is_refusal]
        name = request.path.rpartition("/")[2]
        if isinstance(request, RequestRecord) and any(fault.file.comes_after(name) for fault in refused):
            self._nft(packet_faults.rules(self.network_faults, refusing=True))

    def _shape(self, script: str) -> None:
        if self._is_slow:
            _run(
                self._control,
                ["tc", "-batch", "-"],
                packet_faults.unshaped(BRIDGE),
                "the lab cannot lift a speed limit",
            )
        if script:
            problem = "the lab cannot limit the speed, for which the kernel needs sch_tbf"
            _run(self._control, ["tc", "-batch", "-"], script, problem)
        self._is_slow = bool(script)

    def _nft(self, script: str) -> None:
        program = process.require("nft", "nftables")
        problem = "the lab cannot lose packets, for which the kernel needs nf_tables"
        _run(self._control, [program, "-f", "-"], script, problem)


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

    def __init__(self, control: SupervisorClient, config: DhcpConfig, trace: Trace, output: int) -> None:
        """What it says goes to the descriptor ``output``, by way of which ``trace`` learns of it."""
        self.config = config
        self._control, self._trace, self._output = control, trace, output
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads = list[threading.Thread]()
        self._child = self._started()
        trace.listeners.append(self._chained)

    def answer(self, spec: MachineSpec) -> None:
        """From now on, of the network cards of this machine that is switched on the one with DHCP is answered, or none;
        as a plain PXE ROM, if it has that, until it has fetched iPXE."""
        place = {spec.number}
        self.change(
            lambda config: replace(
                config,
                nics=config.nics | {spec.number: spec.dhcp_nic},
                plain=config.plain | place if spec.has_plain_rom else config.plain - place,
            )
        )

    def _chained(self, step: TraceEvent) -> None:
        """In the thread that reads what the server says, which must go on reading."""
        if step.protocol == "tftp" and step.kind == "sent" and step.number in self.config.plain:
            self._start(lambda: self.change(lambda config: replace(config, plain=config.plain - {step.number})))

    def change(self, made: Callable[[DhcpConfig], DhcpConfig]) -> None:
        """From now on, what it says is as ``made`` of what it was.

        It is started anew, and ready when this returns. dnsmasq 2.90 would read its hosts again at a SIGHUP, but dies
        of SIGSEGV while one of them has a lease.
        """
        with self._lock:
            before, self.config = self.config, made(self.config)
            if (dnsmasq.configuration(self.config), dnsmasq.hosts(self.config)) != (
                dnsmasq.configuration(before), dnsmasq.hosts(before)
            ):  # fmt: skip
                self._child.end()
                self._child = self._started()
                self.wait_until_ready()

    def speak_after(self, silent_s: float) -> None:
        """A silent server answers ``silent_s`` after it was first asked for an address."""
        if 0 < silent_s < math.inf:
            self._start(lambda: self._wait_silently(silent_s))

    def _start(self, task: Callable[[], None]) -> None:
        def work() -> None:
            with suppress(LabError):  # the lab ends
                task()

        thread = threading.Thread(target=work, name="lab dhcp", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait_silently(self, silent_s: float) -> None:
        since_s = time.monotonic()

        def asks(event: TraceEvent) -> bool:
            return event.kind == "discover" and event.time_s > since_s

        while not (self._is_over.is_set() or self._trace.wait_for(asks, Deadline(0.5, scaled=False))):
            pass
        if not self._is_over.wait(silent_s):
            self.change(lambda config: replace(config, is_silent=False))

    def close(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _started(self) -> LabProcess:
        self.config.tftp_root.mkdir(exist_ok=True)
        _write_hosts(self.config)
        file = self.config.folder / "dnsmasq.conf"
        file.write_text(dnsmasq.configuration(self.config), "utf-8")
        self._begins = self.config.log.stat().st_size
        return self._control.spawn(["dnsmasq", f"--conf-file={file}"], {1: self._output, 2: self._output})

    def wait_until_ready(self) -> None:
        """`HostError`, with what it said, if it does not start."""

        def said() -> bytes:
            return self.config.log.read_bytes()[self._begins :]

        poll(lambda: self._child.status is not None or dnsmasq.READY_SIGN in said(), Deadline(START_S), every_s=0.002)
        if self._child.status is not None or dnsmasq.READY_SIGN not in said():
            log = self.config.log
            raise HostError(f"no lab without dnsmasq, which did not start; it said: {_last_line(log)}\n({log})")


@contextmanager
def open_bridge_lab(workdir: Path, names: dict[int, str]) -> Iterator[BridgeLab]:
    """A lab while the block lasts, its servers answering; ``names`` are host names by place.

    Raises `HostError` where the host has no namespaces, no /dev/net/tun or no dnsmasq.
    """
    config, trace = DhcpConfig(folder=workdir, names=names), Trace()
    _check_host()
    with ExitStack() as stack:
        output = stack.enter_context(followed(config.log, trace.note_line))
        control = _enter_namespaces(stack, workdir / "lab.log")
        _ip(control, _NETWORK)
        control.ask("advertise on the bridge", "advertise", interface=BRIDGE)
        dhcp = DhcpServer(control, config, trace, output)
        stack.callback(dhcp.close)
        kept = _start_capture(control, workdir)
        http = stack.enter_context(serving(_listen(control, 80)))
        dhcp.wait_until_ready()
        yield BridgeLab(workdir, control, http, trace, dhcp, kept)


def _enter_namespaces(stack: ExitStack, log: Path) -> SupervisorClient:
    """Root needs no user namespace, but is better off with one: what runs in the lab is then not the host's root."""
    problems = []
    for more in (_AS_USER,) if os.geteuid() else (_AS_USER, ()):
        try:
            return stack.enter_context(held([*_IN_NAMESPACES, *more], log))
        except NoSupervisor as error:
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


def _run(control: SupervisorClient, argv: list[str], script: str, problem: str, remedy: str = "") -> None:
    """A short program in the lab; `HostError` with ``problem``, its words and the ``remedy`` if it fails."""
    with control.log.open("ab") as log:
        status = control.run(argv, script, log.fileno())
    if status:
        said = f"{argv[0]} said: {_last_line(control.log)}\non:\n{script}({control.log})"
        raise HostError(f"{problem}; {said}\n{remedy}".rstrip())


def _ip(control: SupervisorClient, batch: str) -> None:
    remedy = "a kernel without the bridge or tun module says 'Unknown device type'\nsudo modprobe -a bridge tun"
    _run(control, ["ip", "-batch", "-"], batch, "no lab without bridge and tap", remedy)


def _listen(control: SupervisorClient, port: int) -> socket.socket:
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


def _start_capture(control: SupervisorClient, workdir: Path) -> Capture:
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


def _last_line(log: Path) -> str:
    return next(reversed(log.read_text("utf-8", "replace").splitlines()), "nothing")

"""The interface of every kind of lab, for machines and tests."""

from __future__ import annotations

import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness.core.errors import HostError
from harness.lab.http import HttpServer
from harness.lab.http_faults import apply_faults
from harness.lab.supervisor_client import LabProcess, SupervisorClient
from harness.lab.trace import Trace
from harness.model.machine_spec import MachineSpec, Network
from harness.model.network_faults import NetworkFault

_log = logging.getLogger(__name__)


class Lab(ABC):
    """An open lab. Its files are in ``workdir``; ``http`` serves ``http://10.77.0.1/``.

    ``trace`` has the requests of machines to the lab's servers; ``captures`` are files of packets, the newest first.
    """

    network: Network
    captures: tuple[Path, ...] = ()

    def __init__(self, workdir: Path, control: SupervisorClient, http: HttpServer, trace: Trace) -> None:
        self.workdir, self.http, self.trace = workdir, http, trace
        self.network_faults: tuple[NetworkFault, ...] = ()
        self._control = control
        http.listeners.append(trace.note_request)

    @property
    def has_only_transient_faults(self) -> bool:
        """Whether there are faults, and all of them end by themselves or allow a second attempt."""
        return bool(self.network_faults) and all(fault.is_transient for fault in self.network_faults)

    def inject(self, *faults: NetworkFault) -> None:
        """Give the network these faults from now on, in place of those before.

        Raises `HostError` for a fault that this kind of lab, or this host's kernel, cannot make.
        """
        _log.debug("network faults: %s", ", ".join(fault.name for fault in faults) or "none")
        self._apply_faults(faults)
        noise = self.workdir / "noise"
        noise.mkdir(exist_ok=True)
        self.http.filter_answers(partial(apply_faults, faults, noise))
        self.network_faults = faults

    @abstractmethod
    def _apply_faults(self, faults: Sequence[NetworkFault]) -> None:
        """Make the faults that are not the web server's or of a machine's own link."""

    @abstractmethod
    def netdevs(self, spec: MachineSpec) -> tuple[str, ...]:
        """QEMU's ``-netdev`` for each network card of this machine; their other ends exist when this returns."""

    def ssh_options(self, spec: MachineSpec, ask: Callable[[str], str]) -> dict[str, str]:  # noqa: ARG002  # kinds of labs that need something use them
        """Options for ssh(1) in this lab besides the machine's address; ``ask`` queries its QEMU monitor."""
        return {}

    @property
    def capture_problem(self) -> str:
        """Why packets are not captured; empty if they are, or if this kind of lab captures none."""
        return ""

    @property
    def problem(self) -> str:
        """Which server of the lab has ended by itself, and how, so that a machine's failure may not be its image's;
        empty if all run."""
        return ""

    def serve_by_tftp(self, file: Path) -> None:
        """Serve ``file`` by its name over TFTP."""
        raise lacks(self.network, f"{file.name} by TFTP")

    def tap(self, number: int, nic: int = 0) -> str:
        """The name of the tap of that machine's network card, attached to the bridge; made on the first call."""
        raise lacks(self.network, f"tap {number}, {nic}")

    def listen(self, port: int) -> socket.socket:
        """A TCP socket that listens inside the lab, at 10.77.0.1, and is served by the caller."""
        raise lacks(self.network, f"a server on port {port}")

    def connect(self, address: str, port: int, timeout_s: float | None) -> socket.socket:  # noqa: ARG002  # as above
        """A TCP connection from 10.77.0.1 to a machine of the lab, used outside of it; `OSError` if there is none."""
        raise lacks(self.network, f"a connection to {address}, port {port}")

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
        """Start ``argv`` in the lab; it is killed when the lab ends.

        ``pass_fds`` keep their numbers, so that ``argv`` can name them; the caller closes its own copies.
        Standard streams that are None are /dev/null. ``on_exit`` is called once, with the exit status (-N after
        signal N), from the thread that reads the supervisor's answers: it must not call the lab.
        """
        given = {0: stdin, 1: stdout, 2: stderr}
        files = {number: fd for number, fd in given.items() if fd is not None}
        return self._control.spawn(self._contained(argv), files | {fd: fd for fd in pass_fds}, on_exit)

    def _contained(self, argv: Sequence[str]) -> Sequence[str]:
        """``argv`` with a prefix that ends it with the lab, where no PID namespace does."""
        return argv


def lacks(network: Network, feature: str) -> HostError:
    """The error for a ``feature`` that this kind of lab does not have."""
    return HostError(
        f"not on the {network} network: {feature}", remedy="--network lab has it, on hosts that can open a lab"
    )

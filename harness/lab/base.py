"""What every kind of lab offers to machines and tests."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness.core.errors import HostError
from harness.lab.http import HttpServer
from harness.lab.http_faults import altered
from harness.lab.supervisor_client import LabProcess, SupervisorClient
from harness.lab.trace import Trace
from harness.model.machine_spec import MachineSpec, Network
from harness.model.network_faults import NetworkFault


class Lab(ABC):
    """An open lab; everything it keeps on disk is in ``workdir``, ``http`` serves ``http://10.77.0.1/``.

    ``trace`` has what machines asked of its servers, ``captures`` are files of packets, the newest first.
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
        """There are faults, and all of them end by themselves or let a second attempt through."""
        return bool(self.network_faults) and all(fault.is_transient for fault in self.network_faults)

    def inject(self, *faults: NetworkFault) -> None:
        """From now on its network behaves so, and no more as before.

        Raises `HostError` for what this kind of lab, or this host's kernel, has no means for.
        """
        self._disturb(faults)
        noise = self.workdir / "noise"
        noise.mkdir(exist_ok=True)
        self.http.inject(partial(altered, faults, noise))
        self.network_faults = faults

    @abstractmethod
    def _disturb(self, faults: Sequence[NetworkFault]) -> None:
        """All of it that is not the web server's, or of a machine's own link."""

    @abstractmethod
    def netdevs(self, spec: MachineSpec) -> tuple[str, ...]:
        """QEMU's ``-netdev`` for each network card of this machine; what they lead to is there when this returns."""

    def ssh_options(self, spec: MachineSpec, ask: Callable[[str], str]) -> dict[str, str]:  # noqa: ARG002  # kinds of labs that need something use them
        """What ssh(1), run in this lab, needs besides the machine's address; ``ask`` is its QEMU's monitor."""
        return {}

    @property
    def capture_problem(self) -> str:
        """Why packets that should be captured are not, if so; a kind of lab that captures none has no problem."""
        return ""

    def offer(self, file: Path) -> None:
        """From now on, TFTP hands out ``file`` by its name."""
        raise self._lacks(f"{file.name} by TFTP")

    def tap(self, number: int, nic: int = 0) -> str:
        """The name of a tap of that place, attached to the bridge; made when first asked for."""
        raise self._lacks(f"tap {number}, {nic}")

    def listen(self, port: int) -> socket.socket:
        """A TCP socket that listens inside the lab, at 10.77.0.1, and is served from here."""
        raise self._lacks(f"a server on port {port}")

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
        return self._control.spawn(self._contained(argv), files | {fd: fd for fd in pass_fds}, on_exit)

    def _contained(self, argv: Sequence[str]) -> Sequence[str]:
        """``argv`` so that it ends with the lab, where no namespace sees to that."""
        return argv

    def _lacks(self, what: str) -> HostError:
        return HostError(
            f"not on the {self.network} network: {what}; --network lab has it, where the host can open one"
        )

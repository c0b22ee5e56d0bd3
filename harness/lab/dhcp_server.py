"""The lab's DHCP, TFTP and DNS server: a dnsmasq that is restarted when its configuration changes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.lab import dnsmasq
from harness.lab.dnsmasq import DhcpConfig
from harness.lab.start_supervisor import START_S
from harness.lab.supervisor_client import LabError, LabProcess, SupervisorClient
from harness.lab.trace import Trace, TraceEvent
from harness.model.machine_spec import MachineSpec


class DhcpServer:
    """The running server. ``config`` is what it answers; it can change at any time. Made by `serving_dhcp`."""

    def __init__(
        self, config: DhcpConfig, trace: Trace, start: Callable[[DhcpConfig], LabProcess], child: LabProcess
    ) -> None:
        self.config = config
        self._trace, self._start, self._child = trace, start, child
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._log_start = 0

    @property
    def problem(self) -> str:
        """How the server ended, if it was not stopped for a new configuration; else empty."""
        child = self._child
        if child.status is None or self._lock.locked():
            return ""
        return f"the lab's dnsmasq ended with status {child.status}: {last_line(self.config.log)}"

    def answer(self, spec: MachineSpec) -> None:
        """From now on answer the machine's network card that has DHCP, or none of its cards.

        A card with a plain PXE ROM is answered as such until it has fetched iPXE.
        """
        number = {spec.number}
        self.change(
            lambda config: replace(
                config,
                nics=config.nics | {spec.number: spec.dhcp_nic},
                plain=config.plain | number if spec.has_plain_rom else config.plain - number,
            )
        )

    def change(self, make: Callable[[DhcpConfig], DhcpConfig]) -> None:
        """Replace the configuration by what ``make`` makes of it; in effect when this returns.

        The server is restarted. dnsmasq 2.90 would read its hosts again at a SIGHUP, but dies of SIGSEGV while one of
        them has a lease.
        """
        with self._lock:
            before, self.config = self.config, make(self.config)
            if (dnsmasq.configuration(self.config), dnsmasq.hosts(self.config)) != (
                dnsmasq.configuration(before), dnsmasq.hosts(before)
            ):  # fmt: skip
                self._child.end()
                self._log_start = self.config.log.stat().st_size
                self._child = self._start(self.config)
                self.wait_until_ready()

    def answer_after(self, silent_s: float) -> None:
        """End the silence of a silent server ``silent_s`` after the first request for an address; never if infinite."""
        if 0 < silent_s < math.inf:
            self._run_in_thread(lambda: self._end_silence(silent_s))

    def on_event(self, event: TraceEvent) -> None:
        """Called in the thread that reads the server's log, which must not block."""
        if event.protocol == "tftp" and event.kind == "sent" and event.number in self.config.plain:
            number = {event.number}
            self._run_in_thread(lambda: self.change(lambda config: replace(config, plain=config.plain - number)))

    def wait_until_ready(self) -> None:
        """Wait until the server answers; `HostError` with its last line if it does not start."""

        def is_ready() -> bool:
            return dnsmasq.READY_MESSAGE in self.config.log.read_bytes()[self._log_start :]

        poll(lambda: self._child.status is not None or is_ready(), Deadline(START_S), every_s=0.002)
        if self._child.status is not None or not is_ready():
            log = self.config.log
            raise HostError(f"no lab without dnsmasq, which did not start: {last_line(log)}\n(its log: {log})")

    def close(self) -> None:
        """End the threads; the process ends with the lab."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run_in_thread(self, task: Callable[[], None]) -> None:
        def work() -> None:
            with suppress(LabError):  # the lab ends
                task()

        thread = threading.Thread(target=work, name="lab dhcp", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end_silence(self, silent_s: float) -> None:
        since_s = time.monotonic()

        def is_request(event: TraceEvent) -> bool:
            return event.kind == "discover" and event.time_s > since_s

        while not (self._is_over.is_set() or self._trace.wait_for(is_request, Deadline(0.5, scaled=False))):
            pass
        if not self._is_over.wait(silent_s):
            self.change(lambda config: replace(config, is_silent=False))


@contextmanager
def serving_dhcp(control: SupervisorClient, config: DhcpConfig, trace: Trace, output: int) -> Iterator[DhcpServer]:
    """A server while the block lasts, perhaps not ready yet: see `DhcpServer.wait_until_ready`.

    dnsmasq logs to the descriptor ``output``, from which ``trace`` gets its events.
    """

    def start(config: DhcpConfig) -> LabProcess:
        config.tftp_root.mkdir(exist_ok=True)
        half_made = config.hosts_file.with_suffix(".new")
        half_made.write_text(dnsmasq.hosts(config), "utf-8")
        half_made.replace(config.hosts_file)
        file = config.folder / "dnsmasq.conf"
        file.write_text(dnsmasq.configuration(config), "utf-8")
        return control.spawn(["dnsmasq", f"--conf-file={file}"], {1: output, 2: output})

    server = DhcpServer(config, trace, start, start(config))
    trace.listeners.append(server.on_event)
    try:
        yield server
    finally:
        server.close()


def last_line(log: Path) -> str:
    return next(reversed(log.read_text("utf-8", "replace").splitlines()), "no output")

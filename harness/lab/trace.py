"""Requests of machines to a lab's servers and their results: DHCP, TFTP and HTTP, a readable line for each step."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.deadline import Changes, Deadline
from harness.lab.http import Request, RequestRecord
from harness.model.machine_spec import nic_of, place_of

_log = logging.getLogger(__name__)

_DHCP = re.compile(
    r"^dnsmasq-dhcp\S*: (?:\d+ )?DHCP(?P<verb>[A-Z]+)\([^)]*\) (?:(?P<address>\d+(?:\.\d+){3}) )?"
    r"(?P<client>[0-9a-f]{2}(?::[0-9a-f]{2}){5})(?: (?P<rest>.*))?$"
)
_TFTP = (
    ("sent", re.compile(r"^dnsmasq-tftp\S*: sent (?P<file>.+) to (?P<client>\S+)$")),
    ("failed", re.compile(r"^dnsmasq-tftp\S*: (?P<problem>failed) sending (?P<file>.+) to (?P<client>\S+)$")),
    ("missing", re.compile(r"^dnsmasq-tftp\S*: file (?P<file>.+) (?P<problem>not found) for (?P<client>\S+)$")),
    ("error", re.compile(r"^dnsmasq-tftp\S*: (?P<problem>error \d+ .*) received from (?P<client>\S+)$")),
)
"""Messages of dnsmasq 2.90. An "error" followed by "failed" can be UEFI that only asked for a file's size."""
_NAMED = re.compile(r"[0-9a-f]{64}")
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """One step of a request, seen at ``time_s`` (monotonic), by machine ``number``; None if not of the lab.

    ``kind`` is for "dhcp" the message (discover, offer, request, ack, nak, …), for "tftp" sent, failed, missing or
    error, for "http" begun or ended. ``what`` is the address, file or path. ``problem`` is the server's error, such as
    "no address available" or "404", or empty. ``card`` is the index of the network card for DHCP. ``text`` is all of it
    for people.
    """

    time_s: float
    number: int | None
    protocol: str
    kind: str
    what: str
    problem: str = ""
    card: int = 0
    text: str


def read_line(line: str, time_s: float) -> TraceEvent | None:
    """The event in a line of dnsmasq's log; None if there is none: pure."""
    if match := _DHCP.match(line):
        return _dhcp(match, time_s)
    for kind, pattern in _TFTP:
        if match := pattern.match(line):
            return _tftp(kind, match, time_s)
    return None


def _dhcp(match: re.Match[str], time_s: float) -> TraceEvent:
    """The rest of a line after the client is the name it was given, or the reason that it gets nothing."""
    verb, client, address = match["verb"], match["client"], match["address"] or ""
    problem = "" if verb == "ACK" else match["rest"] or ""
    card = nic_of(client)
    text = " ".join(["DHCP", verb, *filter(None, [address]), *([f"of network card {card}"] if card else [])])
    return TraceEvent(
        time_s=time_s, number=place_of(client), protocol="dhcp", kind=verb.lower(), what=address, problem=problem,
        card=card, text=f"{text}: {problem}" if problem else text,
    )  # fmt: skip


def _tftp(kind: str, match: re.Match[str], time_s: float) -> TraceEvent:
    groups = match.groupdict("")
    name, problem = groups.get("file", "").rpartition("/")[2], groups.get("problem", "")
    return TraceEvent(
        time_s=time_s, number=place_of(match["client"]), protocol="tftp", kind=kind, what=name, problem=problem,
        text=" ".join(filter(None, ["TFTP", name, problem or kind])),
    )  # fmt: skip


def read_request(request: Request | RequestRecord, time_s: float) -> TraceEvent:
    """The event of a request that begins, or of its record when it ends: pure."""
    text = f"{request.method} {_NAMED.sub(lambda digest: digest[0][:_SHORT], request.path)}"
    kind, problem = "begun", ""
    if isinstance(request, RequestRecord):
        kind, problem = "ended", str(request.status) if request.status >= 400 else ""
        text += f" {request.status} {_size(request.bytes_sent)} in {request.elapsed_s:.1f} s"
    return TraceEvent(
        time_s=time_s, number=place_of(request.client), protocol="http", kind=kind, what=request.path, problem=problem,
        text=text if kind == "ended" else f"{text} …",
    )  # fmt: skip


def _size(size_bytes: int) -> str:
    for unit, one in (("MB", 1_000_000), ("kB", 1_000)):
        if size_bytes >= one:
            return f"{size_bytes / one:.1f} {unit}"
    return f"{size_bytes} B"


def format_trace(events: list[TraceEvent], since_s: float) -> list[str]:
    """A line for each event, in seconds since ``since_s``; a request that ended has one line, of its end: pure."""
    ends = [event.what for event in events if event.kind == "ended"]
    lines = list[str]()
    for event in reversed(events):
        if event.kind == "begun" and event.what in ends:
            ends.remove(event.what)
        else:
            lines.append(_line(event, since_s))
    return lines[::-1]


def _line(event: TraceEvent, since_s: float) -> str:
    return f"[{event.time_s - since_s:8.2f}] {event.text}"


class Trace:
    """The events so far. ``listeners`` are called with each new one in a server's thread: they must be quick."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[TraceEvent], None]] = []
        self._events: list[TraceEvent] = []
        self._changes = Changes()

    def events(self, number: int, since_s: float = 0.0) -> list[TraceEvent]:
        """The events of that machine since ``since_s`` (monotonic), such as its power-on."""
        return [event for event in list(self._events) if event.number == number and event.time_s >= since_s]

    def wait_for(self, matches: Callable[[TraceEvent], bool], deadline: Deadline) -> TraceEvent | None:
        """The first event that ``matches``, past or future; None if there is none by the deadline."""
        return self._changes.wait_for(lambda: next(filter(matches, list(self._events)), None), deadline)

    def note(self, event: TraceEvent | None) -> None:
        """Add an event; called in the servers' threads."""
        if event is None:
            return
        self._events.append(event)
        _log.debug("machine %s: %s", event.number, event.text)
        for listener in list(self.listeners):
            listener(event)
        self._changes.note()

    def note_line(self, line: str) -> None:
        self.note(read_line(line, time.monotonic()))

    def note_request(self, request: Request | RequestRecord) -> None:
        self.note(read_request(request, time.monotonic()))

    @contextmanager
    def logged(self, number: int, log: Path, since_s: float) -> Iterator[None]:
        """Append the events of that machine to ``log`` while the block lasts, in seconds since ``since_s``.

        If ``log`` cannot be written, the log is lost, not the machine.
        """
        with log.open("a", encoding="utf-8", buffering=1) as file:

            def keep(event: TraceEvent) -> None:
                if event.number == number:
                    with suppress(OSError, ValueError):  # ValueError: closed meanwhile
                        file.write(f"{_line(event, since_s)}\n")

            self.listeners.append(keep)
            try:
                yield
            finally:
                self.listeners.remove(keep)


@contextmanager
def followed_output(log: Path, take: Callable[[str], None]) -> Iterator[int]:
    """A descriptor for output, which is written to ``log`` and passed to ``take`` by lines while the block lasts."""
    ours, theirs = socket.socketpair()
    with ours, theirs, log.open("wb", buffering=0) as file:

        def read() -> None:
            rest = b""
            while chunk := ours.recv(65536):
                with suppress(OSError):  # a full disk
                    file.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    take(line.decode("utf-8", "replace").rstrip())

        thread = threading.Thread(target=read, name=f"log {log}", daemon=True)
        thread.start()
        try:
            yield theirs.fileno()
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            thread.join()

"""The lab: where machines live, isolated, with DHCP, a boot file and a web server at 10.77.0.1.

It comes in two kinds with one interface. `bridge` is the whole of it: a network in namespaces, any number of
machines, DHCP, TFTP and DNS. `user` is what any host has: QEMU's own network, each machine alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core.errors import HostError, UsageError
from harness.lab.base import Lab
from harness.lab.bridge import open_bridge_lab
from harness.lab.http import HttpAnswer, HttpServer, Request, RequestRecord
from harness.lab.supervisor_client import LabError, LabProcess
from harness.lab.trace import TraceEvent
from harness.lab.user import UNPROVEN, check_fault, open_user_lab
from harness.model.machine_spec import Network
from harness.model.network_faults import NetworkFault

__all__ = [
    "UNPROVEN",
    "HttpAnswer",
    "HttpServer",
    "Lab",
    "LabError",
    "LabProcess",
    "NetworkChoice",
    "OpenLab",
    "Request",
    "RequestRecord",
    "TraceEvent",
    "check_fault",
    "choose",
    "open_lab",
    "unavailable",
]

OpenLab = Callable[[Path], AbstractContextManager[Lab]]
"""Opens a lab whose logs go to the given folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """What machines are connected by, and why in a sentence."""

    network: Network
    reason: str


def choose(wanted: str) -> NetworkChoice:
    """The network for ``wanted``: ``auto`` is the lab where the host can open one, else the user network.

    Raises `HostError`, with the remedy, for ``lab`` where the host cannot.
    """
    if wanted not in ("auto", *Network):
        raise UsageError(f"no network {wanted!r}; known: auto, lab, user")
    if wanted == Network.USER:
        return NetworkChoice(network=Network.USER, reason="user was asked for")
    problem = unavailable()
    if problem is None:
        return NetworkChoice(network=Network.LAB, reason="this host opens one")
    if wanted == Network.LAB:
        raise HostError(f"{problem}\nor --network auto or user, which does without and proves less")
    return NetworkChoice(network=Network.USER, reason=problem.partition("\n")[0])


@cache
def unavailable() -> str | None:
    """Why this host opens no lab, and in the last line how to mend it; None if it does: tried, once a process."""
    try:
        with tempfile.TemporaryDirectory(prefix="bootproof-") as folder, open_bridge_lab(Path(folder), {}) as lab:
            lab.tap(0)
    except HostError as error:
        return str(error)
    return None


@contextmanager
def open_lab(
    workdir: Path,
    network: str = "auto",
    *,
    names: dict[int, str] | None = None,
    network_faults: Sequence[NetworkFault] = (),
) -> Iterator[Lab]:
    """A lab while the block lasts, with these ``network_faults``; ``names`` are host names by place.

    Its logs go to ``workdir``, made if it is missing. ``network`` is as in `choose`.
    Raises `HostError` where the host cannot open what is asked for.
    """
    is_user = network == Network.USER or (network != Network.LAB and choose(network).network is Network.USER)
    workdir.mkdir(parents=True, exist_ok=True)
    with (open_user_lab if is_user else open_bridge_lab)(workdir, names or {}) as lab:
        if network_faults:
            lab.inject(*network_faults)
        yield lab

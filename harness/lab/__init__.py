"""The lab: an isolated virtual network for machines, with DHCP, TFTP, DNS and HTTP servers at 10.77.0.1.

Two kinds have one interface, `Lab`. `bridge` is a network in namespaces, for any number of machines. `user` is QEMU's
own network, for hosts without namespaces: each machine is alone, and there is only the web server.

To add a network fault: a value in ``model/network_faults.py``, its effect in the module of the server or layer that it
is about (`http_faults`, `dnsmasq`, `packet_faults`; a machine's link: ``machine/link_faults.py``), and a test.
"""

from __future__ import annotations

import logging
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
    "UNPROVEN", "HttpAnswer", "HttpServer", "Lab", "LabError", "LabProcess", "NetworkChoice", "OpenLab", "Request",
    "RequestRecord", "TraceEvent", "check_fault", "choose_network", "open_lab", "why_no_lab",
]  # fmt: skip

_log = logging.getLogger(__name__)

OpenLab = Callable[[Path], AbstractContextManager[Lab]]
"""Opens a lab whose logs are written to the given folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """How machines are connected, and the reason in a sentence."""

    network: Network
    reason: str


def choose_network(wanted: str) -> NetworkChoice:
    """The network for ``wanted``: ``auto`` is the lab where the host can open one, else the user network.

    Raises `HostError`, with the remedy, for ``lab`` where the host cannot.
    """
    if wanted not in ("auto", *Network):
        raise UsageError(f"no network {wanted!r}", remedy="known: auto, lab, user")
    if wanted == Network.USER:
        return NetworkChoice(network=Network.USER, reason="user was asked for")
    error = why_no_lab()
    if error is None:
        return NetworkChoice(network=Network.LAB, reason="this host can open a lab")
    if wanted == Network.LAB:
        remedy = f"{error.remedy}, or use" if error.remedy else "use"
        raise HostError(error.problem, remedy=f"{remedy} --network auto or user, which proves less")
    return NetworkChoice(network=Network.USER, reason=str(error).partition("\n")[0])


@cache
def why_no_lab() -> HostError | None:
    """The error, with its remedy, if this host cannot open a lab; found by opening one, once per process."""
    try:
        with tempfile.TemporaryDirectory(prefix="bootproof-") as folder, open_bridge_lab(Path(folder), {}) as lab:
            lab.tap(0)
    except HostError as error:
        return error
    return None


@contextmanager
def open_lab(
    workdir: Path,
    network: str = "auto",
    *,
    names: dict[int, str] | None = None,
    network_faults: Sequence[NetworkFault] = (),
) -> Iterator[Lab]:
    """A lab with these ``network_faults`` while the block lasts; ``names`` maps machine numbers to host names.

    Its logs are written to ``workdir``, made if it is missing. ``network`` is as in `choose_network`.
    Raises `HostError` if the host cannot open that network.
    """
    is_user = network == Network.USER or (network != Network.LAB and choose_network(network).network is Network.USER)
    workdir.mkdir(parents=True, exist_ok=True)
    with (open_user_lab if is_user else open_bridge_lab)(workdir, names or {}) as lab:
        _log.debug("lab opened on network %s: %s", lab.network, workdir)
        if network_faults:
            lab.inject(*network_faults)
        yield lab
    _log.debug("lab closed: %s", workdir)

"""Network faults of packets on a lab's bridge, as scripts for nft(8) and tc(8): pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.lab.dnsmasq import TFTP_PORTS
from harness.model.network_faults import HttpFault, HttpFaultKind, LinkFault, NetworkFault, TftpFault

_CLEAR = """\
table inet faults
delete table inet faults
table bridge faults
delete table bridge faults
"""
"""nft(8): "table" makes a table that is missing, so that it can be deleted."""

_ONE_SYN_BYTES = 100
"""More than one SYN has, less than two with options have: RFC 9293, 3.1."""


def rules(faults: Iterable[NetworkFault], *, refusing: bool = False) -> str:
    """An nft script that drops and rejects packets as the faults say; connections to the web server only if
    ``refusing``."""
    faults = list(faults)
    ports = f"{TFTP_PORTS[0]}-{TFTP_PORTS[1]}"
    tftp_losses = [fault.loss for fault in faults if isinstance(fault, TftpFault) and fault.loss]
    local = [("output", f"udp sport {ports} {_share(loss)} drop") for loss in tftp_losses]
    local += _refusals(faults) if refusing else ()
    lossy = [fault.loss for fault in faults if isinstance(fault, LinkFault) and fault.loss]
    return "".join([
        _CLEAR,
        *(_chain("inet", hook, rule) for hook, rule in local),
        *(_chain("bridge", hook, f"{_share(loss)} drop") for loss in lossy for hook in ("input", "output", "forward")),
    ])  # fmt: skip


def _refusals(faults: Iterable[NetworkFault]) -> Iterator[tuple[str, str]]:
    syn, refuse = "tcp dport 80 tcp flags & (syn|ack) == syn", "reject with tcp reset"
    for fault in faults:
        if isinstance(fault, HttpFault) and fault.kind is HttpFaultKind.REFUSED:
            yield "input", f"{syn} {refuse}"
        if isinstance(fault, HttpFault) and fault.kind is HttpFaultKind.REFUSED_ONCE:
            yield "input", f"{syn} quota until {_ONE_SYN_BYTES} bytes {refuse}"


def _share(loss: float) -> str:
    return f"numgen random mod 10000 < {round(loss * 10000)}"


def _chain(family: str, hook: str, rule: str) -> str:
    return f"table {family} faults {{ chain at_{hook} {{ type filter hook {hook} priority 0; {rule}; }}; }}\n"


def shaping(faults: Iterable[NetworkFault], interface: str) -> str:
    """A tc script that limits the speed of all packets that leave by ``interface``; empty if no fault does.

    Limiting TFTP alone needs a queueing discipline that fewer kernels have. So the limit is removed (`clear_shaping`)
    when TFTP is over.
    """
    rates = [fault.kbit_per_s for fault in faults if isinstance(fault, TftpFault) and fault.kbit_per_s]
    return f"qdisc add dev {interface} root tbf rate {rates[0]}kbit burst 4kb latency 2s\n" if rates else ""


def clear_shaping(interface: str) -> str:
    return f"qdisc del dev {interface} root\n"

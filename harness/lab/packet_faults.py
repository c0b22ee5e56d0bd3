"""Weather among the packets of a lab's segment, as nft(8) and tc(8) scripts: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.lab.dnsmasq import TFTP_PORTS
from harness.model.network_faults import HttpFault, HttpWeather, LinkWeather, TftpWeather, Weather

_CLEAR = """\
table inet weather
delete table inet weather
table bridge weather
delete table bridge weather
"""
"""nft(8): "table" makes it if it is not there, so that it can be deleted."""

_ONE_SYN_BYTES = 100
"""More than one SYN has and less than two with options have: RFC 9293, 3.1."""


def rules(weathers: Iterable[Weather], *, refusing: bool = False) -> str:
    """An nft script that makes the segment lose what it shall lose; ``refusing`` says that it is the web server's time
    to refuse connections."""
    weathers = list(weathers)
    local = [*_tftp(weathers), *(_refusals(weathers) if refusing else ())]
    lossy = [weather.loss for weather in weathers if isinstance(weather, LinkWeather) and weather.loss]
    return "".join([
        _CLEAR,
        *(_chain("inet", hook, rule) for hook, rule in local),
        *(_chain("bridge", hook, f"{_share(loss)} drop") for loss in lossy for hook in ("input", "output", "forward")),
    ])  # fmt: skip


def _tftp(weathers: Iterable[Weather]) -> Iterator[tuple[str, str]]:
    for weather in weathers:
        if isinstance(weather, TftpWeather) and weather.loss:
            yield "output", f"udp sport {TFTP_PORTS[0]}-{TFTP_PORTS[1]} {_share(weather.loss)} drop"


def _refusals(weathers: Iterable[Weather]) -> Iterator[tuple[str, str]]:
    syn, refuse = "tcp dport 80 tcp flags & (syn|ack) == syn", "reject with tcp reset"
    for weather in weathers:
        if isinstance(weather, HttpWeather) and weather.fault is HttpFault.REFUSED:
            yield "input", f"{syn} {refuse}"
        if isinstance(weather, HttpWeather) and weather.fault is HttpFault.REFUSED_ONCE:
            yield "input", f"{syn} quota until {_ONE_SYN_BYTES} bytes {refuse}"


def _share(loss: float) -> str:
    return f"numgen random mod 10000 < {round(loss * 10000)}"


def _chain(family: str, hook: str, rule: str) -> str:
    return f"table {family} weather {{ chain at_{hook} {{ type filter hook {hook} priority 0; {rule}; }}; }}\n"


def shaping(weathers: Iterable[Weather], interface: str) -> str:
    """A tc script that slows down what leaves by ``interface``; empty if nothing is to be slow.

    All of it: to tell TFTP from the rest takes a queueing discipline that fewer kernels have. It is to be lifted
    (`unshaped`) when TFTP has done its part.
    """
    rates = [weather.kbit_per_s for weather in weathers if isinstance(weather, TftpWeather) and weather.kbit_per_s]
    return f"qdisc add dev {interface} root tbf rate {rates[0]}kbit burst 4kb latency 2s\n" if rates else ""


def unshaped(interface: str) -> str:
    return f"qdisc del dev {interface} root\n"

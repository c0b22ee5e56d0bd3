"""Weather: what a network may do to machines that come up over it, each kind a small value by its name.

    dhcp-late dhcp-late=30 tftp-lossy http-404-rootfs http-503-kernel link-lossy dns-absent …

A lab has it from the start (``pytest --weather NAME``), or gets it in a test (fixture ``weather``). What passes by
itself, or lets a second attempt through, a good image comes up in spite of; a definition names those in
``[network] withstands``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from pathlib import Path

from harness.core.errors import UsageError
from harness.model.machine_spec import BOOT_URL, BootPath, MachineSpec, NicSpec

_LATE_S = 5.0
"""iPXE asks for an address four times within 7 s and gives up 8 s later (dhcp.c: from 1 s on, doubled)."""
_SHORT_LEASE_S = 120
"""dnsmasq(8): the least there is."""
_LOSS = 0.01
_TFTP_LOSS = 0.05
_TFTP_KBIT = 400
_FLAPS = 3
SLOW_BYTES_PER_S = 20_000_000 // 8


class HttpFault(StrEnum):
    """What the web server makes of a file."""

    MISSING = "404"
    BUSY = "503"
    BUSY_ONCE = "503-once"
    REFUSED = "refused"
    REFUSED_ONCE = "refused-once"
    STALLS = "stalls"
    CUT = "cut"
    TRUNCATED = "truncated"
    FLIPPED = "flipped"
    NOISE = "noise"
    OTHER_BUILD = "other-build"
    REDIRECT = "redirect"
    SLOW = "slow"

    @property
    def is_refusal(self) -> bool:
        return self in (HttpFault.REFUSED, HttpFault.REFUSED_ONCE)


class File(StrEnum):
    KERNEL = "kernel"
    INITRD = "initrd"
    ROOTFS = "rootfs"

    def is_called(self, name: str) -> bool:
        """Whether a file of that name, of a set of artifacts, is this one."""
        prefixes = {File.KERNEL: "vmlinuz", File.INITRD: "initrd.", File.ROOTFS: "rootfs."}
        return name.startswith(prefixes[self])

    def comes_after(self, name: str) -> bool:
        """Whether machines fetch this one right after a file of that name."""
        if self is File.KERNEL:
            return name.endswith(".ipxe") and name != BOOT_URL.rpartition("/")[2]
        return (File.KERNEL if self is File.INITRD else File.INITRD).is_called(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """``what`` it is, in words. If it ``passes``, a machine that tries again comes through."""

    name: str
    what: str
    passes: bool = False

    def shows_on(self, boot_path: BootPath) -> bool:  # noqa: ARG002  # most kinds of it have their own answer
        """Whether a machine that comes up that way meets it."""
        return True

    @property
    def needs_second_card(self) -> bool:
        """The machine has two network cards, of which the first is of no use."""
        return False

    @property
    def needs_packets(self) -> bool:
        """It is made by dropping packets of the segment."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpWeather(Weather):
    """Nobody answers until ``silent_s`` after the first question, or ever; leases of ``lease_s``; answers without a
    boot file; a second server, quicker than the first, that says something else."""

    silent_s: float = 0.0
    lease_s: int = 0
    has_boot_file: bool = True
    has_rival: bool = False
    first_card_only: bool = False

    def shows_on(self, boot_path: BootPath) -> bool:
        needs_boot_file = not self.has_boot_file or self.has_rival
        return boot_path.is_netboot if needs_boot_file else boot_path is not BootPath.GRUB

    @property
    def needs_second_card(self) -> bool:
        return self.first_card_only


@dataclass(frozen=True, slots=True, kw_only=True)
class TftpWeather(Weather):
    """There is no server, or of its packets that share is lost, or it is that slow."""

    is_absent: bool = False
    loss: float = 0.0
    kbit_per_s: int = 0

    def shows_on(self, boot_path: BootPath) -> bool:
        return boot_path is BootPath.PXE_CHAIN

    @property
    def needs_packets(self) -> bool:
        return self.loss > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWeather(Weather):
    """``fault`` befalls ``file``; ``other`` is another build's, for `HttpFault.OTHER_BUILD`."""

    fault: HttpFault
    file: File
    other: Path | None = None

    def shows_on(self, boot_path: BootPath) -> bool:
        if self.file is File.ROOTFS:
            return boot_path not in (BootPath.DIRECT, BootPath.GRUB)
        return boot_path.is_netboot

    @property
    def needs_packets(self) -> bool:
        return self.fault.is_refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWeather(Weather):
    """The first card's link is down until ``down_s`` after it is first needed, or for ever; goes down ``flaps`` times
    during the download of the root file system; loses that share of packets."""

    down_s: float = 0.0
    flaps: int = 0
    loss: float = 0.0
    has_second_card: bool = False

    @property
    def needs_second_card(self) -> bool:
        return self.has_second_card

    @property
    def needs_packets(self) -> bool:
        return self.loss > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsWeather(Weather):
    """No name can be looked up."""


def known() -> dict[str, Weather]:
    """Every kind, by its name."""
    return {weather.name: weather for weather in (*_others(), *_http())}


def _others() -> Iterator[Weather]:
    late = f"the DHCP server is silent for {_LATE_S:.0f} s"
    yield DhcpWeather(name="dhcp-late", what=late, passes=True, silent_s=_LATE_S)
    yield DhcpWeather(name="dhcp-silent", what="no DHCP server answers", silent_s=inf)
    yield DhcpWeather(
        name="dhcp-second-card", what="DHCP answers on the second network card only", passes=True, first_card_only=True
    )
    yield DhcpWeather(name="dhcp-rival", what="two DHCP servers disagree, the wrong one is quicker", has_rival=True)
    yield DhcpWeather(
        name="dhcp-short-lease", what=f"leases of {_SHORT_LEASE_S} s", passes=True, lease_s=_SHORT_LEASE_S
    )
    yield DhcpWeather(name="dhcp-no-boot-file", what="DHCP gives an address and nothing to boot", has_boot_file=False)
    yield TftpWeather(name="tftp-absent", what="there is no TFTP server", is_absent=True)
    yield TftpWeather(
        name="tftp-lossy", what=f"TFTP loses {_TFTP_LOSS:.0%} of its packets", passes=True, loss=_TFTP_LOSS
    )
    yield TftpWeather(name="tftp-slow", what=f"TFTP at {_TFTP_KBIT} kbit/s", passes=True, kbit_per_s=_TFTP_KBIT)
    down = f"the link is down for {_LATE_S:.0f} s"
    yield LinkWeather(name="link-late", what=down, passes=True, down_s=_LATE_S)
    yield LinkWeather(name="link-down", what="there is no carrier", down_s=inf)
    yield LinkWeather(
        name="link-second-card", what="there is no carrier on the first of two network cards", passes=True, down_s=inf,
        has_second_card=True,
    )  # fmt: skip
    yield LinkWeather(name="link-flaps", what=f"the link goes down and up {_FLAPS} times", passes=True, flaps=_FLAPS)
    yield LinkWeather(name="link-lossy", what=f"{_LOSS:.0%} of all packets are lost", passes=True, loss=_LOSS)
    yield DnsWeather(name="dns-absent", what="there is no DNS server", passes=True)


_HTTP = {
    HttpFault.MISSING: ("the web server answers 404 for the {}", False),
    HttpFault.BUSY: ("the web server answers 503 for the {}", False),
    HttpFault.BUSY_ONCE: ("the web server answers 503 for the {} once, then 200", True),
    HttpFault.REFUSED: ("the web server refuses connections when it comes to the {}", False),
    HttpFault.REFUSED_ONCE: ("the web server refuses a connection when it comes to the {}, then accepts", True),
    HttpFault.STALLS: ("the web server stops in the middle of the {}", False),
    HttpFault.CUT: ("the connection is cut in the middle of the {}", False),
    HttpFault.TRUNCATED: ("the web server has half of the {} only", False),
    HttpFault.FLIPPED: ("one byte of the {} is flipped", False),
    HttpFault.NOISE: ("the {} is something else of the same length", False),
    HttpFault.OTHER_BUILD: ("the {} is another build's", False),
    HttpFault.REDIRECT: ("the {} is redirected to another place", True),
    HttpFault.SLOW: ("the {} comes at 20 Mbit/s", True),
}


def _http() -> Iterator[Weather]:
    for fault, (what, passes) in _HTTP.items():
        for file in File:
            name = f"http-{fault}-{file}"
            yield HttpWeather(name=name, what=what.format(file), passes=passes, fault=fault, file=file)


def read(text: str) -> Weather:
    """The weather of that name; ``dhcp-late=30`` and ``link-late=30`` say for how many seconds.

    `UsageError` names what is known, or the nearest.
    """
    name, _, amount = text.partition("=")
    weather = known().get(name)
    if weather is None:
        near = difflib.get_close_matches(name, known(), 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {_summary()}"
        raise UsageError(f"no weather {name!r}; {hint}")
    return _lasting(weather, amount) if "=" in text else weather


def _summary() -> str:
    others = ", ".join(weather.name for weather in _others())
    return f"{others}, http-FAULT-FILE with FAULT one of {', '.join(HttpFault)} and FILE one of {', '.join(File)}"


def _lasting(weather: Weather, amount: str) -> Weather:
    if not amount.isdecimal() or not 0 < int(amount) <= 600:
        raise UsageError(f"weather {weather.name}={amount}: a whole number of seconds, 1 to 600, goes behind the =")
    seconds, name = float(amount), f"{weather.name}={amount}"
    if isinstance(weather, DhcpWeather) and 0 < weather.silent_s < inf:
        return replace(weather, name=name, what=f"the DHCP server is silent for {amount} s", silent_s=seconds)
    if isinstance(weather, LinkWeather) and 0 < weather.down_s < inf:
        return replace(weather, name=name, what=f"the link is down for {amount} s", down_s=seconds)
    raise UsageError(f"weather {weather.name} lasts as it does; only dhcp-late and link-late take =SECONDS")


def with_other(weathers: Iterable[Weather], others: Iterable[Path]) -> tuple[Weather, ...]:
    """The same, those of another build's file with the one that is among ``others``: pure."""
    files = list(others)

    def completed(weather: Weather) -> Weather:
        if isinstance(weather, HttpWeather) and needs_other(weather):
            return replace(weather, other=next(file for file in files if weather.file.is_called(file.name)))
        return weather

    return tuple(completed(weather) for weather in weathers)


def needs_other(weather: Weather) -> bool:
    return isinstance(weather, HttpWeather) and weather.fault is HttpFault.OTHER_BUILD


def path_for(weather: Weather, boot_paths: Sequence[BootPath]) -> BootPath:
    """A boot path on which it shows: the first of these, or else of all that there are."""
    paths: list[BootPath] = [*boot_paths, *BootPath]
    return next(path for path in paths if weather.shows_on(path))


def check_shows(weather: Weather, boot_paths: Iterable[BootPath]) -> None:
    """`UsageError` if no machine that comes up on one of these meets it."""
    paths = list(boot_paths)
    if not any(weather.shows_on(path) for path in paths):
        others = ", ".join(path for path in BootPath if weather.shows_on(path))
        raise UsageError(
            f"weather {weather.name}: {what_paths(paths)} never meets it ({weather.what}); it shows on {others}"
        )


def what_paths(paths: Iterable[BootPath]) -> str:
    return "boot path " + ", ".join(paths)


def adapted(spec: MachineSpec, weathers: Iterable[Weather]) -> MachineSpec:
    """``spec`` with the network cards that the weather is about: pure."""
    if not any(weather.needs_second_card for weather in weathers) or spec.dhcp_nic:
        return spec
    first, *others = spec.nics
    second, *rest = others or [NicSpec(model=first.model)]
    return replace(spec, nics=(replace(first, has_dhcp=False), replace(second, has_dhcp=True), *rest))

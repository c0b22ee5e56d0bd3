"""Network faults, as values by name.

    dhcp-late dhcp-late=30 tftp-lossy http-404-rootfs http-503-kernel link-lossy dns-absent …

A lab has them from the start (``pytest --network-fault NAME``), or gets them in a test (fixture ``inject_faults``).
A good image boots in spite of a transient fault, which ends by itself or allows a second attempt; a definition names
those in ``[network] tolerates``.

To add a fault: a value here, its effect in one module of ``lab/`` (see ``lab/__init__.py``), and a test. For a fault of
the web server that is a member of `HttpFaultKind` with its row in `_HTTP`, and a case in ``lab/http_faults.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from pathlib import Path

from harness.core.config_file import suggestion
from harness.core.errors import UsageError
from harness.model.machine_spec import BOOT_URL, IPXE_LOADER, BootPath, MachineSpec, NicSpec

_LATE_S = 5.0
"""iPXE sends four requests within 7 s and gives up 8 s later (dhcp.c: 1 s, doubled each time)."""
_SHORT_LEASE_S = 120
"""The minimum: dnsmasq(8)."""
_MTU = 1280
"""The smallest that IPv6 works with (RFC 8200, 5); dhclient-script of Debian and dracut ignore 576 and less."""
_LOSS = 0.01
_TFTP_LOSS = 0.05
_TFTP_KBIT = 400
_FLAPS = 3
SLOW_BYTES_PER_S = 20_000_000 // 8


class HttpFaultKind(StrEnum):
    """What the web server does with a file."""

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
    NO_LENGTH = "no-length"
    SLOW = "slow"

    @property
    def is_refusal(self) -> bool:
        return self in (HttpFaultKind.REFUSED, HttpFaultKind.REFUSED_ONCE)


_HTTP = {
    HttpFaultKind.MISSING: ("the web server answers 404 for the {}", False),
    HttpFaultKind.BUSY: ("the web server answers 503 for the {}", False),
    HttpFaultKind.BUSY_ONCE: ("the web server answers 503 for the {} once, then 200", True),
    HttpFaultKind.REFUSED: ("the web server refuses connections when it comes to the {}", False),
    HttpFaultKind.REFUSED_ONCE: ("the web server refuses a connection when it comes to the {}, then accepts", True),
    HttpFaultKind.STALLS: ("the web server stops in the middle of the {}", False),
    HttpFaultKind.CUT: ("the connection is cut in the middle of the {}", False),
    HttpFaultKind.TRUNCATED: ("the web server has half of the {} only", False),
    HttpFaultKind.FLIPPED: ("one byte of the {} is flipped", False),
    HttpFaultKind.NOISE: ("the {} is something else of the same length", False),
    HttpFaultKind.OTHER_BUILD: ("the {} is another build's", False),
    HttpFaultKind.REDIRECT: ("the {} is redirected to another place", True),
    HttpFaultKind.NO_LENGTH: ("the web server does not announce the length of the {}", True),
    HttpFaultKind.SLOW: ("the {} comes at 20 Mbit/s", True),
}
"""Of each kind: what it does to a file, and whether it is transient."""


class ServedFile(StrEnum):
    """A file that machines download; the loader is the one that firmware fetches by HTTP."""

    LOADER = "loader"
    KERNEL = "kernel"
    INITRD = "initrd"
    ROOTFS = "rootfs"

    def is_called(self, name: str) -> bool:
        """Whether the artifacts' file of that name is this one."""
        prefixes = {
            ServedFile.LOADER: IPXE_LOADER.name,
            ServedFile.KERNEL: "vmlinuz",
            ServedFile.INITRD: "initrd.",
            ServedFile.ROOTFS: "rootfs.",
        }
        return name.startswith(prefixes[self])

    def comes_after(self, name: str) -> bool:
        """Whether machines fetch this file right after the file of that name."""
        if self is ServedFile.LOADER:
            return False
        if self is ServedFile.KERNEL:
            return name.endswith(".ipxe") and name != BOOT_URL.rpartition("/")[2]
        return (ServedFile.KERNEL if self is ServedFile.INITRD else ServedFile.INITRD).is_called(name)


_ARTIFACTS = (ServedFile.KERNEL, ServedFile.INITRD, ServedFile.ROOTFS)
_FILES = {
    HttpFaultKind.REDIRECT: (ServedFile.LOADER, *_ARTIFACTS),
    HttpFaultKind.NO_LENGTH: (ServedFile.LOADER, ServedFile.ROOTFS),
}
"""The files of the kinds that concern others than `_ARTIFACTS`.

Faults of the loader are permanent: EDK II does not follow redirects (tianocore/edk2#9714) and needs a length. Without a
length, iPXE takes minutes for a kernel and an initrd (seen with Debian 12's, emulated: 12 MB in 85 s instead of 1 s).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFault:
    """``what`` describes it. If it ``is_transient``, it ends by itself or a second attempt succeeds.

    If it ``needs_second_card``, the machine has two network cards, of which the first does not work.
    """

    name: str
    what: str
    is_transient: bool = False
    needs_second_card: bool = False

    def shows_on(self, boot_path: BootPath) -> bool:  # noqa: ARG002  # subclasses use it
        """Whether it affects a machine on that boot path."""
        return True

    @property
    def needs_packets(self) -> bool:
        """Whether it is made by filtering packets on the lab's bridge."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpFault(NetworkFault):
    """A fault of DHCP: no answer until ``silent_s`` after the first request, leases of ``lease_s``, an ``mtu`` (RFC
    2132, option 26), answers without a boot file, a quicker rogue server with other answers, or no answer on the first
    of two network cards."""

    silent_s: float = 0.0
    lease_s: int = 0
    mtu: int = 0
    has_boot_file: bool = True
    has_rogue: bool = False

    def shows_on(self, boot_path: BootPath) -> bool:
        needs_boot_file = not self.has_boot_file or self.has_rogue
        return boot_path.is_netboot if needs_boot_file else boot_path is not BootPath.GRUB


@dataclass(frozen=True, slots=True, kw_only=True)
class TftpFault(NetworkFault):
    """A fault of TFTP: no server, a share of its packets lost, or limited speed."""

    is_absent: bool = False
    loss: float = 0.0
    kbit_per_s: int = 0

    def shows_on(self, boot_path: BootPath) -> bool:
        return boot_path is BootPath.PXE_CHAIN

    @property
    def needs_packets(self) -> bool:
        return self.loss > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFault(NetworkFault):
    """A fault of the web server for ``file``; ``other`` is that of another build, for `HttpFaultKind.OTHER_BUILD`."""

    kind: HttpFaultKind
    file: ServedFile
    other: Path | None = None

    def shows_on(self, boot_path: BootPath) -> bool:
        if self.file is ServedFile.LOADER:
            return boot_path is BootPath.UEFI_HTTP
        if self.file is ServedFile.ROOTFS:
            return boot_path not in (BootPath.DIRECT, BootPath.GRUB)
        return boot_path.is_netboot

    @property
    def needs_packets(self) -> bool:
        return self.kind.is_refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFault(NetworkFault):
    """A fault of the first network card's link: down until ``down_s`` after it is first needed, down and up ``flaps``
    times during the download of the root file system, or a share of packets lost."""

    down_s: float = 0.0
    flaps: int = 0
    loss: float = 0.0

    @property
    def needs_packets(self) -> bool:
        return self.loss > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsFault(NetworkFault):
    """There is no DNS server."""


def known() -> dict[str, NetworkFault]:
    """Every fault by its name."""
    return {fault.name: fault for fault in (*_others(), *_http())}


def _others() -> Iterator[NetworkFault]:
    late = f"the DHCP server is silent for {_LATE_S:.0f} s"
    yield DhcpFault(name="dhcp-late", what=late, is_transient=True, silent_s=_LATE_S)
    yield DhcpFault(name="dhcp-silent", what="no DHCP server answers", silent_s=inf)
    yield DhcpFault(
        name="dhcp-second-card",
        what="DHCP answers on the second network card only",
        is_transient=True,
        needs_second_card=True,
    )
    yield DhcpFault(name="dhcp-rogue", what="two DHCP servers disagree, the wrong one is quicker", has_rogue=True)
    yield DhcpFault(
        name="dhcp-short-lease", what=f"leases of {_SHORT_LEASE_S} s", is_transient=True, lease_s=_SHORT_LEASE_S
    )
    yield DhcpFault(name="dhcp-small-mtu", what=f"DHCP sets an MTU of {_MTU}", is_transient=True, mtu=_MTU)
    yield DhcpFault(name="dhcp-no-boot-file", what="DHCP gives an address and nothing to boot", has_boot_file=False)
    yield TftpFault(name="tftp-absent", what="there is no TFTP server", is_absent=True)
    yield TftpFault(
        name="tftp-lossy", what=f"TFTP loses {_TFTP_LOSS:.0%} of its packets", is_transient=True, loss=_TFTP_LOSS
    )
    yield TftpFault(name="tftp-slow", what=f"TFTP at {_TFTP_KBIT} kbit/s", is_transient=True, kbit_per_s=_TFTP_KBIT)
    down = f"the link is down for {_LATE_S:.0f} s"
    yield LinkFault(name="link-late", what=down, is_transient=True, down_s=_LATE_S)
    yield LinkFault(name="link-down", what="there is no carrier", down_s=inf)
    yield LinkFault(
        name="link-second-card",
        what="there is no carrier on the first of two network cards",
        is_transient=True,
        down_s=inf,
        needs_second_card=True,
    )
    yield LinkFault(
        name="link-flaps", what=f"the link goes down and up {_FLAPS} times", is_transient=True, flaps=_FLAPS
    )
    yield LinkFault(name="link-lossy", what=f"{_LOSS:.0%} of all packets are lost", is_transient=True, loss=_LOSS)
    yield DnsFault(name="dns-absent", what="there is no DNS server", is_transient=True)


def _http() -> Iterator[NetworkFault]:
    for kind, (what, is_transient) in _HTTP.items():
        for file in _FILES.get(kind, _ARTIFACTS):
            name, ends = f"http-{kind}-{file}", is_transient and file is not ServedFile.LOADER
            yield HttpFault(name=name, what=what.format(file), is_transient=ends, kind=kind, file=file)


def read(text: str) -> NetworkFault:
    """The fault of that name; ``dhcp-late=30`` and ``link-late=30`` set its seconds.

    `UsageError` lists the known names, or the most similar one.
    """
    name, _, amount = text.partition("=")
    fault = known().get(name)
    if fault is None:
        others = ", ".join(fault.name for fault in _others())
        kinds, files = ", ".join(HttpFaultKind), ", ".join(ServedFile)
        all_known = f"known: {others}, http-FAULT-FILE with FAULT one of {kinds} and FILE one of {files}"
        raise UsageError(f"no network fault {name!r}", remedy=suggestion(name, known(), all_known))
    return _with_duration(fault, amount) if "=" in text else fault


def _with_duration(fault: NetworkFault, amount: str) -> NetworkFault:
    if not amount.isdecimal() or not 0 < int(amount) <= 600:
        raise UsageError(f"network fault {fault.name}={amount} is not valid", remedy="give whole seconds, 1 to 600")
    seconds, name = float(amount), f"{fault.name}={amount}"
    if isinstance(fault, DhcpFault) and 0 < fault.silent_s < inf:
        return replace(fault, name=name, what=f"the DHCP server is silent for {amount} s", silent_s=seconds)
    if isinstance(fault, LinkFault) and 0 < fault.down_s < inf:
        return replace(fault, name=name, what=f"the link is down for {amount} s", down_s=seconds)
    raise UsageError(f"network fault {fault.name} has no duration", remedy="only dhcp-late and link-late take =SECONDS")


def with_other_build(faults: Iterable[NetworkFault], others: Iterable[Path]) -> tuple[NetworkFault, ...]:
    """The same faults; those of `HttpFaultKind.OTHER_BUILD` with their file, which is one of ``others``: pure."""
    files = list(others)

    def complete(fault: NetworkFault) -> NetworkFault:
        if isinstance(fault, HttpFault) and needs_other_build(fault):
            return replace(fault, other=next(file for file in files if fault.file.is_called(file.name)))
        return fault

    return tuple(complete(fault) for fault in faults)


def needs_other_build(fault: NetworkFault) -> bool:
    return isinstance(fault, HttpFault) and fault.kind is HttpFaultKind.OTHER_BUILD


def path_for(fault: NetworkFault, boot_paths: Sequence[BootPath]) -> BootPath:
    """The first of ``boot_paths``, or else of all boot paths, on which the fault has an effect."""
    paths: list[BootPath] = [*boot_paths, *BootPath]
    return next(path for path in paths if fault.shows_on(path))


def check_shows(fault: NetworkFault, boot_paths: Iterable[BootPath]) -> None:
    """Raise `UsageError` if the fault has no effect on any of these boot paths."""
    paths = list(boot_paths)
    if not any(fault.shows_on(path) for path in paths):
        others = ", ".join(path for path in BootPath if fault.shows_on(path))
        effect = f"has no effect on boot path {', '.join(paths)}; it has on {others}"
        raise UsageError(f"network fault {fault.name} ({fault.what}) {effect}")


def adapted(spec: MachineSpec, faults: Iterable[NetworkFault]) -> MachineSpec:
    """``spec`` with a second network card, if one of the faults needs it: pure."""
    if not any(fault.needs_second_card for fault in faults) or spec.dhcp_nic:
        return spec
    first, *others = spec.nics
    second, *rest = others or [NicSpec(model=first.model)]
    return replace(spec, nics=(replace(first, has_dhcp=False), replace(second, has_dhcp=True), *rest))

"""The lab's DHCP, TFTP and DNS: dnsmasq's configuration as a function of values (dnsmasq(8))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.model.machine_spec import (
    BOOT_URL,
    CONTROLLER,
    CONTROLLER_NUMBER,
    GATEWAY,
    IPXE_BIOS_LOADER,
    IPXE_LOADER,
    address_of,
    mac_of,
)
from harness.model.network_faults import DhcpFault, DnsFault, NetworkFault, TftpFault

PLACES = 64
DOMAIN = "lab.test"
READY_MESSAGE = b"started, version"
TFTP_PORTS = 6912, 6975
"""Source ports of TFTP data, by which packet filters recognize it."""
ROGUE_ADDRESS = f"{GATEWAY.rpartition('.')[0]}.2"
_ROGUE_RANGE = tuple(f"{GATEWAY.rpartition('.')[0]}.{last}" for last in (200, 220))
_LATER_S = 1
_LEASE_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpConfig:
    """The configuration of the lab's DHCP, TFTP and DNS server.

    ``names`` maps machine numbers to host names, by default ``machine-N``. ``nics`` maps them to the network card that
    is answered, by default the first, or None. ``plain`` are machines with a plain PXE ROM that have not fetched iPXE
    yet: QEMU's own ROMs are iPXE and can act as plain ones. A client that is not iPXE is sent to it: ``bios_file`` or
    ``uefi_file`` by TFTP, the latter by HTTP. The last six fields are faults.
    """

    folder: Path
    interface: str = "br0"
    lease_s: int = _LEASE_S
    names: dict[int, str] = field(default_factory=dict)
    nics: dict[int, int | None] = field(default_factory=dict)
    plain: frozenset[int] = frozenset()
    boot_url: str = BOOT_URL
    bios_file: str = IPXE_BIOS_LOADER.name
    uefi_file: str = IPXE_LOADER.name
    is_silent: bool = False
    has_rogue: bool = False
    mtu: int = 0
    has_boot_file: bool = True
    has_tftp: bool = True
    has_dns: bool = True

    @property
    def tftp_root(self) -> Path:
        return self.folder / "tftp"

    @property
    def lease_file(self) -> Path:
        return self.folder / "dnsmasq.leases"

    @property
    def hosts_file(self) -> Path:
        return self.folder / "dnsmasq.hosts"

    @property
    def log(self) -> Path:
        return self.folder / "dnsmasq.log"


def configuration(config: DhcpConfig) -> str:
    """dnsmasq's configuration file.

    Every machine has a static address: a machine restored from a frozen state renews a lease that this server never
    gave, and must get it. Its name is known before it asks, which it may not do for half an hour. iPXE is recognized by
    its option 175; inside it, option 176 says that no ProxyDHCP offer will come, so that iPXE does not wait for one.
    """
    first, last = TFTP_PORTS
    tftp = ("enable-tftp", f"tftp-root={config.tftp_root}", f"tftp-port-range={first},{last}")
    lines = [
        "keep-in-foreground", "pid-file=", "log-facility=-", "log-dhcp", "log-async=25",
        "user=root", "group=",  # root is the only user in a user namespace, where even its group is refused
        f"interface={config.interface}", "except-interface=lo", "bind-interfaces",
        "no-resolv", "no-hosts", "no-ping", "dhcp-authoritative",
        f"dhcp-leasefile={config.lease_file}",
        f"dhcp-hostsfile={config.hosts_file}",
        f"dhcp-range={GATEWAY},static,255.255.255.0,{config.lease_s}",
        f"dhcp-option=option:router,{GATEWAY}",
        *((f"dhcp-reply-delay={_LATER_S}",) if config.has_rogue else ()),
        *((f"dhcp-option-force=option:mtu,{config.mtu}",) if config.mtu else ()),  # asked for or not
        *_dns(config),
        *(tftp if config.has_tftp else ()),
        *(_boot_files(config) if config.has_boot_file else ()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _dns(config: DhcpConfig) -> list[str]:
    if not config.has_dns:
        return ["port=0"]
    return [
        f"domain={DOMAIN}",
        f"local=/{DOMAIN}/",
        f"host-record=lab.{DOMAIN},{GATEWAY}",
        *(f"host-record={_name(number, config)}.{DOMAIN},{address_of(number)}" for number in range(PLACES)),
        f"dhcp-option=option:dns-server,{GATEWAY}",
    ]


def _boot_files(config: DhcpConfig) -> list[str]:
    return [
        "dhcp-match=set:ipxe,175",
        "dhcp-option=tag:ipxe,encap:175,176,1b",
        f"dhcp-boot=tag:ipxe,tag:!plain,{config.boot_url}",
        f"dhcp-boot=tag:plain,{config.bios_file}",
        "dhcp-match=set:uefi,option:client-arch,7",
        "dhcp-match=set:http,option:client-arch,16",  # RFC 5970's registry: x86-64 UEFI, HTTP
        "dhcp-option-force=tag:http,option:vendor-class,HTTPClient",
        f"dhcp-boot=tag:!ipxe,tag:http,http://{GATEWAY}/{config.uefi_file}",
        f"dhcp-boot=tag:!ipxe,tag:uefi,{config.uefi_file}",
        f"dhcp-boot=tag:!ipxe,tag:!uefi,tag:!http,{config.bios_file}",
    ]


def rogue_options(interface: str) -> list[str]:
    """dnsmasq's options for a rogue DHCP server, which gives other addresses and a boot script that does not exist."""
    return [
        "--conf-file=/dev/null", "--keep-in-foreground", "--pid-file=", "--log-facility=-", "--log-dhcp",
        "--user=root", "--group=", f"--interface={interface}", "--bind-interfaces", "--port=0", "--no-ping",
        "--dhcp-leasefile=/dev/null",
        f"--dhcp-range={','.join(_ROGUE_RANGE)},255.255.255.0,3600",
        f"--dhcp-boot=http://{ROGUE_ADDRESS}/boot.ipxe",
    ]  # fmt: skip


def with_faults(config: DhcpConfig, faults: Iterable[NetworkFault]) -> DhcpConfig:
    """``config`` with these faults, in place of those before: pure."""
    faults = list(faults)
    dhcp = [fault for fault in faults if isinstance(fault, DhcpFault)]
    return replace(
        config,
        is_silent=any(fault.silent_s > 0 for fault in dhcp),
        has_rogue=any(fault.has_rogue for fault in dhcp),
        has_boot_file=all(fault.has_boot_file for fault in dhcp),
        lease_s=next((fault.lease_s for fault in reversed(dhcp) if fault.lease_s), _LEASE_S),
        mtu=next((fault.mtu for fault in reversed(dhcp) if fault.mtu), 0),
        has_tftp=not any(isinstance(fault, TftpFault) and fault.is_absent for fault in faults),
        has_dns=not any(isinstance(fault, DnsFault) for fault in faults),
    )


def hosts(config: DhcpConfig) -> str:
    """dnsmasq's file of hosts to answer.

    A network card that is not in it gets no answer, since the range is of static addresses; dnsmasq logs its request.
    """
    if config.is_silent:
        return ""
    return "".join(f"{_host(number, config)}\n" for number in range(PLACES) if config.nics.get(number, 0) is not None)


def _host(number: int, config: DhcpConfig) -> str:
    tag, mac = "set:plain," if number in config.plain else "", mac_of(number, config.nics.get(number, 0) or 0)
    return f"{mac},{tag}{address_of(number)},{_name(number, config)},{config.lease_s}"


def _name(number: int, config: DhcpConfig) -> str:
    return config.names.get(number, CONTROLLER if number == CONTROLLER_NUMBER else f"machine-{number}")

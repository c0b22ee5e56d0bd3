"""The lab's DHCP, TFTP and DNS: dnsmasq's configuration as a function of values (dnsmasq(8))."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.spec import BOOT_URL, GATEWAY, IPXE_LOADER, address_of, mac_of

PLACES = 64
DOMAIN = "lab.test"
READY_SIGN = b"started, version"


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpConfig:
    """What the lab's servers say.

    ``names`` maps places to host names, ``machine-N`` by default; ``nics``, places to the network card that is
    answered, which is the first by default, or None. A client that is not iPXE is told to fetch that: by
    TFTP ``bios_file`` or ``uefi_file``, by HTTP the latter.
    """

    folder: Path
    interface: str = "br0"
    lease_s: int = 3600
    names: dict[int, str] = field(default_factory=dict)
    nics: dict[int, int | None] = field(default_factory=dict)
    boot_url: str = BOOT_URL
    bios_file: str = "undionly.kpxe"
    uefi_file: str = IPXE_LOADER.name

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

    Every place has a static address: a machine restored from a frozen state asks to renew a lease that this
    server never gave, and must get it. iPXE is told from plain PXE by option 175, its own; inside it, option
    176 says that no ProxyDHCP offer will come, so it does not wait for one.
    """
    lines = [
        "keep-in-foreground",
        "user=root",  # the only user there is in here; and group= empty, as even root's is refused
        "group=",
        "pid-file=",
        "log-facility=-",
        "log-dhcp",
        "log-async=25",
        f"interface={config.interface}",
        "except-interface=lo",
        "bind-interfaces",
        "no-resolv",
        "no-hosts",
        "no-ping",
        f"domain={DOMAIN}",
        f"local=/{DOMAIN}/",
        f"host-record=lab.{DOMAIN},{GATEWAY}",
        "dhcp-authoritative",
        f"dhcp-leasefile={config.lease_file}",
        f"dhcp-hostsfile={config.hosts_file}",
        f"dhcp-range={GATEWAY},static,255.255.255.0,{config.lease_s}",
        f"dhcp-option=option:router,{GATEWAY}",
        f"dhcp-option=option:dns-server,{GATEWAY}",
        "enable-tftp",
        f"tftp-root={config.tftp_root}",
        "dhcp-match=set:ipxe,175",
        "dhcp-option=tag:ipxe,encap:175,176,1b",
        f"dhcp-boot=tag:ipxe,{config.boot_url}",
        "dhcp-match=set:uefi,option:client-arch,7",
        "dhcp-match=set:http,option:client-arch,16",  # RFC 5970's registry: x86-64 UEFI, HTTP
        "dhcp-option-force=tag:http,option:vendor-class,HTTPClient",
        f"dhcp-boot=tag:!ipxe,tag:http,http://{GATEWAY}/{config.uefi_file}",
        f"dhcp-boot=tag:!ipxe,tag:uefi,{config.uefi_file}",
        f"dhcp-boot=tag:!ipxe,tag:!uefi,tag:!http,{config.bios_file}",
    ]
    return "\n".join(lines) + "\n"


def hosts(config: DhcpConfig) -> str:
    """The file of those that are answered, which dnsmasq reads anew when it is told to.

    A card that is not named gets no answer from a range of static addresses, and dnsmasq logs that it asked.
    """
    return "".join(f"{_host(number, config)}\n" for number in range(PLACES) if config.nics.get(number, 0) is not None)


def _host(number: int, config: DhcpConfig) -> str:
    name = config.names.get(number, f"machine-{number}")
    return f"{mac_of(number, config.nics.get(number, 0) or 0)},{address_of(number)},{name},{config.lease_s}"

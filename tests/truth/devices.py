"""The network cards, disk controllers and CPUs that QEMU offers, and what a kernel that has all drivers makes of them.

Numbers of PCI devices are not here: they are read from QEMU. Devices behind a PCI function are, as QEMU's monitor does
not show them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_SLOTS = range(0x08, 0x1D)
"""Of the root bus. The others have the machine's own devices."""
_DISK_MIB = 64
"""Too small for /data, so that images take them for strangers' disks. SD cards need a power of two."""
SCSI_DISK = "scsi:t-0x00"
_SAS_ADDRESS = 0x5000C50015EA71AC
"""Without one, Linux does not take a disk of mptsas1068 for one (QEMU, hw/scsi/mptconfig.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A device behind a PCI function, with the driver and module of a kernel that has all."""

    bus: str
    modalias: str
    driver: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulated:
    """One device. ``driver`` and ``module`` are those of its PCI function, ``parts`` are behind that, the last one is
    what makes network cards or disks; ``is_scsi`` if sd_mod drives its disks.

    ``qemu`` are QEMU's devices as JSON: in texts, ``{id}`` is a name of its own, ``{disk}`` a disk's and ``{net}`` a
    network's. Devices of one ``group`` are in one machine.
    """

    name: str
    kind: str
    driver: str
    module: str
    parts: tuple[Part, ...] = ()
    is_scsi: bool = False
    qemu: tuple[Json, ...]
    group: int = 0

    @property
    def is_disk(self) -> bool:
        return self.kind == "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A device at its ``address`` on the root bus."""

    device: Emulated
    address: str

    @property
    def id(self) -> str:
        return f"d{self.address.replace('.', '')}"

    @property
    def argv(self) -> list[str]:
        argv = list[str]()
        names = {"id": self.id, "disk": f"{self.id}-disk", "net": f"{self.id}-net"}
        texts = repr(self.device.qemu)
        if "{disk}" in texts:
            node: Json = {"driver": "null-co", "node-name": names["disk"], "size": _DISK_MIB << 20, "read-zeroes": True}
            argv += ["-blockdev", _json(node)]
        if "{net}" in texts:
            argv += ["-netdev", f"hubport,hubid=7,id={names['net']}"]
        for number, device in enumerate(self.device.qemu):
            place: Json = {} if number else {"id": self.id, "addr": self.address, "multifunction": True}
            argv += ["-device", _json({**_filled(device, names), **place})]
        return argv


def _json(value: Json) -> str:
    import json

    return json.dumps(value)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, names) for one in value]
    return value.format(**names) if isinstance(value, str) else value


def place(devices: Iterable[Emulated]) -> tuple[Placed, ...]:
    """The devices as functions of the slots of the root bus, in order: no bridge is between them and the board."""
    rows = tuple(devices)
    addresses = [f"{slot:02x}.{function}" for slot in _SLOTS for function in range(8)]
    return tuple(Placed(device=one, address=address) for one, address in zip(rows, addresses, strict=False))


def groups(devices: Iterable[Emulated]) -> Iterator[tuple[Emulated, ...]]:
    """The devices of each boot."""
    rows = tuple(devices)
    for number in sorted({one.group for one in rows}):
        yield tuple(one for one in rows if one.group == number)


def _card(name: str, module: str, driver: str = "", *parts: Part, options: Json | None = None) -> Emulated:
    qemu = {"driver": name, "romfile": "", **(options or {})}
    return Emulated(name=name, kind="nic", driver=driver or module, module=module, parts=parts, qemu=(qemu,))


def _scsi(name: str, module: str, driver: str = "", *parts: Part, group: int = 0, **disk_options: int) -> Emulated:
    """A controller with a disk of SCSI."""
    disk = {"driver": "scsi-hd", "bus": "{id}.0", "drive": "{disk}", "serial": "{id}", **disk_options}
    qemu = ({"driver": name, "romfile": ""}, disk)
    return Emulated(
        name=name,
        kind="disk",
        driver=driver or module,
        module=module,
        parts=parts,
        is_scsi=True,
        qemu=qemu,
        group=group,
    )


def _ide(name: str, module: str, *, group: int = 0) -> Emulated:
    disk = {"driver": "ide-hd", "bus": "{id}.0", "drive": "{disk}", "serial": "{id}"}
    qemu = ({"driver": name, "romfile": ""}, disk)
    return Emulated(name=name, kind="disk", driver=module, module=module, is_scsi=True, qemu=qemu, group=group)


def _virtio(number: int, driver: str) -> Part:
    return Part(bus="virtio", modalias=f"virtio:d{number:08X}v00001AF4", driver=driver, module=driver)


def _usb(ids: str, interface: str, driver: str, module: str, *, class_: str = "dc00dsc00dp00") -> Part:
    return Part(bus="usb", modalias=f"usb:{ids}d0000{class_}{interface}", driver=driver, module=module)


_STORAGE = _usb("v46F4p0001", "ic08isc06ip50in00", "usb-storage", "usb_storage")
_UAS = _usb("v46F4p0003", "ic08isc06ip62in00", "uas", "uas")
_USB_NET = _usb("v0525pA4A2", "ic02isc06ip00in00", "cdc_ether", "cdc_ether", class_="dc02dsc00dp00")


def _on_usb(name: str, controller: str, driver: str, module: str, part: Part, *devices: Json) -> Emulated:
    kind = "nic" if part is _USB_NET else "disk"
    qemu = ({"driver": controller, "romfile": ""}, *devices)
    return Emulated(
        name=name, kind=kind, driver=driver, module=module, parts=(part,), is_scsi=kind == "disk", qemu=qemu
    )


_STICK: Json = {"driver": "usb-storage", "bus": "{id}.0", "drive": "{disk}", "serial": "{id}"}


def _enclosure(name: str) -> tuple[Json, Json]:
    disk = {"driver": "scsi-hd", "bus": "{id}b.0", "drive": "{disk}", "serial": "{id}"}
    return {"driver": name, "id": "{id}b", "bus": "{id}.0"}, disk


_I8255X = ("i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a", "i82559b", "i82559c",
           "i82559er", "i82562", "i82801")  # fmt: skip
_KINDS = ("", "-transitional", "-non-transitional")
_XHCI = ("xhci_hcd", "xhci_pci")

# Two of IDE have the same ports. am53c974 crashes if an interrupt comes while it looks at a device (Linux 6.12), so its
# devices share no line.
DEVICES = (
    *(_card(name, "e1000") for name in ("e1000", "e1000-82544gc", "e1000-82545em")),
    _card("e1000e", "e1000e"),
    _card("igb", "igb"),
    *(_card(name, "e100") for name in _I8255X),
    _card("ne2k_pci", "ne2k_pci", "ne2k-pci"),
    _card("pcnet", "pcnet32"),
    _card("rtl8139", "8139cp"),
    _card("tulip", "tulip"),
    _card("vmxnet3", "vmxnet3"),
    _card("rocker", "rocker", options={"name": "{id}", "ports": ["{net}"]}),
    *(_card(f"virtio-net-pci{kind}", "virtio_pci", "virtio-pci", _virtio(1, "virtio_net")) for kind in _KINDS),
    _on_usb("usb-net", "qemu-xhci", *_XHCI, _USB_NET, {"driver": "usb-net", "bus": "{id}.0", "netdev": "{net}"}),
    *(
        Emulated(
            name=f"virtio-blk-pci{kind}", kind="disk", driver="virtio-pci", module="virtio_pci",
            parts=(_virtio(2, "virtio_blk"),),
            qemu=({"driver": f"virtio-blk-pci{kind}", "romfile": "", "drive": "{disk}", "serial": "{id}"},),
        )
        for kind in _KINDS
    ),
    *(_scsi(f"virtio-scsi-pci{kind}", "virtio_pci", "virtio-pci", _virtio(8, "virtio_scsi")) for kind in _KINDS),
    _scsi("megasas", "megaraid_sas"),
    _scsi("megasas-gen2", "megaraid_sas"),
    _scsi("mptsas1068", "mptsas", wwn=_SAS_ADDRESS),
    _scsi("lsi53c810", "sym53c8xx"),
    _scsi("lsi53c895a", "sym53c8xx"),
    _scsi("am53c974", "am53c974", group=2),
    _scsi("dc390", "am53c974", group=3),
    _scsi("pvscsi", "vmw_pvscsi"),
    _ide("ich9-ahci", "ahci"),
    _ide("piix3-ide", "ata_piix"),
    _ide("piix4-ide", "ata_piix", group=1),
    Emulated(name="nvme", kind="disk", driver="nvme", module="nvme",
             qemu=({"driver": "nvme", "romfile": "", "drive": "{disk}", "serial": "{id}"},)),
    Emulated(name="sdhci-pci", kind="disk", driver="sdhci-pci", module="sdhci_pci",
             parts=(Part(bus="mmc", modalias="mmc:block", driver="mmcblk", module="mmc_block"),),
             qemu=({"driver": "sdhci-pci", "romfile": ""}, {"driver": "sd-card", "bus": "sd-bus", "drive": "{disk}"})),
    Emulated(name="ufs", kind="disk", driver="ufshcd", module="ufshcd_pci", is_scsi=True,
             qemu=({"driver": "ufs", "romfile": "", "serial": "{id}"},
                   {"driver": "ufs-lu", "drive": "{disk}", "lun": 0})),
    _on_usb("usb-storage", "qemu-xhci", *_XHCI, _STORAGE, _STICK),
    _on_usb("usb-storage on nec-usb-xhci", "nec-usb-xhci", *_XHCI, _STORAGE, _STICK),
    _on_usb("usb-storage on usb-ehci", "usb-ehci", "ehci-pci", "ehci_pci", _STORAGE, _STICK),
    _on_usb("usb-storage on ich9-usb-ehci1", "ich9-usb-ehci1", "ehci-pci", "ehci_pci", _STORAGE, _STICK),
    _on_usb("usb-storage on piix3-usb-uhci", "piix3-usb-uhci", "uhci_hcd", "uhci_hcd", _STORAGE, _STICK),
    _on_usb("usb-storage on pci-ohci", "pci-ohci", "ohci-pci", "ohci_pci", _STORAGE, _STICK),
    _on_usb("usb-bot", "qemu-xhci", *_XHCI, _STORAGE, *_enclosure("usb-bot")),
    _on_usb("usb-uas", "qemu-xhci", *_XHCI, _UAS, *_enclosure("usb-uas")),
)  # fmt: skip

NOT_TRIED = {
    **dict.fromkeys(("floppy", "isa-fdc", "isa-ide", "ne2k_isa", "ide-cf"), "on ISA, which has no numbers"),
    **dict.fromkeys(
        ("ide-cd", "ide-hd", "scsi-block", "scsi-cd", "scsi-disk", "scsi-generic", "scsi-hd", "nvme-ns", "nvme-subsys",
         "sd-card", "sd-card-spi", "emmc", "ufs-lu", "cxl-type3"),
        "not a controller",
    ),
    **dict.fromkeys(("usb-mtp", "nvdimm"), "no disk behind a controller"),
    "igbvf": "made by an igb, when its driver is told to",
    "xen-net-device": "needs Xen",
}  # fmt: skip
"""Others of the same sections of ``-device help``, with the reason."""
_NEEDS_A_PROGRAM = re.compile(r"vhost-|virtio-9p|virtio-pmem|virtio-.*-device$")
"""vhost-user needs a program at its other end; the guest sees the same virtio device."""


def not_in_table(help_text: str) -> list[str]:
    """The devices of the sections "Storage devices" and "Network devices" of ``help_text`` that are not known here."""
    known = {device["driver"] for one in DEVICES for device in one.qemu} | NOT_TRIED.keys()
    found, section = list[str](), ""
    for line in help_text.splitlines():
        if line.endswith(" devices:"):
            section = line
        match = re.match(r'name "([^"]+)"', line)
        if match and section in ("Storage devices:", "Network devices:"):
            name = match[1]
            if name not in known and not _NEEDS_A_PROGRAM.match(name):
                found.append(name)
    return found


CPUS = (
    "486", "pentium", "pentium2", "pentium3", "qemu32", "kvm32", "athlon", "coreduo", "n270",  # no 64-bit mode
    "kvm64", "qemu64", "phenom", "core2duo", "Conroe", "Penryn", "Nehalem", "Westmere", "SandyBridge", "IvyBridge",
    "Haswell", "Broadwell", "Skylake-Client", "Skylake-Server", "Cascadelake-Server", "Cooperlake", "Icelake-Server",
    "SapphireRapids", "GraniteRapids", "SierraForest", "Denverton", "Snowridge", "KnightsMill", "Opteron_G1",
    "Opteron_G2", "Opteron_G3", "Opteron_G4", "Opteron_G5", "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "Dhyana",
    "YongFeng",
)  # fmt: skip
"""All models of ``-cpu help`` but the host's and "max", without those that differ in microcode alone."""

"""A small image with drivers as files in memory, changes of it, and hosts as `bootproof hardware` writes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

from harness.fleet.drivers import ImageDrivers
from harness.fleet.host_file import Device, FleetHost, pci_modalias
from harness.fleet.read_image import Look, Seen, image_drivers
from harness.store.squashfs_tree import TreeFile

from .small_image import Content, image

VERSION = "6.12.1-test"
MODULES = f"usr/lib/modules/{VERSION}"


def module(**info: str | tuple[str, ...]) -> bytes:
    """A kernel module with a section .modinfo alone (elf(5))."""
    rows = [(key, [value] if isinstance(value, str) else list(value)) for key, value in info.items()]
    modinfo = b"".join(f"{key}={value}\0".encode() for key, values in rows for value in values)
    names = b"\0.modinfo\0.shstrtab\0"
    at = 64
    names_at, table_at = at + len(modinfo), at + len(modinfo) + len(names)
    sections = [(0, 0, 0), (1, at, len(modinfo)), (10, names_at, len(names))]
    head = (
        b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, 64, 56, 0, 64, 3, 2)
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, place, size, 0, 0, 1, 0) for name, place, size in sections
    )
    return head + modinfo + names + table


def program(level: int) -> bytes:
    """A program that is marked as needing x86-64-v``level``; without a mark if it is 0."""
    value = struct.pack("<III", 0xC0008002, 4, (1 << level) - 1) + b"\0" * 4
    note = struct.pack("<III", 4, len(value), 5) + b"GNU\0" + value if level else b""
    head = b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 0x6474E553, 4, 120, 120, 120, len(note), len(note), 8) + note


def kernel(*, is_efi: bool = True, is_signed: bool = False) -> bytes:
    """The first bytes of a kernel: a PE file if UEFI can start it."""
    if not is_efi:
        return b"\0" * 4096
    optional = struct.pack("<H", 0x20B) + bytes(106) + struct.pack("<I", 16) + bytes(32)
    optional += struct.pack("<II", 0x1000, 0x500 if is_signed else 0)
    return (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(20) + optional).ljust(4096, b"\0")


def alias(vendor: int, device: int, name: str) -> str:
    return f"alias pci:v{vendor:08X}d{device:08X}sv*sd*bc*sc*i* {name}\n"


NAMES = ("e1000e", "bnx2x", "megaraid_sas", "virtio_net", "virtio_pci", "nvme", "sd_mod", "iwlwifi", "crc32c", "tg3")
FIRMWARE = {
    "bnx2x": ("bnx2x/bnx2x-e2-7.13.21.0.fw", "bnx2x/bnx2x-e1-7.13.21.0.fw"),
    "iwlwifi": ("iwlwifi-a0-72.ucode", "iwlwifi-b0-72.ucode"),
    "tg3": ("tigon/tg3.bin",),
}
ALIASES = (
    alias(0x8086, 0x10D3, "e1000e") + alias(0x14E4, 0x168E, "bnx2x") + alias(0x1000, 0x5D, "megaraid_sas")
    + alias(0x14E4, 0x165F, "tg3") + alias(0x8086, 0x2725, "iwlwifi") + alias(0x1AF4, 0x1041, "virtio_pci")
    + "alias virtio:d00000001v* virtio_net\nalias scsi:t-0x00* sd_mod\n"
    + "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n"
)  # fmt: skip
DRIVERS: Mapping[str, Content] = {
    **{f"{MODULES}/kernel/drivers/{name}.ko": module(firmware=FIRMWARE.get(name, ()), name=name) for name in NAMES},
    f"{MODULES}/modules.alias": ALIASES,
    f"{MODULES}/modules.dep": "kernel/drivers/bnx2x.ko: kernel/drivers/crc32c.ko\nkernel/drivers/e1000e.ko:\n",
    f"{MODULES}/modules.softdep": "",
    f"{MODULES}/modules.builtin": "kernel/drivers/ata/ahci.ko\n",
    f"{MODULES}/modules.builtin.modinfo": "ahci.license=GPL\0",
    **{f"usr/lib/firmware/{name}": "x" for names in FIRMWARE.values() for name in names},
}
ROOT: Mapping[str, Content] = {
    **DRIVERS,
    "usr/lib/x86_64-linux-gnu/libc.so.6": program(1),
    f"boot/config-{VERSION}": "CONFIG_FW_LOADER_COMPRESS=y\nCONFIG_FW_LOADER_COMPRESS_XZ=y\n",
}
INITRD: Mapping[str, Content] = {**DRIVERS, "usr/lib/persist/config": ""}


def files(contents: Mapping[str, Content], look: Look) -> dict[str, TreeFile]:
    """The files of a tree, each shown to ``look``; None is no file, ("->", target) a link."""
    found = dict[str, TreeFile]()
    for path, content in contents.items():
        if content is None:
            continue
        for end in range(1, path.count("/") + 1):
            found.setdefault("/".join(path.split("/")[:end]), _file("folder"))
        if isinstance(content, tuple):
            found[path] = replace(_file("link"), target=content[1])
            continue
        data = content.encode() if isinstance(content, str) else content
        found[path] = file = replace(_file("file"), size_bytes=len(data))
        if look.wants(path, file, data[:4096]):
            look.contents(path, file, data)
    return found


def _file(kind: str) -> TreeFile:
    return TreeFile(kind=kind, mode=0o644, uid=0, gid=0, mtime=0)


def drivers(
    root: Mapping[str, Content] | None = None,
    initrd: Mapping[str, Content] | None = None,
    *,
    both: Mapping[str, Content] | None = None,
    head: bytes = b"",
    **manifest: object,
) -> ImageDrivers:
    """The small image with these changes of its ``root``, its ``initrd``, or ``both``."""
    described = replace(image().manifest, **manifest)  # type: ignore[arg-type]  # each test names fields of Manifest
    with Look() as seen:
        first = Seen.of(files({**ROOT, **(both or {}), **(root or {})}, seen), seen, VERSION)
    with Look() as seen:
        second = Seen.of(files({**INITRD, **(both or {}), **(initrd or {})}, seen), seen, VERSION)
    return image_drivers(described, VERSION, first, second, head or kernel())


NIC = Device(
    bus="pci", address="0000:01:00.0", id="8086:10d3", driver="e1000e", module="e1000e", interfaces=("enp1s0",),
    modalias=pci_modalias(0x8086, 0x10D3, class_=0x0200), path="pci0000:00/0000:01:00.0", is_boot=True,
    names=(("path", "enp1s0"),),
)  # fmt: skip
RAID = Device(
    bus="pci", address="0000:02:00.0", id="1000:005d", driver="megaraid_sas", module="megaraid_sas", disks=("sda",),
    modalias=pci_modalias(0x1000, 0x5D, class_=0x0104), path="pci0000:00/0000:02:00.0", has_data=True,
    upper=("scsi:t-0x00",),
)  # fmt: skip
BNX2X = Device(
    bus="pci", id="14e4:168e", driver="bnx2x", module="bnx2x", modalias=pci_modalias(0x14E4, 0x168E, class_=0x0200),
    firmware=("bnx2x/bnx2x-e2-7.13.21.0.fw",),
)  # fmt: skip
WIFI = Device(
    bus="pci", id="8086:2725", driver="iwlwifi", module="iwlwifi", modalias=pci_modalias(0x8086, 0x2725, class_=0x0280)
)
HOST = FleetHost(
    name="rack7",
    model="Dell R730",
    firmware="uefi",
    secure_boot=False,
    cpu_level=3,
    devices=(NIC, RAID),
    kernel_log="whole",
)


def line(device: Device, **more: str) -> str:
    """As `bootproof hardware` writes it."""
    known = {
        "id": device.id, "driver": device.driver, "module": device.module, "interface": ",".join(device.interfaces),
        "names": ",".join(":".join(pair) for pair in device.names), "disks": ",".join(device.disks),
        "upper": ",".join(device.upper), "firmware": ",".join(device.firmware), "path": device.path,
        "modalias": device.modalias, **more,
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in known.items() if value]
    words += [word for word, is_so in (("boot", device.is_boot), ("data", device.has_data)) if is_so]
    return " ".join([device.bus, device.address or "0000:09:00.0", *words])


def text(*devices: Device, model: str = "Dell R730", schema: int = 2, level: int = 3) -> str:
    """The file of a host."""
    lines = "\n".join(map(line, devices or (NIC, RAID)))
    return (
        f'schema = {schema}\ndescription = "{model}"\nfirmware = "uefi"\n\n[[nic]]\ndhcp = true\n\n'
        f"[seen]\ncpu_level = {level}\nsecure_boot = false\ndevices = '''\n{lines}\n'''\n"
    )

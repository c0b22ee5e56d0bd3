"""Scans this host and writes a hardware profile, for `--hardware FILE`.

Reads only /sys, /proc and udev's database in /run, below a ``root`` folder. A device that QEMU does not emulate is
replaced by the nearest one, with a comment that names the real device.

This file and the enumerations that it imports run under Python 3.9 without any package: ``make hardware-scan`` packs
them into one file for production hosts.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from harness.model.device_kinds import MOST_NICS, DiskBus, DiskRole, Firmware, NicModel

_BUSES = {
    "nvme": DiskBus.NVME, "virtio_blk": DiskBus.VIRTIO, "ahci": DiskBus.SATA, "ata_piix": DiskBus.SATA,
    "megaraid_sas": DiskBus.MEGASAS, "mpt3sas": DiskBus.MEGASAS, "smartpqi": DiskBus.MEGASAS, "hpsa": DiskBus.MEGASAS,
    "aacraid": DiskBus.MEGASAS,
}  # fmt: skip
"""By driver. All others become virtio-scsi, whose disks are /dev/sd… too."""
_EXACT = ("nvme", "virtio_blk", "virtio_scsi", "ahci", "megaraid_sas", "virtio_net", "e1000e", "vmxnet3", "igb")
_MODELS = {"virtio_net": NicModel.VIRTIO, "vmxnet3": NicModel.VMXNET3, "igb": NicModel.IGB}
"""By driver. All others become e1000e."""
_NO_DISKS = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd|drbd|rbd)\d")
_GENERIC_DRIVERS = ("sd", "ses", "usb", "usb-storage")
_PRIVATE = re.compile(
    r"\b([0-9a-f]{2}[:-]){5,6}[0-9a-f]{2}\b|\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{12,}\b"
    r"|(?<=/by-id/)\S+|(?<=wwn-0x)\S+|(?<=serial=)\S+",
    re.IGNORECASE,
)
_NUMBERS_OF_THE_BOARD = ("product_serial", "product_uuid", "board_serial", "chassis_serial")


class _Disk(NamedTuple):
    name: str
    driver: str
    model: str
    size_bytes: int
    sector_bytes: int
    role: DiskRole
    serial: str

    @property
    def bus(self) -> DiskBus:
        bus = _BUSES.get(self.driver, DiskBus.SCSI)
        return DiskBus.SCSI if bus is DiskBus.SATA and self.sector_bytes != 512 else bus


class _Card(NamedTuple):
    name: str
    driver: str
    address: str
    has_dhcp: bool


def profile(root: Path = Path("/"), *, with_serials: bool = False) -> str:
    """The hardware profile of the host below ``root`` as TOML, without serial numbers, MACs and UUIDs by default."""
    dmi = {name: _read(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name", "bios_version")}
    name = " ".join(dict.fromkeys(filter(None, (dmi["sys_vendor"], dmi["product_name"])))) or "a host without DMI"
    firmware = Firmware.UEFI if (root / "sys/firmware/efi").exists() else Firmware.BIOS
    lines = [f"description = {_quoted(name)}", f"firmware = {_quoted(firmware)}", *_size(root), *_guards(root)]
    disks, cards = list(_disks(root)), list(_cards(root))
    lines += [*_disk_tables(disks), *_card_tables(cards)]
    cpu = re.search(r"^model name\s*:\s*(.*)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    lines += ["", "[seen]", f"bios = {_quoted(dmi['bios_version'])}", f"cpu = {_quoted(cpu[1] if cpu else '')}"]
    arguments = _read(root / "proc/cmdline")
    arguments = arguments if with_serials else _PRIVATE.sub("…", arguments)
    lines += [
        f"kernel_arguments = {_quoted(arguments)}",
        "pci = [",
        *(f"    {_quoted(row)}," for row in _pci(root)),
        "]",
    ]
    if with_serials:
        lines += ["", "[seen.serials]", *_serials(root, disks, cards)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command of the packed file."""
    parser = argparse.ArgumentParser(
        prog="bootproof-hardware", description="Print this host's hardware profile in TOML."
    )
    parser.add_argument("--serials", action="store_true", help="with serial numbers, MACs and UUIDs (some need root)")
    print(profile(with_serials=parser.parse_args().serials), end="")


def _size(root: Path) -> Iterator[str]:
    """CPUs and memory as the kernel sees them: the firmware keeps a little of the built-in memory."""
    cpus = len(re.findall(r"^processor\s*:", _read(root / "proc/cpuinfo"), re.MULTILINE))
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    yield from [f"cpus = {cpus}"] if cpus else []
    yield from [f"memory_mib = {int(memory[1]) >> 10}"] if memory else []


def _guards(root: Path) -> Iterator[str]:
    for file in sorted((root / "sys/class/watchdog").glob("*/identity")):
        if _read(file) != "Software Watchdog":
            yield f"watchdog = true  # {_plain(_read(file))}"
            break
    version = _read(root / "sys/class/tpm/tpm0/tpm_version_major")
    if version:
        yield "tpm = true" if version == "2" else f"# TPM {_plain(version)}, which is not emulated"


def _disk_tables(disks: Iterable[_Disk]) -> Iterator[str]:
    taken = dict.fromkeys(DiskBus, 0)
    for disk in disks:
        taken[disk.bus] += 1
        about = f"# {disk.name}: {disk.model or 'no model'}, {disk.driver or 'no driver'}"
        if taken[disk.bus] > disk.bus.places:
            yield f"\n{about}: left out, a machine has at most {disk.bus.places} disks on {disk.bus}"
            continue
        yield "\n" + about + (f"; {disk.bus} is the nearest" if disk.driver not in _EXACT else "")
        yield f"[[disk]]\nbus = {_quoted(disk.bus)}\nsize_gib = {max(1, disk.size_bytes >> 30)}"
        if disk.sector_bytes != 512:
            yield f"sector_bytes = {disk.sector_bytes}"
        yield f"role = {_quoted(disk.role)}"


def _card_tables(cards: list[_Card]) -> Iterator[str]:
    """If there are more cards than a machine can have, the last ones without DHCP are left out."""
    left_out = [card for card in cards if not card.has_dhcp][MOST_NICS - 1 :] if len(cards) > MOST_NICS else []
    for card in cards:
        model = _MODELS.get(card.driver, NicModel.E1000E)
        about = f"\n# {card.name}: {card.driver or 'no driver'}"
        if card in left_out:
            yield f"{about}: left out, a machine has at most {MOST_NICS} network cards"
            continue
        yield about + ("" if card.driver in _EXACT else f"; {model} is the nearest")
        yield f"[[nic]]\nmodel = {_quoted(model)}" + ("\ndhcp = true" if card.has_dhcp else "")


def _disks(root: Path) -> Iterator[_Disk]:
    """The built-in disks; /data is on the disk that has it mounted, else on the first."""
    found = [path.name for path in (root / "sys/block").glob("*") if _is_built_in(path)]
    names = sorted(found, key=lambda name: (len(name), name))
    mounts = [line.split()[:2] for line in _read(root / "proc/mounts").splitlines()]
    sources = [source.removeprefix("/dev/") for source, target in mounts if target == "/data"]
    data = next((name for name in names for source in sources if (root / "sys/block" / name / source).exists()), None)
    for name in names:
        path = root / "sys/block" / name
        is_data = name == (data or names[0])
        yield _Disk(
            name=name,
            driver=_driver(path / "device", root) or ("nvme" if name.startswith("nvme") else ""),
            model=_plain(" ".join(filter(None, (_read(path / "device/vendor"), _read(path / "device/model"))))),
            size_bytes=int(_read(path / "size") or 0) * 512,  # sysfs-block(5): always of 512 bytes
            sector_bytes=4096 if _read(path / "queue/logical_block_size") == "4096" else 512,
            role=DiskRole.DATA if is_data else _role(root, path),
            serial=_read(path / "device/serial") or _read(path / "serial") or _read(path / "device/vpd_pg80")[4:],
        )


def _is_built_in(path: Path) -> bool:
    is_there = int(_read(path / "size") or 0) > 0 and not _NO_DISKS.match(path.name)
    return is_there and _read(path / "removable") != "1" and _read(path / "hidden") != "1"


def _role(root: Path, path: Path) -> DiskRole:
    """A disk is blank if udev probed it and found nothing; a disk that was not probed counts as foreign."""
    noted = _read(root / "run/udev/data" / f"b{_read(path / 'dev')}")
    is_blank = bool(noted) and not re.search("ID_(FS|PART_TABLE)_TYPE=", noted)
    return DiskRole.BLANK if is_blank and not any(path.glob(f"{path.name}*")) else DiskRole.FOREIGN


def _cards(root: Path) -> Iterator[_Card]:
    """Ethernet cards in bus order, which is the firmware's order too."""
    folder = root / "sys/class/net"
    paths = [path for path in folder.glob("*") if _is_card(path)]
    paths.sort(key=lambda path: (str((path / "device").resolve()), path.name))
    ways = [way for name in _default_routes(root) for way in _below(folder, name)]
    with_carrier = [path.name for path in paths if _read(path / "carrier") == "1"]
    names = [path.name for path in paths]
    chosen = next((name for name in (*ways, *with_carrier, *names) if name in names), None)
    for path in paths:
        yield _Card(
            name=path.name,
            driver=_driver(path / "device", root),
            address=_read(path / "address"),
            has_dhcp=path.name == chosen,
        )


def _is_card(path: Path) -> bool:
    """Whether it is Ethernet (type 1 in Linux, if_arp.h), not wireless, and not a virtual function of another card."""
    is_ethernet = (path / "device").exists() and _read(path / "type") == "1"
    return is_ethernet and not any((path / name).exists() for name in ("wireless", "phy80211", "device/physfn"))


def _default_routes(root: Path) -> Iterator[str]:
    for line in _read(root / "proc/net/route").splitlines()[1:]:
        name, target, *_ = line.split()
        if target == "00000000":
            yield name


def _below(folder: Path, name: str) -> Iterator[str]:
    """``name`` and the links below it: those of a bridge, a bond or a VLAN."""
    yield name
    for lower in sorted((folder / name).glob("lower_*")):
        yield from _below(folder, lower.name.removeprefix("lower_"))


def _driver(device: Path, root: Path) -> str:
    """The driver of the device, or of the nearest device above it."""
    place = device.resolve()
    for path in (place, *place.parents):
        if path == root.resolve():
            break
        name = (path / "driver").resolve().name if (path / "driver").exists() else ""
        if name and name not in _GENERIC_DRIVERS:
            return name
    return ""


def _pci(root: Path) -> Iterator[str]:
    for path in sorted((root / "sys/bus/pci/devices").glob("*")):
        numbers = [_read(path / name).removeprefix("0x") for name in ("class", "vendor", "device")]
        driver = (path / "driver").resolve().name if (path / "driver").exists() else ""
        yield f"{path.name} {numbers[0][:4]} {numbers[1]}:{numbers[2]} {driver}".rstrip()


def _serials(root: Path, disks: Iterable[_Disk], cards: Iterable[_Card]) -> Iterator[str]:
    for name in _NUMBERS_OF_THE_BOARD:
        file = root / "sys/class/dmi/id" / name
        if value := _read(file):
            yield f"{name} = {_quoted(value)}"
        elif file.exists():
            yield f"# {name} is readable by root only"
    yield from (f"{_quoted(disk.name)} = {_quoted(disk.serial)}" for disk in disks if disk.serial)
    yield from (f"{_quoted(card.name)} = {_quoted(card.address)}" for card in cards if card.address)


def _read(file: Path) -> str:
    """The text of ``file``, stripped; empty if it is missing or not readable."""
    try:
        return file.read_bytes().decode("utf-8", "replace").strip(" \n\t\0")
    except OSError:
        return ""


def _plain(text: str) -> str:
    """``text`` on one line, for a comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _quoted(text: str) -> str:
    """``text`` as a TOML string, which has the escapes of JSON."""
    return json.dumps("".join(letter if letter.isprintable() else " " for letter in text), ensure_ascii=False)

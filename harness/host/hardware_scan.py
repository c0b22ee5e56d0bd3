"""Scans this host and writes a hardware profile, for `--hardware FILE` and `bootproof fits`.

Reads only /sys, /proc, /dev/kmsg, udev's database in /run and libvirt's files, below a ``root`` folder. A device that
QEMU does not emulate is replaced by the nearest one, with a comment that names the real device. ``[seen]`` has what a
prediction needs: ``devices`` there is a line a device (`_device_lines`), which thousands of files can be read by, and
``guests`` counts what the guests of the host have.

This file, and what it imports of the harness, run under Python 3.9 without any package: ``make hardware-scan`` packs
them into one file for production hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.host.guest_scan import guest_lines
from harness.model.device_kinds import MOST_NICS, PROFILE_SCHEMA, DiskBus, DiskRole, Firmware, NicModel

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
_SEEN_BUSES = ("pci", "usb", "virtio", "vmbus", "xen", "mmc", "acpi", "platform")
_LEVELS = (
    ("lm",),
    ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"),
    ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"),
    ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
)
"""The flags in /proc/cpuinfo that each level of x86-64 adds (System V ABI, AMD64 supplement, 3.1.1)."""
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_UDEV_NAMES = {"ID_NET_NAME_ONBOARD": "onboard", "ID_NET_NAME_SLOT": "slot", "ID_NET_NAME_PATH": "path"}
_LOG_BYTES = 16 << 20
_FIRMWARE_FILE = re.compile(
    r"(?<![\w./+-])[\w.+-]+(?:/[\w.+-]+)*"
    r"\.(?:bin|fw|ucode|pkg|sfi|hcd|img|mbn|pnvm|ddc|mfa2|cis|bseq|tlv|nffw|dsp|inp|rom|hex|sbin)\b"
)
_FAILED_LOAD = re.compile(r"Direct firmware load for (\S+) failed|firmware: failed to load (\S+)")
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
    place: Path


def profile(root: Path = Path("/"), *, with_serials: bool = False) -> str:
    """The hardware profile of the host below ``root`` as TOML, without serial numbers, MACs and UUIDs by default."""
    dmi = {name: _read(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name", "bios_version")}
    name = " ".join(dict.fromkeys(filter(None, (dmi["sys_vendor"], dmi["product_name"])))) or "a host without DMI"
    firmware = Firmware.UEFI if (root / "sys/firmware/efi").exists() else Firmware.BIOS
    lines = [f"schema = {PROFILE_SCHEMA}", f"description = {_quoted(name)}", f"firmware = {_quoted(firmware)}"]
    lines += [*_size(root), *_guards(root)]
    disks, cards = list(_disks(root)), list(_cards(root))
    lines += [*_disk_tables(disks), *_card_tables(cards)]
    arguments = _read(root / "proc/cmdline")
    arguments = arguments if with_serials else _PRIVATE.sub("…", arguments)
    log = _KernelLog.read(root)
    lines += ["", "[seen]", f"bios = {_quoted(dmi['bios_version'])}", *_cpu(root)]
    lines += [
        f"kernel = {_quoted(_read(root / 'proc/sys/kernel/osrelease'))}",
        f"kernel_arguments = {_quoted(arguments)}",
        f"kernel_log = {_quoted(log.state)}",
        *_secure_boot(root),
        "devices = '''",
        *_device_lines(root, disks, cards, log),
        "'''",
    ]
    lines += guest_lines(root)
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
            place=(path / "device").resolve(),
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


def _cpu(root: Path) -> Iterator[str]:
    """The first CPU: its name, its signature, the level of x86-64 that it has, and the revision of its microcode."""
    rows = re.findall(r"^([^\t:\n]+?)\s*: ?(.*)$", _read(root / "proc/cpuinfo").partition("\n\n")[0], re.MULTILINE)
    found = dict(rows)
    yield f"cpu = {_quoted(found.get('model name', ''))}"
    if "vendor_id" in found:
        numbers = "-".join(found.get(key, "?") for key in ("cpu family", "model", "stepping"))
        yield f"cpu_signature = {_quoted(found['vendor_id'] + ' ' + numbers)}"
    if "flags" in found:
        flags = set(found["flags"].split())
        missing = [number for number, wanted in enumerate(_LEVELS) if not flags.issuperset(wanted)]
        yield f"cpu_level = {missing[0] if missing else len(_LEVELS)}  # of x86-64: 3 is x86-64-v3"
    if "microcode" in found:
        yield f"microcode = {_quoted(found['microcode'])}"


def _secure_boot(root: Path) -> Iterator[str]:
    """The variable of UEFI 2.10, 3.3: four bytes of attributes, then 1 if it is on."""
    try:
        value = (root / _SECURE_BOOT).read_bytes()
    except OSError:
        return
    yield f"secure_boot = {'true' if value[4:5] == bytes([1]) else 'false'}"


class _KernelLog(NamedTuple):
    """``state`` is "whole", "its beginning is lost", or why it was not read; ``loaded`` and ``failed`` are the firmware
    files of each device, by its address."""

    state: str
    loaded: dict[str, list[str]]
    failed: dict[str, list[str]]

    @classmethod
    def read(cls, root: Path) -> _KernelLog:
        loaded: dict[str, list[str]] = {}
        failed: dict[str, list[str]] = {}
        try:
            records = _records(root / "dev/kmsg")
        except OSError as error:
            return cls(f"not readable: {error.strerror}", loaded, failed)
        first = records[0].split(",")[1:2] if records else []
        for record in records:
            _, _, text = record.partition(";")
            words = text.split(": ", 1)[0].split()
            if len(words) < 2:
                continue
            address = next((word for word in words[1:] if re.match(r"[0-9a-f]{4}:|\d+-\d", word)), words[-1])
            missing = _FAILED_LOAD.search(text)
            if missing:
                failed.setdefault(address, []).append(missing[1] or missing[2])
            elif re.search(r"firmware|microcode|ucode|\bFW\b", text) and not re.search(r"fail|error|not found", text):
                loaded.setdefault(address, []).extend(_FIRMWARE_FILE.findall(text))
        return cls("whole" if first in (["0"], []) else "its beginning is lost", loaded, failed)


def _records(file: Path) -> list[str]:
    """The records of the kernel log as /dev/kmsg has them (Linux, Documentation/ABI/testing/dev-kmsg): "priority,
    number,time,flags;text", one a read."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    parts: list[bytes] = []
    left_bytes = _LOG_BYTES
    try:
        while left_bytes > 0:
            try:
                part = os.read(descriptor, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # the record was overwritten meanwhile: the next read has the next one
                continue
            if not part:
                break
            parts.append(part)
            left_bytes -= len(part)
    finally:
        os.close(descriptor)
    text = b"".join(parts).decode("utf-8", "replace")
    return [line for line in text.split("\n") if ";" in line and not line.startswith(" ")]


def _device_lines(root: Path, disks: list[_Disk], cards: list[_Card], log: _KernelLog) -> Iterator[str]:
    """A line a device: its bus and address, then words "key=value" of those that are known, and the words ``boot`` (the
    card that the host boots from) and ``data`` (the disk for /data is behind it).

    Blanks and other characters that would end a word are percent-encoded. ``path`` is below /sys/devices, so a device
    is behind another if its path begins with that one's.
    """
    top = (root / "sys/devices").resolve()
    entries = [
        (bus, entry, entry.resolve())
        for bus in _SEEN_BUSES
        for entry in sorted((root / "sys/bus" / bus / "devices").glob("*"))
        if _is_of_interest(bus, entry)
    ]
    behind = _disks_behind(root, disks, {place for _, _, place in entries})
    for bus, entry, place in entries:
        here, below = [card for card in cards if card.place == place], behind.get(place, [])
        known = {
            **_numbers(bus, entry),
            "driver": (entry / "driver").resolve().name if (entry / "driver").exists() else "",
            "module": _module(entry),
            "out_of_tree": "yes" if "O" in _read(entry / "driver/module/taint") else "",
            "interface": ",".join(card.name for card in here),
            "names": ",".join(name for card in here for name in _names(root, card.name)),
            "disks": ",".join(disk.name for disk, _ in below),
            "upper": ",".join(sorted({upper for _, upper in below if upper})),
            "firmware": ",".join(dict.fromkeys(log.loaded.get(entry.name, []))),
            "no_firmware": ",".join(dict.fromkeys(log.failed.get(entry.name, []))),
            "path": str(place.relative_to(top)) if top in place.parents else "",
            "modalias": _modalias(entry),
        }
        words = [f"{key}={quote(value, safe=_SAFE)}" for key, value in known.items() if value]
        words += ["boot"] if any(card.has_dhcp for card in here) else []
        words += ["data"] if any(disk.role is DiskRole.DATA for disk, _ in below) else []
        yield " ".join([bus, quote(entry.name, safe=_SAFE), *words])


_SAFE = ":/*,.-_+?[]()"
"""What is not percent-encoded in the words of a device's line, besides letters and digits."""


def _is_of_interest(bus: str, entry: Path) -> bool:
    """Of USB devices their interfaces, whose drivers do something; of devices that drivers make themselves, none."""
    has_driver = (entry / "driver").exists()
    if bus == "usb":
        return ":" in entry.name and (entry / "driver").resolve().name != "hub"
    if bus == "platform":
        return has_driver and (entry / "firmware_node").exists()
    return has_driver if bus == "acpi" else has_driver or (entry / "modalias").exists()


def _numbers(bus: str, entry: Path) -> dict[str, str]:
    def number(name: str) -> str:
        return _read(entry / name).replace("0x", "", 1)

    if bus in ("pci", "virtio"):
        found = {"id": (number("vendor"), number("device"))}
        if bus == "pci":
            found["subsystem"] = (number("subsystem_vendor"), number("subsystem_device"))
        return {**{key: ":".join(pair) for key, pair in found.items() if all(pair)}, "class": number("class")}
    if bus == "usb":
        pair = [_read(entry.resolve().parent / name) for name in ("idVendor", "idProduct")]
        return {"id": ":".join(pair) if all(pair) else "", "class": _read(entry / "bInterfaceClass")}
    return {}


def _modalias(entry: Path) -> str:
    """Devices of MMC have no such file, and name it in their events."""
    found = re.search(r"^MODALIAS=(.+)$", _read(entry / "uevent"), re.MULTILINE)
    return _read(entry / "modalias") or (found[1] if found else "")


def _module(device: Path) -> str:
    """The module of the device's driver, as the kernel spells it; also of one that is built in, if the kernel says."""
    link = device / "driver/module"
    return link.resolve().name.replace("-", "_") if link.exists() else ""


def _disks_behind(root: Path, disks: Iterable[_Disk], places: set[Path]) -> dict[Path, list[tuple[_Disk, str]]]:
    """The disks of each controller, which is the nearest of ``places`` above a disk, with the modalias of the disk's
    own driver: that is the same for every controller of SCSI, so it is noted with the controller."""
    found: dict[Path, list[tuple[_Disk, str]]] = {}
    for disk in disks:
        upper = ""
        for path in _above(root / "sys/block" / disk.name):
            if path in places:
                found.setdefault(path, []).append((disk, upper))
                break
            modalias = _read(path / "modalias")
            upper = upper or (modalias if modalias.startswith("scsi:") else "")
    return found


def _above(block: Path) -> Iterator[Path]:
    """The devices above a disk, the nearest first. One of NVMe may be behind a subsystem, which several controllers
    share: then above its first controller."""
    place = (block / "device").resolve()
    if "nvme-subsystem" in place.parts:
        controllers = sorted(path for path in place.glob("nvme*") if (path / "device").exists())
        place = (controllers[0] / "device").resolve() if controllers else place
    yield place
    yield from place.parents


def _names(root: Path, interface: str) -> Iterator[str]:
    """The names that udev found for it by its place: ``path:enp1s0``."""
    number = _read(root / "sys/class/net" / interface / "ifindex")
    for line in _read(root / "run/udev/data" / f"n{number}").splitlines() if number else ():
        key, _, name = line.removeprefix("E:").partition("=")
        if key in _UDEV_NAMES:
            yield f"{_UDEV_NAMES[key]}:{name}"


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

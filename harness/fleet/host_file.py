"""A host of a fleet as `bootproof hardware` describes it: what of a hardware profile matters for its drivers."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.core.errors import UsageError
from harness.core.text import escaped
from harness.model.hardware import check_schema

_MOST_BYTES = 4 << 20
_MOST_DEVICES = 10_000
_KEYS = {"schema", "description", "firmware", "cpus", "memory_mib", "clock", "watchdog", "tpm", "disk", "nic", "seen"}
_COMPRESSED = (".xz", ".zst", ".gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device. ``id`` and ``subsystem`` are "vendor:device" in hex, ``path`` is below /sys/devices.

    ``module`` is that of the ``driver`` in use, empty if the kernel did not say. ``firmware`` are the files that the
    host loaded for it, ``no_firmware`` those that the host lacks. ``upper`` are the modaliases of the disks behind it.
    ``is_boot``: the host boots by this network card; ``has_data``: the disk for /data is behind it. ``is_exact`` is
    False if the modalias is made of numbers of which some are not known.
    """

    bus: str
    address: str = ""
    id: str = ""
    subsystem: str = ""
    class_: str = ""
    modalias: str = ""
    driver: str = ""
    module: str = ""
    is_out_of_tree: bool = False
    firmware: tuple[str, ...] = ()
    no_firmware: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    disks: tuple[str, ...] = ()
    upper: tuple[str, ...] = ()
    path: str = ""
    is_boot: bool = False
    has_data: bool = False
    is_exact: bool = True

    @property
    def title(self) -> str:
        """The same for each device of its kind: ``pci 8086:1572 (i40e)``."""
        what = self.id or self.modalias or self.address
        return escaped(f"{self.bus} {what}" + (f" ({self.driver})" if self.driver else ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestsInUse:
    """The names of what the guests of a host have, in order. ``state`` is "whole", or why some are not known."""

    state: str
    machine_types: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHost:
    """A host. What its file does not say is None or empty; ``model`` is the file's description."""

    name: str
    model: str = ""
    firmware: str = ""
    secure_boot: bool | None = None
    cpu_level: int | None = None
    kernel: str = ""
    kernel_arguments: str = ""
    kernel_log: str = ""
    devices: tuple[Device, ...] = ()
    guests: GuestsInUse | None = None
    schema: int = 2


class BadHostFile(UsageError):
    """A file of a fleet that is not read, in a sentence."""


def pci_modalias(
    vendor: int, device: int, subvendor: int = 0, subdevice: int = 0, *, class_: int = 0, interface: int = 0
) -> str:
    """A PCI device's modalias (Linux, drivers/pci/pci-sysfs.c, modalias_show); ``class_`` has base class and
    subclass."""
    numbers = f"v{vendor:08X}d{device:08X}sv{subvendor:08X}sd{subdevice:08X}"
    return f"pci:{numbers}bc{class_ >> 8:02X}sc{class_ & 0xFF:02X}i{interface:02X}"


def find_files(places: Iterable[Path]) -> Iterator[Path | BadHostFile]:
    """The files of a fleet: files, and those named *.toml in folders and in folders below, in the order of their names.

    A place without any is an error. Links to folders are not followed.
    """
    for place in places:
        if not os.path.isdir(place):  # False where it cannot be looked at
            yield place
            continue
        count = 0
        errors = list[OSError]()
        for folder, folders, names in os.walk(place, onerror=errors.append):
            folders.sort()
            for name in sorted(names):
                if name.endswith(".toml"):
                    count += 1
                    yield Path(folder, name)
        for error in errors:
            yield BadHostFile(f"{escaped(str(error.filename))} cannot be read: {error.strerror}")
        if not count and not errors:
            yield BadHostFile(f"{escaped(str(place))} has no file *.toml; run bootproof hardware on each host")


def read_host(file: Path) -> FleetHost:
    """The host that ``file`` describes; `BadHostFile` or `NewerFormat` say in a sentence why not."""
    shown = escaped(str(file))
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            state = os.fstat(opened.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise BadHostFile(f"{shown} is not a regular file")
            if state.st_size > _MOST_BYTES:
                raise BadHostFile(f"{shown} has {state.st_size:,} bytes, and no hardware profile has more than 4 MiB")
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadHostFile(f"{shown} cannot be read: {error.strerror}") from error
    return parse_host(content, shown)


def parse_host(content: bytes, name: str) -> FleetHost:
    """The host that ``content`` describes; errors as of `read_host`."""
    try:
        plain = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadHostFile(f"{name} is not a text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = "" if isinstance(error, RecursionError) else f": {escaped(str(error))}"
        raise BadHostFile(f"{name} is not TOML, or was not written to its end{why}") from error
    schema = _of(plain, "schema", int, 1)
    if schema is None or schema < 1:
        raise BadHostFile(f"{name}: schema {plain.get('schema')!r:.40} is not a number of a format")
    check_schema(schema, name)
    if unknown := sorted(set(plain) - _KEYS):
        raise BadHostFile(f"{name} is not a hardware profile: it has the key {escaped(unknown[0])[:80]!r}")
    seen = plain.get("seen")
    if not isinstance(seen, dict) or not ("devices" in seen or "pci" in seen):
        raise BadHostFile(f"{name} lists no devices: it is of another origin than bootproof hardware, or was cut off")
    try:
        return _host(plain, seen, name, schema)
    except (TypeError, ValueError) as error:
        raise BadHostFile(f"{name}: [seen] is damaged: {escaped(str(error))[:200]}") from error


def _host(plain: dict[str, Any], seen: dict[str, Any], name: str, schema: int) -> FleetHost:
    devices = tuple(_devices(seen) if "devices" in seen else _older_devices(seen["pci"]))
    return FleetHost(
        name=name.removesuffix(".toml"),
        model=escaped(_text(plain, "description"))[:120] or "(no description)",
        firmware=_text(plain, "firmware"),
        secure_boot=_of(seen, "secure_boot", bool, None),
        cpu_level=_of(seen, "cpu_level", int, None),
        kernel=_text(seen, "kernel"),
        kernel_arguments=_text(seen, "kernel_arguments"),
        kernel_log=_text(seen, "kernel_log"),
        devices=devices,
        guests=_guests(seen),
        schema=schema,
    )


def _guests(seen: dict[str, Any]) -> GuestsInUse | None:
    """None for a host without libvirt, and in a file of a Bootproof that did not look."""
    table = seen.get("guests")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise TypeError("guests is not a table")
    return GuestsInUse(
        state=_text(table, "state") or "whole",  # written by hand
        machine_types=_names(table, "machine_types"),
        cpu_models=_names(table, "cpu_models"),
        firmware=_names(table, "firmware"),
    )


def _names(table: dict[str, Any], kind: str) -> tuple[str, ...]:
    counts = table.get(kind, {})
    if not isinstance(counts, dict) or len(counts) > _MOST_DEVICES:
        raise ValueError(f"{kind} is not a table of counts")
    return tuple(sorted(escaped(name) for name in counts))


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def _of(table: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = table.get(key, default)
    return value if type(value) is kind or value is default else None


def _devices(seen: dict[str, Any]) -> Iterator[Device]:
    lines = _text(seen, "devices").splitlines()
    if len(lines) > _MOST_DEVICES:
        raise ValueError(f"{len(lines):,} devices; a host has at most {_MOST_DEVICES:,}")
    for line in lines:
        if line:
            yield parse_device(line)


@lru_cache(maxsize=20_000)
def parse_device(line: str) -> Device:
    """A line of ``devices``, as `bootproof hardware` writes it; `ValueError` for another. Keys of later versions are
    left out."""
    words = [unquote(word) if "%" in word else word for word in line.split()]
    bus, address = (*words[:2], "", "")[:2]
    known, flags = dict[str, str](), set[str]()
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if equals:
            known[key] = value
        else:
            flags.add(key)
    if not bus.isalnum() or not address or flags - {"boot", "data"}:
        raise ValueError(f"{line[:80]!r} is not the line of a device")
    driver = known.get("driver", "")
    return Device(
        bus=bus,
        address=address,
        id=known.get("id", ""),
        subsystem=known.get("subsystem", ""),
        class_=known.get("class", ""),
        modalias=known.get("modalias", ""),
        driver=driver,
        module=known.get("module", "").replace("-", "_"),
        is_out_of_tree=known.get("out_of_tree") == "yes",
        firmware=_firmware(known.get("firmware", "")),
        no_firmware=_firmware(known.get("no_firmware", "")),
        interfaces=_list(known.get("interface", "")),
        names=tuple((kind, name) for kind, _, name in (one.partition(":") for one in _list(known.get("names", "")))),
        disks=_list(known.get("disks", "")),
        upper=_list(known.get("upper", "")),
        path=known.get("path", ""),
        is_boot="boot" in flags,
        has_data="data" in flags,
    )


def _list(value: str) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _firmware(value: str) -> tuple[str, ...]:
    """Without the ends of compressed files."""
    names = []
    for name in _list(value):
        end = next((end for end in _COMPRESSED if name.endswith(end)), "")
        names.append(name.removesuffix(end))
    return tuple(names)


def _older_devices(rows: Any) -> Iterator[Device]:
    """Of a file of schema 1: "address class vendor:device driver". Subsystem and interface are not known."""
    if not isinstance(rows, list) or len(rows) > _MOST_DEVICES:
        raise ValueError("pci is not a list of devices")
    for row in rows:
        address, class_, numbers, *driver = str(row).split()
        vendor, device = (int(number, 16) for number in numbers.split(":"))
        name = driver[0] if driver else ""
        yield Device(
            bus="pci",
            address=address,
            id=numbers,
            class_=class_,
            modalias=pci_modalias(vendor, device, class_=int(class_, 16)),
            driver=name,
            is_exact=False,
        )

"""Pairs of a device and an image: what `harness.fleet` predicts from files, and what the booted image then did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.fleet import Device, Effect, FleetHost, ImageDrivers, predict

from .devices import SCSI_DISK, Emulated, Part, Placed
from .machine import PciNumbers
from .survey import INITRD, PLACES, Truth

DRIVES, DRIVES_NOT, NOT_TOLD = "will drive", "will not", "not told"
_LACKS = {Effect.WILL_NOT_BOOT, Effect.MISSING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """``predicted`` is one of "will drive", "will not" and "not told", ``said`` the sentences of that; ``seen`` are the
    drivers, disks and interfaces that the guest had, ``is_driven`` if there was a disk or an interface."""

    image: str
    place: str
    kind: str
    device: str
    id: str
    predicted: str
    said: tuple[str, ...]
    is_driven: bool | None = None
    seen: tuple[str, ...] = ()

    @property
    def is_wrong_drive(self) -> bool:
        return self.predicted == DRIVES and self.is_driven is False

    @property
    def is_wrong_not(self) -> bool:
        return self.predicted == DRIVES_NOT and self.is_driven is True

    @property
    def is_wrong(self) -> bool:
        return self.is_wrong_drive or self.is_wrong_not


def host_with(placed: Placed, numbers: PciNumbers, *, is_early: bool) -> FleetHost:
    """A host with this device alone, as `bootproof hardware` describes it under a kernel that has all drivers.

    With ``is_early`` it boots by this card, or has /data behind this controller.
    """
    one, path = placed.device, f"pci0000:00/0000:00:{placed.address}"
    chain = [
        Device(
            bus="pci", address=f"0000:00:{placed.address}", id=numbers.id, class_=f"{numbers.class_:04x}00",
            subsystem=f"{numbers.subvendor:04x}:{numbers.subdevice:04x}", modalias=numbers.modalias,
            driver=one.driver, module=one.module, path=path,
        )
    ]  # fmt: skip
    for number, part in enumerate(one.parts):
        path = f"{path}/{part.bus}{number}"
        chain.append(_device(part, path))
    end = replace(
        chain[-1],
        is_boot=is_early and not one.is_disk,
        has_data=is_early and one.is_disk,
        upper=(SCSI_DISK,) if one.is_scsi else (),
    )
    return FleetHost(name=one.name, firmware="bios", cpu_level=4, kernel_log="whole", devices=(*chain[:-1], end))


def _device(part: Part, path: str) -> Device:
    return Device(
        bus=part.bus, address=path.rpartition("/")[2], modalias=part.modalias, driver=part.driver, module=part.module,
        path=path,
    )  # fmt: skip


def predicted(image: ImageDrivers, placed: Placed, numbers: PciNumbers) -> Iterator[Pair]:
    """For the initrd, and for the root file system."""
    for place in PLACES:
        host = host_with(placed, numbers, is_early=place == INITRD)
        titles = {device.title for device in host.devices}
        about = [one for one in predict(image, host) if one.device in titles]
        lacks = [one for one in about if one.effect in _LACKS]
        unknown = [one for one in about if one.effect is Effect.NOT_TOLD]
        word = DRIVES_NOT if lacks else NOT_TOLD if unknown else DRIVES
        yield Pair(
            image=image.image, place=place, kind=placed.device.kind, device=placed.device.name, id=numbers.id,
            predicted=word, said=tuple(f"{one.id}: {one.device}: {one.what}" for one in lacks or unknown),
        )  # fmt: skip


def compared(pair: Pair, placed: Placed, truth: Mapping[str, Truth]) -> Pair:
    """The pair with what the guest told of the device."""
    seen, path = truth[pair.place], f"pci0000:00/0000:00:{placed.address}"
    drivers = (bound.driver for bound in seen.below(path).values() if bound.driver not in ("-", "sd"))
    made = seen.made(path, is_disk=placed.device.is_disk)
    log = (line for line in seen.log if placed.address in line)
    return replace(pair, is_driven=bool(made), seen=(*dict.fromkeys(drivers), *made, *log))


def differences(placed: Iterable[Placed], numbers: Mapping[str, PciNumbers], truth: Truth) -> list[str]:
    """Where a guest sees another modalias than that of the prediction, which then was about another device."""
    found = list[str]()
    for one in placed:
        path = f"pci0000:00/0000:00:{one.address}"
        below = truth.below(path)
        if path not in below:
            found.append(f"{one.device.name}: the guest has no device at {one.address}")
            continue
        if below[path].modalias != numbers[one.address].modalias:
            found.append(f"{one.device.name}: {numbers[one.address].modalias}, seen {below[path].modalias}")
        found += _of_parts(one.device, [bound.modalias for bound in below.values() if bound.bus != "pci"])
    return found


def _of_parts(device: Emulated, seen: list[str]) -> Iterator[str]:
    """A guest without a driver for the PCI function sees nothing behind it. A USB device's version may change with its
    firmware."""
    unversioned = {re.sub(r"d[0-9A-F]{4}dc", "d*dc", one) for one in seen}
    for part in device.parts:
        if (
            any(one.startswith(f"{part.bus}:") for one in seen)
            and re.sub(r"d[0-9A-F]{4}dc", "d*dc", part.modalias) not in unversioned
        ):
            yield f"{device.name}: {part.modalias}, seen {', '.join(seen)}"

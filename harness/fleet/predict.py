"""Predicts what an image does on a host: whether it boots, what will not work, what changes, what cannot be told.

Pure: `predict` takes what is known of the image and the host, and reads nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.fleet.drivers import DriverTree, ImageDrivers, Match
from harness.fleet.guests import about_guests
from harness.fleet.host_file import Device, FleetHost
from harness.fleet.prediction import Effect, Prediction, changes, lacks, not_told, will_not_boot

_KERNEL_NAME = re.compile(r"eth\d+")
_MOST_REMEMBERED = 100_000
_MOST_FILES_SHOWN = 4


def predict(drivers: ImageDrivers, host: FleetHost) -> tuple[Prediction, ...]:
    """What the image does on ``host``, the gravest first. For many hosts, one `Predictor` is quicker."""
    return Predictor(drivers).about(host)


@cache
def _known() -> dict[str, frozenset[str]]:
    with Path(__file__).with_name("known.toml").open("rb") as file:
        plain: dict[str, Any] = tomllib.load(file)
    return {key: frozenset(values) for key, values in plain.items()}


class Predictor:
    """Predicts for many hosts: what it said of a device is remembered for others of the same kind."""

    def __init__(self, drivers: ImageDrivers) -> None:
        self._drivers = drivers
        self._said = dict[Any, tuple[Prediction, ...]]()
        self._of_device = dict[int, tuple[Device, tuple[Prediction, ...]]]()

    def about(self, host: FleetHost) -> tuple[Prediction, ...]:
        """All predictions, the gravest first, each once."""
        order = {effect: place for place, effect in enumerate(Effect)}
        found = sorted(self.kinds(host), key=lambda one: order[one.effect])
        return tuple(replace(one, host=host.name) for one in found)

    def kinds(self, host: FleetHost) -> tuple[Prediction, ...]:
        """As `about`, without the host's name and in no order: the same objects for hosts of the same kind."""
        drivers, found = self._drivers, list[Prediction]()
        found += self._once(
            ("host", host.firmware, host.secure_boot, host.cpu_level, host.schema),
            lambda: (*_about_cpu(drivers, host), *_about_firmware(drivers, host), *_about_file(host)),
        )
        if guests := host.guests:
            found += self._once(("guests", guests), lambda: tuple(about_guests(drivers.guests, guests)))
        decided = dict[int, set[str]]()
        if drivers.is_netbooted:
            found += self._about_boot(host, "nic", decided)
        if drivers.data_in:
            found += self._about_boot(host, "disk", decided)
        for number, device in enumerate(host.devices):
            said = self._device(device)
            if before := decided.get(number):
                found += [one for one in said if one.id not in before and "*" not in before]
            else:
                found += said
            if device.interfaces and device.names:
                found += self._once(
                    ("names", device.title, device.interfaces, device.names),
                    lambda device=device: tuple(_about_names(drivers, device)),  # type: ignore[misc]  # a default binds it now
                )
        return tuple({id(one): one for one in found}.values())

    def _device(self, device: Device) -> tuple[Prediction, ...]:
        """Lines that are the same are one object (`parse_device`), by which most answers are found."""
        known = self._of_device.get(id(device))
        if known is None or known[0] is not device:
            if len(self._of_device) >= _MOST_REMEMBERED:
                self._of_device.clear()
            said = self._once(_kind(device), lambda: tuple(_about_device(self._drivers, device)))
            known = self._of_device[id(device)] = (device, said)
        return known[1]

    def _way(self, device: Device, role: str, is_end: bool) -> tuple[Prediction, ...]:
        key = (role, is_end, _kind(device))
        return self._once(key, lambda: tuple(_on_the_way(self._drivers, device, role, is_end)))

    def _once(self, key: Any, say: Callable[[], tuple[Prediction, ...]]) -> tuple[Prediction, ...]:
        found = self._said.get(key)
        if found is None:
            if len(self._said) >= _MOST_REMEMBERED:
                self._said.clear()
            found = self._said[key] = say()
        return found

    def _about_boot(self, host: FleetHost, role: str, decided: dict[int, set[str]]) -> Iterator[Prediction]:
        """The devices between the board and the card or the disk: each needs its driver before the root starts.

        Adds to ``decided`` what was said of which device: "*" if nothing more is to be said.
        """
        found = False
        for end in host.devices:
            if not (end.is_boot if role == "nic" else end.has_data):
                continue
            found = True
            for number, device in enumerate(host.devices):
                is_end = device is end
                if is_end or (device.path and end.path.startswith(f"{device.path}/")):
                    if said := self._way(device, role, is_end):
                        is_all = any(one.effect is Effect.WILL_NOT_BOOT for one in said)
                        decided.setdefault(number, set()).update({"*"} if is_all else {one.id for one in said})
                    yield from said
        if not found:
            what = {
                "nic": "the file does not say by which network card the host boots",
                "disk": "the file does not say which controller the disk for /data hangs on",
            }[role]
            yield from self._once(("end", role), lambda: (not_told("host-not-told", "host", what),))


def _kind(device: Device) -> Any:
    """What predictions about a device depend on."""
    return (
        device.title, device.modalias, device.module, device.is_out_of_tree, device.firmware, device.no_firmware,
        device.upper, device.is_exact,
    )  # fmt: skip


# The host as a whole


def _about_cpu(drivers: ImageDrivers, host: FleetHost) -> Iterator[Prediction]:
    needed = drivers.cpu_level
    if needed > 1 and host.cpu_level is None:
        what = f"the image needs {_level(needed)}, and the file has no flags of the CPU"
        yield not_told("host-not-told", "cpu", what)
    elif host.cpu_level is not None and host.cpu_level < max(needed, 1):
        what = f"the image needs {_level(max(needed, 1))}, and the CPU has {_level(host.cpu_level)}"
        evidence = f"the C library or process 1 is marked as needing {_level(needed)}" if needed else ""
        yield will_not_boot("cpu-too-old", f"cpu {_level(host.cpu_level)}", what, evidence)


def _level(level: int) -> str:
    return {0: "no 64-bit mode", 1: "x86-64"}.get(level, f"x86-64-v{level}")


def _about_firmware(drivers: ImageDrivers, host: FleetHost) -> Iterator[Prediction]:
    if host.firmware != "uefi":
        return
    if not drivers.is_efi:
        what = "the host starts by UEFI, and the kernel has no part that UEFI starts"
        yield will_not_boot("kernel-not-efi", "uefi", what)
    elif host.secure_boot and not drivers.is_signed:
        yield will_not_boot("kernel-unsigned", "secure boot", "Secure Boot is on, and the kernel has no signature")
    elif host.secure_boot:
        what = "Secure Boot is on, and the kernel is signed: whether the host trusts the signer is not in the files"
        yield not_told("host-not-told", "secure boot", what)


def _about_file(host: FleetHost) -> Iterator[Prediction]:
    if host.schema < 2:
        what = "the file is of an older Bootproof: no subsystems, modules, USB devices and firmware files are in it"
        yield not_told("host-not-told", "file", what, cause="run bootproof hardware on the host again")


# Devices


@dataclass(frozen=True, slots=True)
class _Driven:
    """The answer for one device and some file systems: ``modules`` drive it; ``is_same``: the one in use is among them,
    None if that cannot be told. ``is_unknown`` says why nothing is known; ``refused`` are reasons of those not
    loaded."""

    modules: tuple[str, ...] = ()
    is_same: bool | None = None
    by_class: bool = False
    is_unknown: str = ""
    refused: tuple[str, ...] = ()


def _driven(drivers: ImageDrivers, device: Device, trees: tuple[DriverTree, ...]) -> _Driven:
    matches = [drivers.match_builtin(device.modalias), *(tree.match(device.modalias) for tree in trees)]
    modules = tuple(dict.fromkeys(module for match in matches for module in match.modules))
    refused = tuple(dict.fromkeys(why for match in matches for why in match.refused.values()))
    in_use, driver = device.module, device.driver.replace("-", "_")
    loaded = frozenset(modules)
    for tree, match in zip(trees, matches[1:], strict=True):
        loaded |= tree.with_softdeps(match.modules)
    if in_use and (in_use in loaded or in_use in drivers.builtin):
        return _Driven((in_use,), is_same=True)
    if modules:
        is_same = False if in_use else (driver in loaded or None)
        return _Driven(modules, is_same, by_class=_is_by_class(modules, matches), refused=refused)
    if driver and driver in drivers.builtin:
        return _Driven((driver,), is_same=True)
    return _Driven(refused=refused, is_unknown="" if refused else _unknown(device, trees))


def _is_by_class(modules: tuple[str, ...], matches: list[Match]) -> bool:
    return all(any(module in match.by_class for match in matches) for module in modules)


def _unknown(device: Device, trees: tuple[DriverTree, ...]) -> str:
    """Why it cannot be told whether a device has a driver that no alias names."""
    if not device.modalias:
        return "the host's kernel gives it no modalias"
    if not device.is_exact:
        return "its subsystem is not in the file"
    if device.driver and not device.module:
        return f"{device.driver} is built into the host's kernel, which names no module for it"
    trees = tuple(tree for tree in trees if tree.loads(device.module))
    if trees and not any(tree.lists_devices(device.module, device.modalias) for tree in trees):
        return f"the image has {device.module}, and no alias of it is of this bus: a rule or a quirk may bind it"
    return ""


def _about_device(drivers: ImageDrivers, device: Device) -> Iterator[Prediction]:
    """A device that the host drives. A driver of the initrd stays when the root starts."""
    if not device.driver or _needs_none(device):
        return
    driven = _driven(drivers, device, (drivers.root, drivers.initrd))
    if device.driver in _known()["bound_by_rule"]:
        yield not_told("driver-not-told", device.title, f"a rule of the host binds {device.driver} to it")
        return
    if driven.is_unknown:
        yield not_told("driver-not-told", device.title, f"whether it has a driver: {driven.is_unknown}")
        return
    if not driven.modules:
        cause, evidence = _why_out_of_tree(device), _why_none(device, driven)
        yield lacks("device-undriven", device.title, "the image has no driver for it", *evidence, cause=cause)
        return
    if device.is_out_of_tree:
        what = f"the host drives it with {device.module}, built out of tree; the image has {', '.join(driven.modules)}"
        yield not_told("driver-not-told", device.title, what)
    elif driven.is_same is False and driven.by_class:
        what = f"{device.module} is missing; {', '.join(driven.modules)} binds to its class alone"
        yield not_told("driver-not-told", device.title, what, f"modalias {device.modalias}")
    elif driven.is_same is False:
        what = f"{', '.join(driven.modules)} will drive it, not {device.module}"
        yield changes("driver-changes", device.title, what, f"modalias {device.modalias}", *driven.refused)
    yield from _about_files(drivers, device, driven.modules)


def _needs_none(device: Device) -> bool:
    return device.driver in _known()["in_every_kernel"]


def _why_none(device: Device, driven: _Driven) -> tuple[str, ...]:
    return (f"modalias {device.modalias}", *driven.refused[:3])


def _why_out_of_tree(device: Device) -> str:
    is_so = device.is_out_of_tree
    return f"the host's {device.module} was built out of tree, and the image does not have it" if is_so else ""


def _on_the_way(drivers: ImageDrivers, device: Device, role: str, is_end: bool) -> Iterator[Prediction]:
    """A device that must work before the root starts, or before /data is mounted."""
    if _needs_none(device) or not (device.driver or is_end):
        return
    in_initrd = role == "nic" or drivers.data_in == "initrd"
    trees = (drivers.initrd,) if in_initrd else (drivers.initrd, drivers.root)
    place = "the initrd" if in_initrd else "the image"
    nic = "the host boots by it" if is_end else "the card that the host boots by is behind it"
    name, why = {
        "nic": ("boot-nic-undriven", nic),
        "disk": ("boot-disk-undriven", "the disk for /data is behind it"),
    }[role]
    driven = _driven(drivers, device, trees)
    if driven.is_unknown:
        what = f"whether {place} has a driver for it: {driven.is_unknown}; {why}"
        yield not_told("driver-not-told", device.title, what)
    elif not driven.modules:
        other = drivers.root.match(device.modalias).modules if in_initrd else ()
        more = (f"the root file system has {', '.join(other)}",) if other else ()
        what = f"{place} has no driver for it; {why}"
        yield will_not_boot(name, device.title, what, *_why_none(device, driven), *more)
    else:
        yield from _about_early_files(drivers, device, driven.modules, role, why)
    for upper in device.upper if is_end else ():
        matches = [drivers.match_builtin(upper), *(tree.match(upper) for tree in trees)]
        is_listed = any(match.modules for match in matches) or "sd_mod" in drivers.builtin
        if upper.startswith("scsi:") and not is_listed:
            refused = (why for match in matches for why in match.refused.values())
            what = f"{place} has no driver for the disks behind it"
            yield will_not_boot(name, device.title, what, f"modalias {upper}", *refused)


# Firmware files


def _about_files(drivers: ImageDrivers, device: Device, modules: tuple[str, ...]) -> Iterator[Prediction]:
    is_early = any(drivers.initrd.loads(module) or module in drivers.builtin for module in modules)
    problem = _problem(drivers, device, modules, (drivers.root, drivers.initrd))
    if problem:
        yield _told(problem, device, "the image", lacks)
    elif is_early and (early := _problem(drivers, device, modules, (drivers.initrd,))) and not early.why:
        what = f"its driver starts in the initrd, which lacks {_files(early.files)}: it may not ask again"
        yield not_told("firmware-not-told", device.title, what)


def _about_early_files(
    drivers: ImageDrivers, device: Device, modules: tuple[str, ...], role: str, why: str
) -> Iterator[Prediction]:
    in_initrd = role == "nic" or drivers.data_in == "initrd"
    trees = (drivers.initrd,) if in_initrd else (drivers.initrd, drivers.root)
    problem = _problem(drivers, device, modules, trees)
    if problem and not problem.is_optional:
        yield _told(problem, device, "the initrd" if in_initrd else "the image", will_not_boot, why)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Files that are missing; ``why`` it cannot be told whether the device needs one, empty if it does. The driver
    starts without if they are ``is_optional``."""

    module: str
    files: tuple[str, ...]
    why: str = ""
    is_optional: bool = False
    evidence: tuple[str, ...] = ()


def _told(
    problem: _Problem, device: Device, place: str, report: Callable[..., Prediction], why: str = ""
) -> Prediction:
    if problem.why:
        what = f"whether {place} has the firmware that {problem.module} needs for it: {problem.why}"
        return not_told("firmware-not-told", device.title, what, *problem.evidence)
    what = f"{place} lacks the firmware of {problem.module}: {_files(problem.files)}" + (f"; {why}" if why else "")
    return report("driver-firmware-missing", device.title, what, *problem.evidence)


def _files(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_FILES_SHOWN} more" if len(names) > _MOST_FILES_SHOWN else ""
    return ", ".join(names[:_MOST_FILES_SHOWN]) + more


def _problem(
    drivers: ImageDrivers, device: Device, modules: tuple[str, ...], trees: tuple[DriverTree, ...]
) -> _Problem | None:
    """What is wrong with the firmware of the first of ``modules`` that names or needs files; None if nothing is.

    A driver names the files of all its chips. Which one a device needs is known only from what the host loaded.
    """
    for module in modules:
        named = _named(drivers, module)
        have = {name for name in named if any(tree.has_firmware(name) for tree in trees)}
        wanted = (*device.firmware, *named)
        reasons = tuple(dict.fromkeys(why for name in wanted for tree in trees if (why := tree.unusable.get(name))))[:3]
        is_optional = module in _known()["optional_firmware"]
        loaded = device.firmware if device.module in ("", module) else ()
        if loaded:
            if lost := tuple(name for name in loaded if not _has(name, named, have, trees)):
                seen = f"the host loaded {_files(lost)}"
                if not named or (have and not any(_same(name, other) for name in lost for other in named)):
                    return _Problem(module, lost, f"{seen}, and this driver does not name it", False, reasons)
                return _Problem(module, lost, "", is_optional, (seen, *reasons))
            continue
        if is_optional or have >= set(named):
            continue
        missing = tuple(name for name in named if name not in have)
        if have:
            return _Problem(module, missing, f"of {len(named)} files that it names, {len(missing)} are missing")
        if set(device.no_firmware) & set(named):
            return _Problem(module, missing, "the host lacks such files, too", False, reasons)
        return _Problem(module, missing, "", False, (f"{module} names {len(named)} files, and none is there", *reasons))
    return None


def _named(drivers: ImageDrivers, module: str) -> tuple[str, ...]:
    for files in (drivers.root.modules.get(module), drivers.initrd.modules.get(module), drivers.builtin.get(module)):
        if files:
            return files
    return ()


def _has(name: str, named: tuple[str, ...], have: set[str], trees: tuple[DriverTree, ...]) -> bool:
    """Whether the file ``name`` that a host loaded is there. Drivers print names in parts: without a folder or a
    prefix."""
    return any(tree.has_firmware(name) for tree in trees) or any(_same(name, other) for other in named if other in have)


def _same(printed: str, name: str) -> bool:
    return name == printed or name.endswith((f"/{printed}", f"-{printed}"))


# Names of interfaces


def _about_names(drivers: ImageDrivers, device: Device) -> Iterator[Prediction]:
    """Names by the default policy of udev: on board, by slot, by path (systemd.net-naming-scheme(7))."""
    by_place = dict(device.names)
    expected = by_place.get("onboard") or by_place.get("slot") or by_place.get("path") or ""
    places = (f"names by its place: {', '.join(by_place.values())}",)
    by_kernel = "net.ifnames=0" in drivers.kernel_arguments
    for name in device.interfaces:
        is_by_kernel = _KERNEL_NAME.fullmatch(name) is not None
        if by_kernel and not is_by_kernel:
            what = f"{name} will have a name of the kernel's: eth0, eth1, … in the order in which cards are found"
            yield changes("interface-renamed", device.title, what, "the kernel arguments have net.ifnames=0")
        elif not by_kernel and is_by_kernel and expected:
            yield changes("interface-renamed", device.title, f"{name} will be {expected}", *places)
        elif not by_kernel and not is_by_kernel and name not in by_place.values():
            what = f"{name} is not a name by its place: a rule of the host made it, and the image may have none"
            yield not_told("interface-not-told", device.title, what, *places)

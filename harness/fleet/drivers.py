"""What an image's files say about drivers, as a value: which modules its kernel loads for a device, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import ClassVar

from harness.core.serialization import Format
from harness.fleet.aliases import AliasIndex
from harness.model.guest_contract import GuestContract


@dataclass(frozen=True, slots=True)
class Match:
    """What is loaded for a device: ``modules``, those of ``by_class`` for its class alone. ``refused`` maps modules
    that match and are not loaded to the reason."""

    modules: tuple[str, ...] = ()
    by_class: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DriverTree:
    """The modules of one file system, by name, each with the firmware files that it names.

    ``aliases`` are "pattern module". ``absent`` maps a module that cannot be loaded to a module that it needs and that
    is not there; ``blacklisted`` and ``blocked`` map a module to the file that says so. ``firmware`` are the files that
    the kernel can load, without the ends of compressed ones; ``unusable`` maps others to the reason.
    """

    modules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    softdeps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    blacklisted: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    firmware: tuple[str, ...] = ()
    unusable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _index(self) -> AliasIndex:
        return AliasIndex(self.aliases)

    @cached_property
    def _buses(self) -> frozenset[tuple[str, str]]:
        lines = (line.rpartition(" ") for line in self.aliases)
        return frozenset((module, pattern.partition(":")[0].rstrip("*")) for pattern, _, module in lines)

    def lists_devices(self, module: str, modalias: str) -> bool:
        """Whether the module has aliases of the bus of that modalias: then these are all devices that it drives."""
        return (module, modalias.partition(":")[0]) in self._buses

    @cached_property
    def _firmware(self) -> frozenset[str]:
        return frozenset(self.firmware)

    def match(self, modalias: str) -> Match:
        """The modules that udev has loaded for such a device."""
        loaded, by_class, refused = list[str](), set[str](), dict[str, str]()
        for module, is_by_class in self._index.match(modalias):
            if reason := self._refusal(module):
                refused[module] = reason
                continue
            loaded.append(module)
            if is_by_class:
                by_class.add(module)
        return Match(tuple(loaded), frozenset(by_class), refused)

    def _refusal(self, module: str) -> str:
        if module not in self.modules:
            return f"{module} is named by an alias, and its file is missing"
        if module in self.blacklisted:
            return f"{module} is blacklisted in {self.blacklisted[module]}"
        if module in self.blocked:
            return f"{self.blocked[module]} replaces the load of {module}"
        if module in self.absent:
            return f"{module} needs {self.absent[module]}, which is missing"
        return ""

    def loads(self, module: str) -> bool:
        """Whether it can be loaded by its name."""
        return module in self.modules and module not in self.blocked and module not in self.absent

    def with_softdeps(self, modules: tuple[str, ...]) -> frozenset[str]:
        """``modules``, and those that are loaded with them by softdep."""
        todo, found = list(modules), set[str]()
        while todo:
            module = todo.pop()
            if module not in found:
                found.add(module)
                todo += [other for other in self.softdeps.get(module, ()) if self.loads(other)]
        return frozenset(found)

    def has_firmware(self, name: str) -> bool:
        if "*" in name:
            return any(fnmatchcase(file, name) for file in self.firmware)
        return name in self._firmware


@dataclass(frozen=True, kw_only=True)
class ImageDrivers:
    """What is known of an image: enough to say which devices it drives, nothing of the files themselves.

    ``builtin`` are the drivers in the kernel's file with the firmware that they name; ``builtin_aliases`` are "pattern
    module", and complete only if ``knows_builtin``. ``cpu_level`` is the level of x86-64 that its programs need, 0 if
    they do not say. ``is_netbooted``: the initrd brings up the network. ``data_in`` is where /data is mounted:
    "initrd", "root", or "" for an image without. ``guests`` is what it offers to guests: None unless a run that is
    known recorded it, as it is not in the files.
    """

    FORMAT: ClassVar[Format] = Format(kind="an image's drivers", number=2, upgrades={1: dict})

    format: int = 2
    image: str
    version: str
    artifacts: str
    kernel_version: str
    kernel_arguments: tuple[str, ...] = ()
    root: DriverTree
    initrd: DriverTree
    builtin: dict[str, tuple[str, ...]] = field(default_factory=dict)
    builtin_aliases: tuple[str, ...] = ()
    knows_builtin: bool = False
    cpu_level: int = 0
    is_efi: bool = True
    is_signed: bool = False
    is_netbooted: bool = True
    data_in: str = ""
    has_config: bool = True
    guests: GuestContract | None = None

    @cached_property
    def _builtin_index(self) -> AliasIndex:
        return AliasIndex(self.builtin_aliases)

    def match_builtin(self, modalias: str) -> Match:
        found = self._builtin_index.match(modalias)
        return Match(tuple(name for name, _ in found), frozenset(name for name, is_by_class in found if is_by_class))

    def drivers_of(self, modalias: str, *, in_initrd: bool = False) -> tuple[str, ...]:
        """The drivers that such a device gets: those in the kernel's file, those of the initrd, and those of the root
        unless only the initrd counts (``in_initrd``)."""
        trees = (self.initrd,) if in_initrd else (self.initrd, self.root)
        found = [self.match_builtin(modalias), *(tree.match(modalias) for tree in trees)]
        return tuple(dict.fromkeys(module for match in found for module in match.modules))

    @property
    def names(self) -> frozenset[str]:
        """All drivers that are loaded for a device."""
        return frozenset(self._of_devices())

    def _of_devices(self) -> Iterator[str]:
        for line in (*self.root.aliases, *self.initrd.aliases, *self.builtin_aliases):
            yield line.rpartition(" ")[2]
        yield from self.builtin

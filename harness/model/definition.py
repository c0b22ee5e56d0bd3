"""Image definitions: what an image shall be, read from ``images/<name>/image.toml``.

description = "…"                # one line
version = "2026.11"              # becomes IMAGE_VERSION

[build]                          # not there for images that another builder makes
distribution = "debian"
suite = "trixie"
packages = ["systemd-sysv", …]
playbook = "playbook.yml"        # beside image.toml
kernel_arguments = ["…"]         # what the image itself needs; boot paths add root=, ip= and console=

[persist]
disk = { minimum_gib = 4 }       # or { serial = "…" } or { path = "/dev/sda" }
paths = ["/etc/nova", …]         # what is kept
follow = ["/etc/nova/api.ini"]   # defaults inside of them that are the image's until somebody replaces them
tolerates = ["late", …]         # faults of the disk with which the image comes up all the same

[network]
tolerates = ["link-lossy", …]   # network faults in spite of which the image must boot

[expect]
services = ["ssh.service", …]    # enabled and active once ready
sockets = ["libvirtd.socket", …] # enabled and listening once ready
waiting = ["nova-compute.service"]  # enabled, but may wait for a control plane

[boot]
paths = ["direct", "ipxe-bios"]
hardware = ["sata-bios", …]      # profiles of machines on which --thorough must bring it up
memory_mib = 2048
cpus = 2

[budget]
boot_s = 120                     # kernel's first line to ready, emulated; twice that is over budget
rootfs_mib = 700
initrd_mib = 80
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core import digest
from harness.core.config_file import ConfigTable as _Table
from harness.core.config_file import read_table
from harness.core.errors import DefinitionError, UsageError
from harness.model import network_faults
from harness.model.hardware import find_profile
from harness.model.machine_spec import BootPath, DiskFault

DEFINITION_FILE = "image.toml"
_DISTRIBUTIONS = ("debian",)
_UNITS = {"services": ".service", "sockets": ".socket", "waiting": ".service"}

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""os-release(5): IMAGE_ID."""
_VERSION = re.compile(r"[a-zA-Z0-9._+~^-]+")
"""os-release(5): IMAGE_VERSION."""
_VERSION_RULE = "letters, digits and ._+~^- only"
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?")
"""Debian Policy 5.6.1, and what apt-get(8) takes behind it: an architecture, a version or a suite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSelector:
    """How the image knows its persistent disk; exactly one of the three is set."""

    serial: str | None = None
    path: str | None = None
    minimum_gib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDefinition:
    """What an image shall be. ``folder`` holds ``image.toml``, the playbook and its files.

    Without a table ``[build]`` the five fields from ``distribution`` to ``kernel_arguments`` are empty, and the
    artifacts are another builder's.
    """

    name: str
    folder: Path
    description: str
    version: str
    distribution: str
    suite: str
    packages: tuple[str, ...]
    playbook: str
    kernel_arguments: tuple[str, ...]
    disk: DiskSelector
    persistent_paths: tuple[str, ...]
    follow: tuple[str, ...]
    tolerates: tuple[DiskFault, ...]
    tolerated_network_faults: tuple[str, ...]
    services: tuple[str, ...]
    sockets: tuple[str, ...]
    waiting: tuple[str, ...]
    boot_paths: tuple[BootPath, ...]
    hardware: tuple[str, ...]
    memory_mib: int
    cpus: int
    boot_s: int
    rootfs_mib: int
    initrd_mib: int
    secret: tuple[str, ...] = ()
    """Files and folders in persistent paths that no bundle holds."""

    @property
    def can_be_built(self) -> bool:
        return bool(self.suite)

    @property
    def roles(self) -> Path:
        """The roles that several images share."""
        return self.folder.parent / "roles"


def sources_digest(definition: ImageDefinition) -> str:
    """SHA-256 over everything a definition is made of: its folder and the shared roles."""
    parts = [digest.of_folder(folder) for folder in (definition.folder, definition.roles) if folder.is_dir()]
    return digest.of_value([definition.name, *parts])


def load_definition(folder: Path) -> ImageDefinition:
    """The definition in ``folder``; raises `DefinitionError` naming file, key and what would be right."""
    file = folder / DEFINITION_FILE
    if not _NAME.fullmatch(file.absolute().parent.name):
        raise UsageError(f"{folder}: an image's name is its folder's: lower-case letters, digits and ._- only")
    if not file.exists():
        raise UsageError(f"{folder} holds no {DEFINITION_FILE}; an image definition needs one")
    return _read(file, read_table(file))


def _read(file: Path, top: _Table) -> ImageDefinition:
    is_built = "build" in top.content
    build, persist, network, expect, boot, budget = (
        _Table(file, name, top.take(name, dict, "…, a table", {}))
        for name in ("build", "persist", "network", "expect", "boot", "budget")
    )
    definition = ImageDefinition(
        name=file.parent.name,
        folder=file.parent.resolve(),
        description=top.take("description", str, '"Debian with libvirt"'),
        version=top.matching("version", _VERSION, "2026.11", _VERSION_RULE),
        distribution=_distribution(build) if is_built else "",
        suite=build.matching("suite", _SUITE, "trixie", 'a name, for example "trixie"') if is_built else "",
        packages=_packages(build) if is_built else (),
        playbook=_playbook(build) if is_built else "",
        kernel_arguments=_kernel_arguments(build),
        disk=_disk(persist),
        persistent_paths=_persistent_paths(persist),
        follow=_follow(persist),
        secret=_inside(persist, "secret", '["/etc/nova/nova.conf"]'),
        tolerates=_withstands(persist),
        tolerated_network_faults=_tolerated_network_faults(network),
        services=_units(expect, "services"),
        sockets=_units(expect, "sockets"),
        waiting=_units(expect, "waiting"),
        boot_paths=_boot_paths(boot),
        hardware=_hardware(boot),
        memory_mib=boot.take("memory_mib", int, "2048"),
        cpus=boot.take("cpus", int, "2", 2),
        boot_s=budget.take("boot_s", int, "120"),
        rootfs_mib=budget.take("rootfs_mib", int, "700"),
        initrd_mib=budget.take("initrd_mib", int, "80"),
    )
    for table in (build, persist, network, expect, boot, budget, top):
        table.finish()
    both = set(definition.services) & set(definition.waiting)
    if both:
        remedy = "keep it in services if it must be active, in waiting if it needs a control plane"
        raise expect.error("waiting", f"{sorted(both)[0]} is in services too", remedy)
    return definition


def check_version(version: str) -> str:
    """``version``, if an image can have it; `UsageError` if not."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"version {version!r} will not do; {_VERSION_RULE}")
    return version


def _packages(build: _Table) -> tuple[str, ...]:
    names = build.strings("packages", '["openssh-server"]')
    for name in names:
        if not _PACKAGE.fullmatch(name):
            raise build.error("packages", f"{name!r} is no package's name", 'one name a string, for example "dracut"')
    return names


def _kernel_arguments(build: _Table) -> tuple[str, ...]:
    arguments = build.strings("kernel_arguments", '["mitigations=auto"]', [])
    for argument in arguments:
        if argument.split() != [argument]:
            raise build.error("kernel_arguments", f"{argument!r} has blanks in it", "one argument a string")
    return arguments


def _distribution(build: _Table) -> str:
    name = str(build.take("distribution", str, '"debian"'))
    if name not in _DISTRIBUTIONS:
        raise build.error("distribution", f"{name!r} is not supported", f"known: {', '.join(_DISTRIBUTIONS)}")
    return name


def _playbook(build: _Table) -> str:
    name = str(build.take("playbook", str, '"playbook.yml"', "playbook.yml"))
    if not (build.file.parent / name).is_file():
        raise build.error("playbook", f"{name} does not exist", f"put it beside {build.file}")
    return name


def _disk(persist: _Table) -> DiskSelector:
    example = "{ minimum_gib = 4 }"
    table = _Table(persist.file, "persist.disk", persist.take("disk", dict, example))
    if len(table.content) != 1:
        raise persist.error("disk", f"{len(table.content)} keys given", f"exactly one, for example {example}")
    selector = DiskSelector(
        serial=table.take("serial", str, '"S123"', "") or None,
        path=table.take("path", str, '"/dev/sda"', "") or None,
        minimum_gib=table.take("minimum_gib", int, "4", 0) or None,
    )
    table.finish()
    if selector.path and not selector.path.startswith("/dev/"):
        raise table.error("path", f"{selector.path!r} is not a device", 'for example path = "/dev/sda"')
    return selector


def _persistent_paths(persist: _Table) -> tuple[str, ...]:
    paths = persist.strings("paths", '["/etc/nova"]')
    for path in paths:
        if not re.fullmatch(r"(/[^/\s]+)+", path) or ".." in path.split("/"):
            raise persist.error("paths", f"{path!r} will not do", "absolute, no trailing slash: /etc/nova")
        if path == "/data" or path.startswith("/data/"):
            raise persist.error("paths", f"{path!r} is on /data already", "name the path services use")
        inside = [other for other in paths if other.startswith(path + "/")]
        if inside:
            raise persist.error("paths", f"{inside[0]} lies inside {path}", "name only the outer one")
    return paths


def _inside(persist: _Table, key: str, example: str) -> tuple[str, ...]:
    names = persist.strings(key, example, [])
    locations = persist.found["paths"]
    for name in names:
        is_inside = any(name == location or name.startswith(f"{location}/") for location in locations)
        if not is_inside or ".." in name.split("/") or '"' in name or "\n" in name:
            raise persist.error(key, f"{name!r} is in no persistent path", "a path below one of persist.paths")
    return names


def _follow(persist: _Table) -> tuple[str, ...]:
    names = _inside(persist, "follow", '["/etc/nova/api-paste.ini"]')
    for name in names:
        if name in persist.found["paths"]:
            raise persist.error("follow", f"{name!r} is a persistent path", "a path below one of persist.paths")
    return names


def _withstands(persist: _Table) -> tuple[DiskFault, ...]:
    known = [fault.value for fault in DiskFault]
    names = persist.strings("tolerates", '["late", "nvme"]', [])
    for name in names:
        if name not in known:
            raise persist.error("tolerates", f"{name!r} is no fault of a disk", f"known: {', '.join(known)}")
    return tuple(DiskFault(name) for name in names)


def _tolerated_network_faults(network: _Table) -> tuple[str, ...]:
    names = network.strings("tolerates", '["link-lossy", "dhcp-late"]', [])
    for name in names:
        try:
            known = network_faults.read(name)
        except UsageError as error:
            raise network.error("tolerates", f"{name!r} is not a network fault", error.remedy) from None
        if not known.is_transient:
            remedy = "only what passes, or lets a second attempt through"
            raise network.error("tolerates", f"no image tolerates {name} ({known.what})", remedy)
    return names


def _units(expect: _Table, key: str) -> tuple[str, ...]:
    suffix = _UNITS[key]
    units = expect.strings(key, f'["name{suffix}"]', [])
    for unit in units:
        if not unit.endswith(suffix):
            raise expect.error(key, f"{unit!r} is no {suffix[1:]}", f"for example {unit.split('.')[0]}{suffix}")
    return units


def _boot_paths(boot: _Table) -> tuple[BootPath, ...]:
    names = boot.strings("paths", '["direct", "ipxe-bios"]')
    known = [path.value for path in BootPath]
    for name in names:
        if name not in known:
            raise boot.error("paths", f"{name!r} is not a boot path", f"known: {', '.join(known)}")
    if not names:
        raise boot.error("paths", "is empty", f"name at least one of {', '.join(known)}")
    return tuple(BootPath(name) for name in names)


def _hardware(boot: _Table) -> tuple[str, ...]:
    names = boot.strings("hardware", '["sata-bios", "nvme-uefi"]', [])
    for name in names:
        try:
            find_profile(name, boot.file.parent)
        except DefinitionError:
            raise
        except UsageError as error:
            raise boot.error("hardware", error.problem, error.remedy) from None
    return names


def find_images(start: Path) -> Path:
    """The nearest ``images`` folder with a definition in it, upwards from ``start``."""
    for folder in (start, *start.parents):
        if next(_definitions(folder / "images"), None):
            return folder / "images"
    raise UsageError(f"no images/<name>/{DEFINITION_FILE} in {start} or above it; --images-dir names the folder")


def find_definition(name: str, images: Path) -> ImageDefinition:
    """The definition of that name; an unknown name lists those that exist."""
    if name and (images / name / DEFINITION_FILE).is_file() and "/" not in name:
        return load_definition(images / name)
    known = sorted(_definitions(images))
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    raise UsageError(f"no image {name!r} in {images}; {hint}")


def _definitions(images: Path) -> Iterator[str]:
    for file in images.glob(f"*/{DEFINITION_FILE}"):
        yield file.parent.name

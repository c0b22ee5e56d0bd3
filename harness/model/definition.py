"""Image definitions: the requirements of an image, read from ``images/<name>/image.toml``.

description = "…"                # one line
version = "2026.11"              # becomes IMAGE_VERSION

[build]                          # leave it out for images that another builder makes
distribution = "debian"
suite = "trixie"
packages = ["systemd-sysv", …]
repositories = [{ url = "…", key = "…" }]  # of RPM families: at least one; the key is a file beside image.toml
playbook = "playbook.yml"        # beside image.toml
kernel_arguments = ["…"]         # what the image itself needs; boot paths add root=, ip= and console=

[persist]                        # leave it out for a fully stateless image: it gets no disk
disk = { minimum_gib = 4 }       # or { serial = "…" } or { path = "/dev/sda" }
paths = ["/etc/nova", …]         # the persistent paths
image_owned = ["/etc/nova/api.ini"]  # files in them that come with each version, until a host replaces them
redact = ["/etc/nova/keys"]      # files and folders in them that are left out of every bundle
tolerates = ["late", …]          # disk faults with which the image must boot
validate = [                     # commands that complain, with another status than 0, of what a persistent path holds
    { path = "/etc/site", command = "site-agent check" },
]

[network]
tolerates = ["link-lossy", …]    # network faults with which the image must boot

[expect]
services = ["ssh.service", …]    # enabled and active once ready
sockets = ["libvirtd.socket", …] # enabled and listening once ready
waiting = [                      # enabled and running; each may wait for a control plane, and says so in its journal
    { unit = "nova-compute.service", says = "AMQP server .* is unreachable" },  # a regular expression
]
control_plane = "control-plane"  # the image of the control plane that starts these units; --thorough tests against it
identity = "new-each-boot"       # only without persistent paths: machine-id and host keys are new at each boot
listens = ["tcp 0.0.0.0:22 sshd", …]  # what may take packets from the network; * stands for any text

goss = ["goss.yaml"]             # files of goss beside image.toml, which a ready host must meet

[[expect.errors]]                # errors in the journal that this image may have
message = "…"                    # a regular expression for a part of the message
reason = "…"

[[check]]                        # a rule that a ready host must meet
name = "the time zone is UTC"
command = "date +%Z"             # must end with status 0
expect = "^UTC$"                 # optional: a regular expression for a part of what it prints
cause = "…"                      # optional: the suspected cause if it does not

[boot]
paths = ["direct", "ipxe-bios"]
hardware = ["sata-bios", …]      # hardware profiles on which the image must boot; --thorough tests them
memory_mib = 2048
cpus = 2

[[lint.allow]]                   # findings of lint about a path that this image may have
path = "/etc/hosts"              # as lint prints it; * stands for any text
reason = "…"
until = 2027-03-01               # optional: findings again from then on

[[host.allow]]                   # findings of the check host that this image may have, in the same form
path = "swap:/dev/zram0"
reason = "…"

[[soak.allow]]                   # findings of the check soak that this image may have, in the same form
path = "unit:agent.service"
reason = "…"

[budget]
boot_s = 120                     # from the kernel's first line to ready, emulated; the limit is twice that
boot_idle_s = 10                 # of these, what the CPUs may be idle while a unit starts, emulated or not
guest_gap_s = 300                # optional: how long guests may not answer over an upgrade; the limit is twice that
rootfs_mib = 700
initrd_mib = 80
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path

from harness.core import digest
from harness.core.config_file import ConfigTable, read_table, suggestion
from harness.core.errors import DefinitionError, UsageError
from harness.model import network_faults
from harness.model.definition_build import (
    DISTRIBUTIONS,
    Repository,
    read_kernel_arguments,
    read_packages,
    read_playbook,
    read_repositories,
    read_suite,
)
from harness.model.definition_persist import (
    DiskSelector,
    Validator,
    read_disk,
    read_image_owned,
    read_inside,
    read_persistent_paths,
    read_validators,
)
from harness.model.definition_rules import (
    ControlPlaneImage,
    check_regex,
    read_checks,
    read_control_plane,
    read_goss_files,
)
from harness.model.hardware import find_profile
from harness.model.machine_spec import BootPath, DiskFault
from harness.model.rules import GossResource, OwnCheck
from harness.model.unit_names import same_service

DEFINITION_FILE = "image.toml"
_UNITS = {"services": ".service", "sockets": ".socket"}
_WAITING = '[{ unit = "name.service", says = "server .* is unreachable" }]'

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""os-release(5): IMAGE_ID."""
_VERSION = re.compile(r"[a-zA-Z0-9._+~^-]+")
"""os-release(5): IMAGE_VERSION."""
_VERSION_RULE = "letters, digits and ._+~^- only"
_LINT_PATH = re.compile(r"(initrd:)?/\S.*|[a-z]+:.*")
_LISTENS = re.compile(r"(tcp|udp|udplite|raw|packet|vsock|\*) \S+:([0-9A-F]+|\*) \S+( in \S+)?")
_NOT_BLANK = re.compile(r".*\S.*")
_SERVICE = re.compile(r"\S+\.service")

KEEPS_NOTHING = "the image keeps nothing: it has no persistent paths"
"""Why a check about /data is not applicable to a fully stateless image."""


class Identity(StrEnum):
    """Whether a machine's identity (machine-id, SSH host keys, …) stays the same over its boots."""

    KEPT = "kept"
    NEW_EACH_BOOT = "new-each-boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Findings of lint or of the check ``host`` about ``path``, in which * stands for any text, are allowed for a
    ``reason``, to the day ``until``."""

    path: str
    reason: str
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedError:
    """Errors in the journal whose ``message`` has a part that this regular expression matches are known."""

    message: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDefinition:
    """The requirements of an image. ``folder`` holds ``image.toml``, the playbook and its files.

    Without a table ``[build]`` the fields from ``distribution`` to ``playbook`` are empty, and another builder makes
    the artifacts.
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
    image_owned: tuple[str, ...]
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
    repositories: tuple[Repository, ...] = ()
    """The sources of an RPM family; other distributions have their own archive."""
    redact: tuple[str, ...] = ()
    """Files and folders in persistent paths that are left out of every bundle."""
    identity: Identity = Identity.KEPT
    lint_allow: tuple[Allowance, ...] = ()
    host_allow: tuple[Allowance, ...] = ()
    soak_allow: tuple[Allowance, ...] = ()
    listens: tuple[str, ...] = ()
    """What may take packets from the network, as "tcp 0.0.0.0:22 sshd"."""
    expected_errors: tuple[ExpectedError, ...] = ()
    checks: tuple[OwnCheck, ...] = ()
    goss: tuple[GossResource, ...] = ()
    boot_idle_s: int = 10
    guest_gap_s: int | None = None
    """None for no limit."""
    """How many seconds a boot may wait while the CPUs are idle."""
    backports: bool = False
    """Whether packages come from ``<suite>-backports`` where it has them."""
    waiting_says: dict[str, str] = field(default_factory=dict)
    """What units of ``waiting`` say while they wait: regular expressions. The others need not say anything."""
    validators: tuple[Validator, ...] = ()
    control_plane: ControlPlaneImage | None = None
    """The image with which ``waiting`` units wait no longer."""

    @property
    def may_wait(self) -> tuple[str, ...]:
        """The units of ``waiting``, by all their names."""
        return tuple(name for unit in self.waiting for name in same_service(unit))

    @property
    def check_names(self) -> tuple[str, ...]:
        """The names of its own checks."""
        return tuple(check.name for check in self.checks)

    @property
    def goss_names(self) -> tuple[str, ...]:
        """The names of the resources in its goss files."""
        return tuple(resource.name for resource in self.goss)

    @property
    def control_planes(self) -> tuple[str, ...]:
        """The name of the image of the control plane, if there is one."""
        return (self.control_plane.image,) if self.control_plane else ()

    @property
    def can_be_built(self) -> bool:
        return bool(self.suite)

    @property
    def roles(self) -> Path:
        """The folder of the roles that several images share."""
        return self.folder.parent / "roles"


def sources_digest(definition: ImageDefinition) -> str:
    """SHA-256 over all files of a definition: its folder and the shared roles."""
    parts = [digest.of_folder(folder) for folder in (definition.folder, definition.roles) if folder.is_dir()]
    return digest.of_value([definition.name, *parts])


def load_definition(folder: Path) -> ImageDefinition:
    """The definition in ``folder``; `DefinitionError` names file, key, problem and remedy."""
    file = folder / DEFINITION_FILE
    if not _NAME.fullmatch(file.absolute().parent.name):
        raise UsageError(f"{folder}: the folder's name is the image's name: lower-case letters, digits and ._- only")
    if not file.exists():
        raise UsageError(f"{folder} holds no {DEFINITION_FILE}; every image definition needs one")
    return _read(file, read_table(file))


def _read(file: Path, top: ConfigTable) -> ImageDefinition:
    is_built = "build" in top.content
    names = ("build", "persist", "network", "expect", "boot", "lint", "host", "soak", "budget")
    tables = [top.table(name) for name in names]
    build, persist, network, expect, boot, lint, host, soak, budget = tables
    waiting = dict(_waiting(expect))
    definition = ImageDefinition(
        name=file.parent.name,
        folder=file.parent.resolve(),
        description=top.take("description", str, '"a hypervisor with libvirt"'),
        version=top.matching("version", _VERSION, "2026.11", _VERSION_RULE),
        distribution=build.one_of("distribution", DISTRIBUTIONS, "a supported distribution") if is_built else "",
        suite=read_suite(build) if is_built else "",
        backports=build.take("backports", bool, "true", False),
        packages=read_packages(build) if is_built else (),
        repositories=read_repositories(build),
        playbook=read_playbook(build) if is_built else "",
        kernel_arguments=read_kernel_arguments(build),
        disk=read_disk(persist),
        persistent_paths=read_persistent_paths(persist),
        image_owned=read_image_owned(persist),
        redact=read_inside(persist, "redact", '["/etc/nova/nova.conf"]'),
        validators=tuple(read_validators(persist)),
        tolerates=tuple(
            map(DiskFault, persist.some_of("tolerates", list(DiskFault), "a disk fault", '["late", "nvme"]', ()))
        ),
        tolerated_network_faults=_tolerated_network_faults(network),
        services=_units(expect, "services"),
        sockets=_units(expect, "sockets"),
        waiting=tuple(waiting),
        waiting_says={unit: says for unit, says in waiting.items() if says},
        identity=Identity(expect.one_of("identity", list(Identity), "a rule for the identity", Identity.KEPT)),
        boot_paths=_boot_paths(boot),
        hardware=_hardware(boot),
        memory_mib=boot.take("memory_mib", int, "2048"),
        cpus=boot.take("cpus", int, "2", 2),
        lint_allow=tuple(map(_allowance, lint.tables("allow"))),
        host_allow=tuple(map(_allowance, host.tables("allow"))),
        soak_allow=tuple(map(_allowance, soak.tables("allow"))),
        listens=_listens(expect),
        expected_errors=tuple(map(_expected_error, expect.tables("errors"))),
        checks=read_checks(top),
        goss=read_goss_files(expect),
        control_plane=read_control_plane(expect),
        boot_s=budget.take("boot_s", int, "120"),
        boot_idle_s=budget.take("boot_idle_s", int, "10", 10, least=0),
        guest_gap_s=budget.take("guest_gap_s", int, "300", None),
        rootfs_mib=budget.take("rootfs_mib", int, "700"),
        initrd_mib=budget.take("initrd_mib", int, "80"),
    )
    for table in (*tables, top):
        table.finish()
    both = set(definition.services) & set(definition.waiting)
    if both:
        remedy = "keep it in services if it must be active, in waiting if it needs a control plane"
        raise expect.error("waiting", f"{sorted(both)[0]} is in services too", remedy)
    if definition.persistent_paths and definition.identity is Identity.NEW_EACH_BOOT:
        raise expect.error("identity", "an image with persistent paths keeps its identity", "remove this key")
    return definition


def check_version(version: str) -> str:
    """``version``, if it is valid for an image; `UsageError` if not."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"version {version!r} is not valid; {_VERSION_RULE}")
    return version


def _tolerated_network_faults(network: ConfigTable) -> tuple[str, ...]:
    names = network.strings("tolerates", '["link-lossy", "dhcp-late"]', ())
    for name in names:
        try:
            known = network_faults.read(name)
        except UsageError as error:
            raise network.error("tolerates", error.problem, error.remedy) from None
        if not known.is_transient:
            remedy = "name faults that end by themselves, or that a second attempt gets past, such as link-lossy"
            raise network.error("tolerates", f"no image tolerates {name} ({known.what})", remedy)
    return names


def _units(expect: ConfigTable, key: str) -> tuple[str, ...]:
    suffix = _UNITS[key]
    units = expect.strings(key, f'["name{suffix}"]', ())
    for unit in units:
        if not unit.endswith(suffix):
            raise expect.error(key, f"{unit!r} is not a {suffix[1:]} unit", f"for example {unit.split('.')[0]}{suffix}")
    return units


def _waiting(expect: ConfigTable) -> Iterator[tuple[str, str]]:
    """Each unit that may wait, and what it says meanwhile: empty if only the unit is named."""
    known = set[str]()
    for number, value in enumerate(expect.take("waiting", list, _WAITING, [])):
        row = ConfigTable(
            expect.file, f"expect.waiting[{number}]", {"unit": value} if isinstance(value, str) else value
        )
        unit = row.matching("unit", _SERVICE, "name.service", 'name a service, for example "name.service"')
        says = row.matching("says", _NOT_BLANK, "server .* is unreachable", "write a part of a line that it says", "")
        check_regex(row, "says", says)
        row.finish()
        if unit in known:
            raise expect.error("waiting", f"{unit!r} is listed twice", "list it once")
        known.add(unit)
        yield unit, says


def _boot_paths(boot: ConfigTable) -> tuple[BootPath, ...]:
    names = boot.some_of("paths", list(BootPath), "a boot path", '["direct", "ipxe-bios"]')
    if not names:
        raise boot.error("paths", "is empty", f"name at least one of {', '.join(BootPath)}")
    return tuple(BootPath(name) for name in names)


def _hardware(boot: ConfigTable) -> tuple[str, ...]:
    names = boot.strings("hardware", '["sata-bios", "nvme-uefi"]', ())
    for name in names:
        try:
            find_profile(name, boot.file.parent)
        except DefinitionError:
            raise
        except UsageError as error:
            raise boot.error("hardware", error.problem, error.remedy) from None
    return names


def _listens(expect: ConfigTable) -> tuple[str, ...]:
    example = "tcp 0.0.0.0:22 sshd"
    declared = expect.strings("listens", f'["{example}"]', ())
    for one in declared:
        if not _LISTENS.fullmatch(one):
            raise expect.error("listens", f"{one!r} is not valid", f'protocol, address and program: "{example}"')
    return declared


def _expected_error(row: ConfigTable) -> ExpectedError:
    message = row.matching("message", _NOT_BLANK, "no such device", "write a regular expression for a part of it")
    check_regex(row, "message", message)
    reason = row.matching("reason", _NOT_BLANK, "the board has no such device", "write the reason in a sentence")
    row.finish()
    return ExpectedError(message=message, reason=reason)


def _allowance(row: ConfigTable) -> Allowance:
    allowance = Allowance(
        path=row.matching("path", _LINT_PATH, "/etc/hosts", "a path as lint prints it, such as /etc/hosts"),
        reason=row.matching("reason", _NOT_BLANK, "the lab resolves it", "write the reason in a sentence"),
        until=row.take("until", date, "2027-03-01, without quotes", None),
    )
    row.finish()
    return allowance


def find_images(start: Path) -> Path:
    """The nearest ``images`` folder that holds a definition, in ``start`` or above it."""
    for folder in (start, *start.parents):
        if next(_definitions(folder / "images"), None):
            return folder / "images"
    raise UsageError(f"no images/<name>/{DEFINITION_FILE} in {start} or above it; --images-dir names the folder")


def find_definition(name: str, images: Path) -> ImageDefinition:
    """The definition called ``name``; `UsageError` for an unknown name lists the known ones."""
    if name and (images / name / DEFINITION_FILE).is_file() and "/" not in name:
        return load_definition(images / name)
    raise UsageError(f"no image {name!r} in {images}; {suggestion(name, sorted(_definitions(images)))}")


def _definitions(images: Path) -> Iterator[str]:
    for file in images.glob(f"*/{DEFINITION_FILE}"):
        yield file.parent.name

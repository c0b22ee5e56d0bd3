"""The options of a run with ``--image``: what pytest accepts, and `RunOptions`, what it means.

pytest loads this module in every repository of the environment, so it imports nothing heavy until `read_options`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.core.errors import UsageError
from harness.model.machine_spec import BootPath, default_boot_path

if TYPE_CHECKING:
    from harness.model.artifacts import InTree
    from harness.model.definition import ImageDefinition
    from harness.model.hardware import HardwareProfile
    from harness.model.network_faults import NetworkFault
    from harness.model.qemu import Qemu
    from harness.model.shard import ImagePlan, ShardPlan


_POWER_CUTS = 20000
_SOAK_MINUTES = 10
_HIDDEN = "==SUPPRESS=="
"""The help text of an option that --help does not list."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options, by subject."""
    add = parser.getgroup("bootproof", "Bootproof: test hypervisor images in QEMU").addoption
    # fmt: off
    # what is tested
    add("--image", action="append", default=[], metavar="NAME", help="Build, boot and test this image (repeatable).")
    add("--images-dir", metavar="DIR", help="Folder of the image definitions (default: the nearest images/, upwards).")
    add("--artifacts", metavar="DIR|TREE@DIGEST",
        help="Test these artifacts of another builder: kernel, initrd, root file system in DIR; or those that "
        "`bootproof push` sent to TREE, a folder, URL or remote of rclone. With --plan, TREE has all that it needs.")
    add("--kernel-arguments", metavar="TEXT",
        help="With --artifacts without manifest.json (default: the file DIR/cmdline, else the definition's).")
    add("--previous", metavar="DIR|TREE@DIGEST",
        help="Artifacts to upgrade from; DIR may have those of another image (default: upgrade to a second build).")
    # how machines are booted
    add("--boot-path", action="append", default=[], choices=[path.value for path in BootPath],
        help="Use only this boot path (repeatable; default: all boot paths of the definition).")
    add("--hardware", metavar="NAME|FILE",
        help="Boot machines of this hardware profile: a name, or a file written by `bootproof hardware`.")
    add("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="QEMU's accelerator (default: auto).")
    add("--qemu", metavar="PROGRAM",
        help="QEMU to boot machines with (default: $BOOTPROOF_QEMU, else the quickest that is installed).")
    add("--network", choices=["auto", "lab", "user"], default="auto",
        help="Network of the machines: a lab, or QEMU's user network if this host cannot open a lab (default: auto).")
    add("--network-fault", action="append", default=[], metavar="NAME",
        help="Inject this network fault into all labs, for example dhcp-late (repeatable; see docs/network-faults.md).")
    # how much is tested
    add("--thorough", action="store_true",
        help="Also run the long tests: power cuts, disk and network faults, hardware, late units, upgrades, a soak.")
    add("--power-cuts", type=int, metavar="N",
        help="With --thorough: check N disk states that a power cut could leave, boot one in 1000 "
        f"(default: {_POWER_CUTS}).")
    add("--soak", type=int, metavar="MINUTES",
        help="With --thorough: watch a host for so long, used and through 30 days by its clock "
        f"(default: {_SOAK_MINUTES}).")
    add("--repeat", type=int, default=1, metavar="N",
        help="Run each test N times, each time on freshly booted machines; not --thorough's tests (default: 1).")
    add("--seed", type=int, default=1, metavar="N", help="Seed for random choices, such as power cuts (default: 1).")
    # many hosts: docs/shards.md
    add("--shard", metavar="I/N", help="Run part I of N of --plan; auto takes I from the engine that runs this job.")
    add("--plan", metavar="FILE", help="With --shard: the plan of all parts, which `bootproof plan` wrote.")
    add("--shard-status", choices=["pool", "strict"], default="pool",
        help="With --shard, the exit status of a part that failed: 0, because it has a verdict (pool), or 1 (strict).")
    add("--write-plan", metavar="FILE", help=_HIDDEN)  # for bootproof plan
    # the verdict, and what is kept of failures
    add("--sign-key", metavar="FILE", help="Sign the attestation with this Ed25519 key (default: $BOOTPROOF_SIGN_KEY).")
    add("--policy", metavar="FILE", help="Requirements of the streams (default: policy.toml beside the images).")
    add("--run-dir", metavar="DIR", help="Folder for logs and verdicts (default: runs/); write it as --run-dir=DIR.")
    add("--bundle-artifacts", action="store_true", help="Add kernel, initrd and root file system to bundles.")
    add("--bundle-memory", action="store_true", help="Add a failed guest's memory to bundles, for crash(8).")
    add("--keep-failed", action="store_true",
        help="Keep a machine that fails running until `bootproof stop`; `bootproof attach` connects to it.")
    add("--keep-minutes", type=int, default=60, metavar="N",
        help="With --keep-failed: stop the machine after N minutes (default: 60).")
    # fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one run, parsed and validated. ``policy`` is the SHA-256 of the policy file, empty without one.

    ``kernel_arguments`` is None if the option was not given, ``qemu`` if neither that nor the environment names one.
    With a ``plan``, only its ``shard``, counted from 1, is run. ``write_plan`` is where `Collected` is written instead
    of running tests.
    """

    definitions: Mapping[str, ImageDefinition]
    artifacts: Path | InTree | None = None
    kernel_arguments: tuple[str, ...] | None = None
    previous: Path | InTree | None = None
    boot_paths: tuple[BootPath, ...] = ()
    hardware: HardwareProfile | None = None
    accelerator: str = "auto"
    qemu: Qemu | None = None
    network: str = "auto"
    network_faults: tuple[NetworkFault, ...] = ()
    is_thorough: bool = False
    power_cuts: int = _POWER_CUTS
    soak_minutes: int = _SOAK_MINUTES
    repeats: int = 1
    seed: int = 1
    sign_key: str | None = None
    policy: str = ""
    run_dir: Path | None = None
    bundle_artifacts: bool = False
    bundle_memory: bool = False
    keep_failed: bool = False
    keep_minutes: int = 60
    plan: ShardPlan | None = None
    shard: int = 0
    shard_is_strict: bool = False
    write_plan: Path | None = None

    def planned(self, image: str) -> ImagePlan | None:
        """What the plan says of ``image``; None without a plan, or if the plan is not about it."""
        images = self.plan.collected.images if self.plan else ()
        return next((planned for planned in images if planned.name == image), None)

    @property
    def planned_artifacts(self) -> tuple[str, ...]:
        """The digests of all artifacts of the plan."""
        images = self.plan.collected.images if self.plan else ()
        return tuple(digest for planned in images for digest in planned.artifacts)

    @property
    def cut_boots(self) -> int:
        """How many machines boot from a disk that a power cut left."""
        return max(2, self.power_cuts // 1000)

    def paths_of(self, image: str) -> tuple[BootPath, ...]:
        """The boot paths to test: those of ``--boot-path``, else those of the definition that the hardware supports."""
        from harness.model.hardware import fitting

        return self.boot_paths or fitting(self.hardware, self.definitions[image].boot_paths)

    def default_path_of(self, image: str) -> BootPath:
        """The boot path of tests that need only one."""
        return default_boot_path(self.paths_of(image))

    def second_path_of(self, image: str) -> BootPath:
        """The boot path of a second machine: another than the default, if the run has one that powers a machine on.

        Best is ``direct``, on which no test but those of the second machine needs a boot: see `other_paths_of`.
        """
        default = self.default_path_of(image)
        others = [path for path in self.paths_of(image) if path not in (default, BootPath.KEXEC)]
        return BootPath.DIRECT if BootPath.DIRECT in others else next(iter(others), default)

    def other_paths_of(self, image: str) -> tuple[BootPath, ...]:
        """The boot paths whose upgrade has a test of its own. Not ``direct``, on which the image has no part in the
        choice of the next version: QEMU loads other files."""
        default = self.default_path_of(image)
        return tuple(path for path in self.paths_of(image) if path not in (default, BootPath.DIRECT))

    def moves_to(self, image: str, path: BootPath) -> bool:
        """Whether the test of ``path`` takes a machine of the default boot path, which boots by ``path`` from then
        on. ``grub`` boots what is on its disk; and the first path of the other firmware takes a blank disk into use."""
        if path is BootPath.KEXEC or path in (BootPath.GRUB, self.second_path_of(image)):
            return path is BootPath.KEXEC
        firmware = self.hardware.firmware if self.hardware else None
        paths = (self.default_path_of(image), self.second_path_of(image), *self.paths_of(image))
        blank = next(one for one in paths if one.is_uefi(firmware) == path.is_uefi(firmware))
        return path is not blank


def read_options(option: Any, roots: Sequence[Path]) -> RunOptions:
    """The `RunOptions` in ``option``, pytest's namespace; `UsageError` for a value or combination that is not valid.

    Image definitions are searched in ``--images-dir``, else from each of ``roots`` upwards.
    """
    from harness.model import network_faults
    from harness.model.definition import find_definition
    from harness.model.hardware import find_profile
    from harness.qemu import program

    _check_values(option)
    plan, shard = _read_shard(option)
    images = Path(option.images_dir).absolute() if option.images_dir else _find_images(roots)
    arguments = option.kernel_arguments
    options = RunOptions(
        definitions={name: find_definition(name, images) for name in dict.fromkeys(option.image)},
        artifacts=_read_place(option.artifacts),
        kernel_arguments=tuple(arguments.split()) if arguments is not None else None,
        previous=_read_place(option.previous),
        boot_paths=tuple(BootPath(path) for path in option.boot_path),
        hardware=find_profile(option.hardware) if option.hardware else None,
        accelerator=option.accel,
        qemu=program.named(option.qemu),
        network=option.network,
        network_faults=tuple(network_faults.read(name) for name in dict.fromkeys(option.network_fault)),
        is_thorough=option.thorough,
        power_cuts=option.power_cuts or _POWER_CUTS,
        soak_minutes=option.soak or _SOAK_MINUTES,
        repeats=option.repeat,
        seed=option.seed,
        sign_key=option.sign_key,
        policy=_policy_digest(Path(option.policy or images / "policy.toml"), is_given=bool(option.policy)),
        run_dir=Path(option.run_dir).absolute() if option.run_dir else None,
        bundle_artifacts=option.bundle_artifacts,
        bundle_memory=option.bundle_memory,
        keep_failed=option.keep_failed,
        keep_minutes=option.keep_minutes,
        plan=plan,
        shard=shard,
        shard_is_strict=option.shard_status == "strict",
        write_plan=Path(option.write_plan).absolute() if option.write_plan else None,
    )
    for name in options.definitions:
        for fault in options.network_faults:
            network_faults.check_shows(fault, options.paths_of(name))
    if options.hardware:
        _check_hardware(options, options.hardware)
    return options


def check_without_image(option: Any) -> None:
    """Raise pytest's `UsageError` for an option that has an effect only on the machines of a run with ``--image``."""
    needing = {
        "--network-fault": option.network_fault,
        "--power-cuts": option.power_cuts,
        "--soak": option.soak,
        "--qemu": option.qemu,
    }
    for name, value in needing.items():
        if value:
            raise pytest.UsageError(f"{name} needs --image, without which no machine is booted")


def _check_values(option: Any) -> None:
    from harness.model.artifacts import InTree

    of_plan = bool(option.plan) and isinstance(_read_place(option.artifacts), InTree)
    if option.artifacts and len(set(option.image)) > 1 and not of_plan:
        raise UsageError("--artifacts belong to one image; give one --image")
    if option.kernel_arguments is not None and not option.artifacts:
        raise UsageError("--kernel-arguments needs --artifacts; a definition has its own arguments in [build]")
    if option.kernel_arguments is not None and isinstance(_read_place(option.artifacts), InTree):
        raise UsageError("--kernel-arguments: the artifacts in a published tree have a manifest with their arguments")
    if option.power_cuts is not None and not option.thorough:
        raise UsageError("--power-cuts needs --thorough, without which no power cut is tested")
    if option.soak is not None and not option.thorough:
        raise UsageError("--soak needs --thorough, without which no host is soaked")
    for name in ("power_cuts", "soak", "keep_minutes", "repeat"):
        value = getattr(option, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least 1")


def _read_place(given: str | None) -> Path | InTree | None:
    """The folder, or what TREE@DIGEST names; a folder of that name comes first."""
    from harness.model.artifacts import InTree

    if not given:
        return None
    return Path(given).absolute() if Path(given).is_dir() else InTree.read(given) or Path(given).absolute()


def _read_shard(option: Any) -> tuple[ShardPlan | None, int]:
    """The plan and the number of the shard; None and 0 for a run of one host."""
    if not option.plan and not option.shard:
        return None, 0
    from harness.runs.shards import read_plan, read_shard

    if not option.plan:
        raise UsageError("--shard needs --plan FILE, which `bootproof plan` writes")
    plan = read_plan(Path(option.plan))
    if not option.shard:
        raise UsageError(f"--plan needs --shard I/{len(plan.shards)}, or --shard auto")
    return plan, read_shard(option.shard, plan)


def _check_hardware(options: RunOptions, hardware: HardwareProfile) -> None:
    """Machines of this hardware must be able to boot by every path that was asked for, and by at least one."""
    from harness.model.hardware import path_for, problem

    for path in options.boot_paths:
        if text := problem(hardware, path):
            raise UsageError(f"--hardware {text}; choose another --boot-path or other hardware")
    for name, definition in options.definitions.items():
        if not options.paths_of(name):
            text = "; ".join(problem(hardware, path) for path in definition.boot_paths)
            raise UsageError(f"--hardware {text}; try --boot-path {path_for(hardware, BootPath.IPXE_UEFI)}")


def _policy_digest(file: Path, *, is_given: bool) -> str:
    from harness.core import digest

    try:
        return digest.of_file(file)
    except OSError as error:
        if is_given:
            raise UsageError(f"the policy {file} cannot be read: {error.strerror}") from None
        return ""


def _find_images(roots: Sequence[Path]) -> Path:
    from harness.model.definition import find_images

    for root in roots[:-1]:
        with suppress(UsageError):
            return find_images(root)
    return find_images(roots[-1])

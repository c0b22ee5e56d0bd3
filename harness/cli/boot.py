"""The command boot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_images_dir
from harness.model.machine_spec import BootPath

if TYPE_CHECKING:
    from harness.machine.attend import BootOptions

_DESCRIPTION = """\
Boot an image, or a folder of artifacts, in an isolated network, with its console on this terminal and root logged
in. A reboot in the guest boots it again. poweroff in the guest, or Ctrl-] here, ends the machine. No process is left
running, and changes to disks are discarded unless --write-disk is given.

With --profile: boot until ready, print where the CPU time of the boot went, by phase, unit and program, and end.
"""
_EPILOG = """\
examples:
  bootproof boot base                                   build base and boot it with a blank persistent disk
  bootproof boot base --disk my.raw                     boot with a copy-on-write layer over a disk image
  bootproof boot base --disk my.raw --write-disk        write to my.raw itself; it is created if missing
  bootproof boot base --boot-path ipxe-uefi             boot over the network, by iPXE and UEFI
  bootproof boot base --network-fault http-404-rootfs   see how it handles a missing root file system
  bootproof boot base --profile                         print where the CPU time of its boot goes
  bootproof boot ./mine                                 boot artifacts with a manifest.json
  bootproof boot base --artifacts ./mine --kernel-arguments "console=ttyS0"   and without one

exit status: 0 the machine ended; 1 the image does not build or boot; 4 a wrong option or definition; 75 a problem
of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "boot an image with its console on this terminal"
    parser = add_command(commands, "boot", _boot, summary, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    # fmt: off
    add("image", metavar="IMAGE|DIR", help="an image to build and boot, or a folder of artifacts")
    add("--artifacts", type=Path, metavar="DIR", help="boot artifacts of IMAGE from another builder")
    add("--kernel-arguments", metavar="TEXT", help="the kernel arguments of --artifacts without a manifest.json")
    add_images_dir(parser)
    add("--boot-path", choices=[path.value for path in BootPath], default="direct",
        help="how it boots (default: direct)")
    add("--hardware", metavar="NAME|FILE",
        help="a hardware profile: a name, or a file that `bootproof hardware` printed")
    add("--disk", type=Path, metavar="FILE",
        help="use this disk image as the persistent disk (default: blank); FILE is not written, changes are discarded")
    add("--write-disk", action="store_true", help="write to the FILE of --disk; create it if it is missing")
    add("--network-fault", action="append", default=[], metavar="NAME",
        help="inject a network fault, such as http-404-rootfs (repeatable)")
    add("--memory", type=int, metavar="MIB", help="memory in MiB (default: the definition's)")
    add("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="accelerator (default: auto)")
    add("--qemu", metavar="PROGRAM",
        help="the QEMU to boot it with (default: $BOOTPROOF_QEMU, else the quickest that is installed)")
    add("--network", choices=["auto", "lab", "user"], default="auto",
        help="an isolated lab, or QEMU's user network (default: auto, a lab where this host allows one)")
    add("--profile", action="store_true", help="boot until ready, print where the CPU time of the boot went, and end")
    add("--profile-page", type=Path, metavar="FILE", help="write the profile with a picture to FILE (HTML)")
    # fmt: on


def _boot(options: argparse.Namespace) -> int:
    from harness.machine.attend import BootOptions, boot_by_hand

    asked = BootOptions(
        image=options.image,
        artifacts=options.artifacts,
        kernel_arguments=options.kernel_arguments,
        images_dir=options.images_dir,
        boot_path=options.boot_path,
        hardware=options.hardware,
        disk=options.disk,
        write_disk=options.write_disk,
        network_faults=tuple(options.network_fault),
        memory_mib=options.memory,
        accel=options.accel,
        qemu=options.qemu,
        network=options.network,
    )
    if options.profile or options.profile_page:
        _profile(asked, options.profile_page)
    else:
        boot_by_hand(asked)
    return 0


def _profile(asked: BootOptions, page: Path | None) -> None:
    from harness.core.errors import UsageError
    from harness.core.tables import show
    from harness.machine.profile import profile_by_hand
    from harness.report import boot_profile

    if asked.write_disk:
        raise UsageError("--profile ends the machine as a power cut does; use it without --write-disk")
    if page and not page.absolute().parent.is_dir():
        raise UsageError(f"--profile-page {page}: its folder does not exist")
    measured = profile_by_hand(asked)
    for table in boot_profile.tables(measured):
        show(table)
        print()
    if page:
        boot_profile.write_page(measured, page)
        print(f"picture: {page}")

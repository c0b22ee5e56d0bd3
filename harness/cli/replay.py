"""The command replay."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_command, add_images_dir, add_run_dir, add_tree

_DESCRIPTION = """\
Reproduce the failure of BUNDLE: boot the machine with the hardware, disk, artifacts and network faults it had when it
failed, and report whether the same finding appears. If a test failed in the machine, run that test.

The artifacts are taken from the bundle, the store, --artifacts or a published tree, or are built from the definition;
their digest is checked.
"""
_EPILOG = """\
settings for --set:
  artifacts=DIR|DIGEST           other artifacts
  boot-path=PATH                 another boot path, such as direct or ipxe-uefi
  cpus=N, memory=MIB             another size of the machine
  delay=UNIT:SECONDS             delay the start of a service
  disk=FILE                      another persistent disk; FILE is not written
  kernel-argument=TEXT           append kernel arguments
  network-faults=NAME,NAME       inject these network faults, and no others; empty: none
  nic=MODEL                      another network card, such as e1000e
For a failed test only artifacts, boot-path and network-faults apply: the test makes its own machine.

examples:
  bootproof replay X.bundle                                       does the failure reproduce?
  bootproof replay X.bundle --repeat 10                           how often?
  bootproof replay X.bundle --set memory=4096                     does more memory fix it?
  bootproof replay X.bundle --set network-faults=                 does it fail on a healthy network?
  bootproof replay X.bundle --shell                               a root shell in the same machine
  bootproof replay X.bundle --break-at initrd                     a shell before the root file system is mounted
  bootproof replay X.bundle --gdb --set kernel-argument=nokaslr   debug its kernel

exit status: 1 the failure was reproduced in every try; 0 it was not; 75 in some tries only, or a problem of this host;
4 an invalid bundle or option
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "replay", _replay, "reproduce a failure from its bundle", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    # fmt: off
    add("bundle", type=Path, metavar="BUNDLE", help="a .bundle file from the folder of a run")
    add("--repeat", type=int, default=1, metavar="N", help="try N times, and count (default: 1)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change one setting of the machine (repeatable; listed below)")
    mode = parser.add_mutually_exclusive_group()
    for name, means in {
        "shell": "do not look for the finding: open the console, with root logged in; Ctrl-] ends the machine",
        "console": "open the console without logging in",
        "monitor": "open QEMU's monitor; Ctrl-D ends the machine",
        "gdb": "open the console; the CPU waits for gdb before the first instruction, or at --break-at",
    }.items():
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=means)
    add("--break-at", metavar="WHERE", default="",
        help="as --shell, and stop at WHERE: firmware (before the first instruction), ipxe, grub, initrd, or "
        "before:UNIT or after:UNIT of a service")
    add("--artifacts", type=Path, metavar="DIR", help="the artifacts that failed, if neither bundle nor store has them")
    # fmt: on
    add_tree(parser)
    add_images_dir(parser)
    add_run_dir(parser)


def _replay(options: argparse.Namespace) -> int:
    from harness.machine.attend import AttachMode
    from harness.promotion.select import tree_name
    from harness.replay.replay import ReplayOptions, replay

    return replay(
        ReplayOptions(
            bundle=options.bundle,
            repeat=options.repeat,
            settings=tuple(options.settings),
            mode=AttachMode(options.mode) if options.mode else None,
            break_at=options.break_at,
            artifacts=options.artifacts,
            tree=tree_name(options.tree),
            images_dir=options.images_dir,
            run_dir=options.run_dir,
        )
    )

"""The command hardware."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands, add_command

_DESCRIPTION = """\
Print the hardware of this host as a hardware profile in TOML, for `pytest --hardware FILE` and `bootproof boot
--hardware FILE`. It reads /sys and /proc, changes and sends nothing, and does not need root. As root, it also counts
what guests of libvirt have, for `bootproof fits`.
"""
_EPILOG = """\
examples:
  bootproof hardware >rack7.toml                  on the real host
  pytest --image nova-kvm --hardware rack7.toml   test an image on a machine like it

exit status: 0, or 75 if this host cannot be examined
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "print this host's hardware as a profile"
    parser = add_command(commands, "hardware", _hardware, summary, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--serials", action="store_true", help="include serial numbers, MAC addresses and UUIDs (some need root)"
    )


def _hardware(options: argparse.Namespace) -> int:
    from harness.host import hardware_scan

    print(hardware_scan.profile(with_serials=options.serials), end="")
    return 0

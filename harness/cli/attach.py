"""The commands ps, attach and stop: running machines, and ways into them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, print_table
from harness.core.errors import HostError

if TYPE_CHECKING:
    from harness.machine.attach_server import HeldMachine

_PS = """\
List the running machines of `pytest --keep-failed`, `bootproof boot` and `bootproof replay --shell`.
"""
_PS_EPILOG = """\
example:
  bootproof ps

exit status: 0
"""
_ATTACH = """\
Open the console of a machine that `bootproof ps` lists, with root logged in if the guest still responds; or SSH, or
QEMU's monitor. Leaving the console does not end the machine.
"""
_ATTACH_EPILOG = """\
examples:
  bootproof attach                  the console of the only machine; Ctrl-] leaves it
  bootproof attach 3fa1 --ssh       root by SSH, if network and sshd work
  bootproof attach 3fa1 --monitor   QEMU's monitor: info registers, stop, cont, screendump FILE
  bootproof attach 3fa1 --gdb       print the gdb command that debugs its kernel

exit status: 0; 4 no such machine; 75 the machine does not respond; that of ssh with --ssh
"""
_STOP = """\
End a machine that `bootproof ps` lists. If pytest holds it, the run continues.
"""
_STOP_EPILOG = """\
examples:
  bootproof stop            the only machine
  bootproof stop 3fa1

exit status: 0; 4 no such machine; 75 the machine does not respond
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    add_command(commands, "ps", _ps, "list running machines", _PS, _PS_EPILOG)
    attach = add_command(commands, "attach", _attach, "open the console of a running machine", _ATTACH, _ATTACH_EPILOG)
    _add_machine(attach)
    mode = attach.add_mutually_exclusive_group()
    mode.add_argument("--ssh", action="store_true", help="log in as root by SSH")
    mode.add_argument("--monitor", action="store_true", help="QEMU's monitor; Ctrl-D leaves it")
    mode.add_argument("--gdb", action="store_true", help="open a socket for gdb, and print the gdb command")
    stop = add_command(commands, "stop", _stop, "end a running machine", _STOP, _STOP_EPILOG)
    _add_machine(stop)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "machine", nargs="?", metavar="MACHINE", help="the id or name of a machine (default: the only one)"
    )


def _ps(_: argparse.Namespace) -> int:
    from harness.machine import attach_server

    known = attach_server.held_machines()
    if not known:
        print("no machine is held")
        return 0
    now = time.time()
    print_table(("id", "machine", "image", "since", "ends", "why"), [_row(one, now) for one in known])
    return 0


def _row(one: HeldMachine, now: float) -> list[str]:
    ends = f"in {(one.until - now) / 60:.0f} min" if one.until else "with its terminal"
    return [one.id, one.machine, one.image, f"{(now - one.since) / 60:.0f} min", ends, one.why]


def _stop(options: argparse.Namespace) -> int:
    from harness.machine import attach_server

    one = attach_server.find(options.machine)
    attach_server.answer(one.id, attach_server.STOP)
    print(f"{one.machine} ends")
    return 0


def _attach(options: argparse.Namespace) -> int:
    from harness.core.terminal import join, raw
    from harness.machine import attach_server

    one = attach_server.find(options.machine)
    if options.ssh:
        os.execvp(one.ssh[0], one.ssh)
    if options.gdb:
        print(f"gdb -ex 'target remote {attach_server.answer(one.id, attach_server.GDB)}'")
        return 0
    if options.monitor:
        with attach_server.ask(one.id, attach_server.MONITOR) as door:
            join(door)
        return 0
    try:
        attach_server.answer(one.id, attach_server.LOGIN)
    except HostError as error:
        print(f"cannot log in: {error}", file=sys.stderr)
    print("Ctrl-] leaves the console", file=sys.stderr)
    with raw(), attach_server.ask(one.id, attach_server.CONSOLE) as door:
        join(door)
    print()
    return 0

"""The commands ps, attach and stop: machines that run now, and ways into them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from harness.cli.promotion import Commands, print_table
from harness.core.errors import HostError

if TYPE_CHECKING:
    from harness.machine.attach_server import HeldMachine

_ATTACH = """\
Get into a machine that `bootproof ps` lists: to its console, where root is logged in if the guest still answers, or
by another way. Leaving does not end it.
"""
_ATTACH_EPILOG = """\
examples:
  bootproof attach                  the only one there is: its console; Ctrl-] leaves it
  bootproof attach 3fa1 --ssh       root by SSH, if its network and sshd work
  bootproof attach 3fa1 --monitor   QEMU's monitor: info registers, stop, cont, screendump FILE
  bootproof attach 3fa1 --gdb       where a debugger finds its kernel
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    ps = commands.add_parser(
        "ps",
        help="machines that run now, and how to get into them",
        description="List the machines of pytest --keep failed, bootproof boot and bootproof replay --shell.",
    )
    ps.set_defaults(run=_ps)
    attach = commands.add_parser(
        "attach",
        help="get into a machine that runs",
        description=_ATTACH,
        epilog=_ATTACH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    attach.add_argument("machine", nargs="?", metavar="MACHINE", help="its id or its name (default: the only one)")
    way = attach.add_mutually_exclusive_group()
    way.add_argument("--ssh", action="store_true", help="root by SSH, over its network")
    way.add_argument("--monitor", action="store_true", help="QEMU's monitor")
    way.add_argument("--gdb", action="store_true", help="open a door for a debugger, and print gdb's command line")
    attach.set_defaults(run=_attach)
    stop = commands.add_parser(
        "stop", help="end a machine that is kept", description="End a machine; its test goes on."
    )
    stop.add_argument("machine", nargs="?", metavar="MACHINE", help="its id or its name (default: the only one)")
    stop.set_defaults(run=_stop)


def _ps(_: argparse.Namespace) -> int:
    from harness.machine import attach_server

    known = attach_server.kept()
    if not known:
        print("no machine is kept")
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
        print(f"nobody can be logged in: {error}", file=sys.stderr)
    print("Ctrl-] leaves the console", file=sys.stderr)
    with raw(), attach_server.ask(one.id, attach_server.CONSOLE) as door:
        join(door)
    print()
    return 0

"""The command diff."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from harness.cli.options import BUILD_NAMES, Commands, add_command, add_json, add_tree, print_json

_DESCRIPTION = """\
Compare two builds, most important differences first: what changes on running hosts (users, units, sockets, links,
kernel, interfaces, disks, mounts, defences, what guests can have, sysctl, limits, timers, settings), then packages,
files by package, sizes and boot phases.

What running hosts show is known if this host has run both builds: pytest --image IMAGE --artifacts DIR. What a file in
a persistent path refers to by name comes first.
"""
_EPILOG = f"""\
{BUILD_NAMES.format("OLD", "NEW")}
examples:
  bootproof diff base@2026.10 base@2026.11
  bootproof diff base@stable base --tree /srv/images     what would a promotion change?
  bootproof diff base@stable base --on-hosts             what would hosts notice?
  bootproof diff OLD NEW --data rack12/data              and what does the data of this host refer to?

exit status: 0, with or without differences; 4 no such build or folder; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "diff", _diff, "compare two builds", _DESCRIPTION, _EPILOG)
    parser.add_argument("old", metavar="OLD", help="the older build")
    parser.add_argument("new", metavar="NEW", help="the newer build")
    add_tree(parser)
    parser.add_argument("--on-hosts", action="store_true", help="leave out packages, files, sizes and boot phases")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a copy of a host's /data: what its files refer to comes first"
    )
    parser.add_argument("--all", action="store_true", help="print every line (default: the first 12 of each section)")
    add_json(parser, "the differences")


def _diff(options: argparse.Namespace) -> int:
    from harness.diff import as_text, compare, on_hosts
    from harness.promotion.select import select

    with ExitStack() as stack:
        old, new = (select(name, options.tree, stack) for name in (options.old, options.new))
        difference = compare(old, new, options.data)
    if options.on_hosts:
        difference = on_hosts(difference)
    if options.json:
        print_json(difference)
    else:
        print("\n".join(as_text(difference, limit=None if options.all else 12)))
    return 0

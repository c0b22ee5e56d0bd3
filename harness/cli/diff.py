"""The command diff."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from harness.cli.options import BUILD_NAMES, Commands, add_command, add_json, add_tree, print_json

_DESCRIPTION = """\
Compare two builds, most important differences first: users, units, sockets, links, kernel, packages, files by package,
sizes, boot phases. Run-time differences are shown if this host has run both builds.
"""
_EPILOG = f"""\
{BUILD_NAMES.format("OLD", "NEW")}
examples:
  bootproof diff base@2026.10 base@2026.11
  bootproof diff base@stable base --tree /srv/images     what would a promotion change?

exit status: 0, with or without differences; 4 no such build; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "diff", _diff, "compare two builds", _DESCRIPTION, _EPILOG)
    parser.add_argument("old", metavar="OLD", help="the older build")
    parser.add_argument("new", metavar="NEW", help="the newer build")
    add_tree(parser)
    parser.add_argument("--all", action="store_true", help="print every line (default: the first 12 of each section)")
    add_json(parser, "the differences")


def _diff(options: argparse.Namespace) -> int:
    from harness.diff import as_text, compare
    from harness.promotion.select import select

    with ExitStack() as stack:
        difference = compare(*(select(name, options.tree, stack) for name in (options.old, options.new)))
    if options.json:
        print_json(difference)
    else:
        print("\n".join(as_text(difference, limit=None if options.all else 12)))
    return 0

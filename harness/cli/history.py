"""The command history."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from harness.cli.options import Commands, add_command, add_json, add_tree, print_json, print_table
from harness.cli.streams import ENTRY_COLUMNS, entry_cells

_DESCRIPTION = """\
Without STREAM: list the versions of IMAGE that were run on this host, with their outcomes, flaky tests, sizes and boot
times. With STREAM: list everything that stream pointed to, newest first.
"""
_EPILOG = """\
examples:
  bootproof history nova-kvm                               how did its versions do on this host?
  bootproof history nova-kvm stable --tree /srv/images     what was published, by whom, and when?

exit status: 0; 4 no such stream; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "history", _history, summary="list past runs of an image, or past builds of a stream",
        description=_DESCRIPTION, epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("image", metavar="IMAGE", help="the name of an image")
    parser.add_argument("stream", nargs="?", metavar="STREAM", help="a stream of the published tree")
    add_tree(parser)
    add_json(parser, "the list")


def _history(options: argparse.Namespace) -> int:
    return _of_stream(options) if options.stream else _of_runs(options)


def _of_stream(options: argparse.Namespace) -> int:
    from harness.promotion.select import open_named_tree

    with ExitStack() as stack:
        entries = open_named_tree(options.tree, stack, options.image).tree.history(options.image, options.stream)
    if options.json:
        print_json(entries)
    else:
        print_table(ENTRY_COLUMNS, [entry_cells(entry) for entry in reversed(entries)])
    return 0


def _of_runs(options: argparse.Namespace) -> int:
    from harness.core.tables import show
    from harness.runs import history
    from harness.store.store import find_store

    known = history.versions(find_store(), options.image)
    if options.json:
        print_json(known)
    elif known:
        show(history.table(known, time.time()))
    else:
        print(f"this host has no record of a run of {options.image}")
    return 0

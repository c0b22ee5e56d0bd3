"""The command history."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, add_tree, print_json, print_table
from harness.cli.streams import ENTRY_COLUMNS, entry_cells

if TYPE_CHECKING:
    from rich.table import Table

    from harness.runs.history import Version

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
    summary = "list past runs of an image, or past builds of a stream"
    parser = add_command(commands, "history", _history, summary, _DESCRIPTION, _EPILOG)
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
        show(_versions_table(known, time.time()))
    else:
        print(f"this host has no record of a run of {options.image}")
    return 0


def _versions_table(known: Sequence[Version], now_s: float) -> Table:
    """The newest version first."""
    from harness.core.tables import new_table
    from harness.core.text import ago

    rows = new_table("version", "artifacts", "passed", "last run", "was", "flakes", "rootfs", "memory", "ready")
    for version in reversed(known):
        rows.add_row(
            version.version,
            version.digest[:12],
            f"{version.passed} of {version.runs}",
            ago(now_s - datetime.fromisoformat(version.started).timestamp()),
            version.outcome,
            str(version.flakes or ""),
            "" if version.rootfs_mib is None else f"{version.rootfs_mib:.0f} MiB",
            "" if version.memory_mib is None else f"{version.memory_mib:.0f} MiB",
            "; ".join(f"{path} {spread}" for path, spread in version.boots_s.items()),
        )
    return rows

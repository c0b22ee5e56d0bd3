"""The command streams, and how an entry of a stream is printed."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, add_tree, print_json, print_table
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.promotion.published_tree import StreamEntry

_DESCRIPTION = "List the streams of a published tree, with the build that each points to."
_EPILOG = """\
example:
  bootproof streams --tree /srv/images

exit status: 0; 4 no published tree is named, or it does not exist; 75 the tree cannot be read
"""
ENTRY_COLUMNS = ("version", "artifacts", "since", "by", "how")


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "list the streams of a published tree"
    parser = add_command(commands, "streams", _streams, summary, _DESCRIPTION, _EPILOG)
    add_tree(parser)
    add_json(parser, "the streams")


def _streams(options: argparse.Namespace) -> int:
    from harness.promotion.select import open_named_tree

    with ExitStack() as stack:
        tree = open_named_tree(options.tree, stack).tree
        if not tree.root.is_dir():
            raise UsageError(f"{tree.root} is not a published tree: there is no such folder")
        pointers = [pointer for name in tree.streams() if (pointer := tree.current(*name))]
    if options.json:
        print_json(pointers)
    else:
        rows = [[pointer.image, pointer.stream, *entry_cells(pointer.entry)] for pointer in pointers]
        print_table(("image", "stream", *ENTRY_COLUMNS), rows)
    return 0


def entry_cells(entry: StreamEntry) -> list[str]:
    """The cells of `ENTRY_COLUMNS`."""
    return [entry.version, entry.artifacts[:12], entry.at, entry.by, entry.action]

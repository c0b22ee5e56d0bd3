"""What several commands share: options with their help, and printing for people and for scripts."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Commands = argparse._SubParsersAction  # the type has no public name in argparse

BUILD_NAMES = """\
each of {0} and {1} is one of:
  DIR            a folder of artifacts
  DIGEST         an artifacts digest, or at least its first 8 digits
  IMAGE          the newest build of IMAGE
  IMAGE@VERSION  the build of that version
  IMAGE@STREAM   what that stream points to (needs --tree)
"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs are wrapped to the width of the terminal; one with indented lines is printed as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # the only hook that argparse has for this
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            paragraph
            if "\n  " in paragraph
            else textwrap.fill(paragraph, width, initial_indent=indent, subsequent_indent=indent)
            for paragraph in paragraphs
        )


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    """A parser whose command is ``run``. ``summary`` is its line in the list of commands."""
    parser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def add_images_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images-dir", type=Path, metavar="DIR", help="the folder of image definitions (default: images/)"
    )


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="keep the logs of each try in DIR (default: remove them)"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON, for scripts")


def add_tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tree",
        metavar="DIR|REMOTE:PATH",
        help="the published tree: a folder, or a remote of rclone (default: $BOOTPROOF_TREE)",
    )


def print_json(value: Any) -> None:
    from harness.core import serialization

    print(json.dumps(serialization.dump(value), indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from harness.core.tables import new_table, show

    table = new_table(*columns)
    for row in rows:
        table.add_row(*row)
    show(table)

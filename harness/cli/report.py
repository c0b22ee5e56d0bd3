"""The command report."""

from __future__ import annotations

import argparse
import webbrowser
from contextlib import ExitStack
from pathlib import Path

from harness.cli.options import Commands, add_command, add_tree

_DESCRIPTION = """\
Regenerate report.html of a run, and print its path. With a published tree, the report compares the run with what the
stream points to now.
"""
_EPILOG = """\
examples:
  bootproof report --open                                         the newest run, in the browser
  bootproof report runs/2026-11-25T23-43-56-base --tree /srv/images --stream candidate

exit status: 0; 4 the folder has no verdict.json; 75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "report", _report, "regenerate the report of a run", _DESCRIPTION, _EPILOG)
    parser.add_argument("folder", nargs="?", type=Path, metavar="RUN", help="a run's folder (default: runs/latest)")
    parser.add_argument("--open", action="store_true", help="open the report in the browser")
    parser.add_argument(
        "--stream", default="stable", metavar="STREAM", help="the stream to compare with (default: stable)"
    )
    add_tree(parser)


def _report(options: argparse.Namespace) -> int:
    from harness import report
    from harness.core import serialization
    from harness.core.errors import UsageError
    from harness.model.verdict import Verdict
    from harness.promotion.select import select_promoted
    from harness.store.store import find_store

    folder = options.folder or Path("runs/latest").resolve()
    try:
        verdict = serialization.read(Verdict, folder / "verdict.json")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is not the folder of a finished run: {error}") from None
    with ExitStack() as stack:
        promoted = select_promoted(options.tree, verdict.image, options.stream, stack)
        page = report.write_all(verdict, folder, find_store(), promoted)
    print(page)
    if options.open:
        webbrowser.open(page.as_uri())
    return 0

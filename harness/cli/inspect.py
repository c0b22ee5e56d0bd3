"""What became of an image: the commands history, diff and report."""

from __future__ import annotations

import argparse
import json
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.promotion import COLUMNS, Commands, add_tree, print_table, told
from harness.core.errors import UsageError
from harness.promotion.select import open_named_tree, select, select_promoted

if TYPE_CHECKING:
    pass


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    _add_history(commands)
    _add_diff(commands)
    _add_report(commands)


def _add_history(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "history",
        help="what a stream carried, or how an image did over its versions",
        description="With STREAM, all that it carried. Without, what runs on this host saw of IMAGE: outcomes, boot "
        "times, flakes, by version.",
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("stream", nargs="?", metavar="STREAM")
    add_tree(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_history)


def _add_diff(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "diff",
        help="what differs between two builds",
        description="What differs between two builds, the interesting first: users, units, sockets, links, kernel, "
        "packages, files by package, sizes, boot phases. What runs like is told where a run on this host saw it.",
        epilog="each of OLD and NEW is a folder of artifacts, a digest or its beginning, IMAGE for its newest build, "
        "IMAGE@VERSION or, with a tree, IMAGE@STREAM",
    )
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    add_tree(parser)
    parser.add_argument("--all", action="store_true", help="every line, not just the first of each kind")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_diff)


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report",
        help="remake the page of a run, and open it",
        description="Write report.html of a run anew, beside what the stream carries now if there is a tree.",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="RUN", help="a run's folder (default: runs/latest)")
    parser.add_argument("--open", action="store_true", help="in the browser")
    parser.add_argument("--stream", default="stable", metavar="STREAM", help="to compare with (default: stable)")
    add_tree(parser)
    parser.set_defaults(run=_report)


# What they do


def _history(options: argparse.Namespace) -> int:
    from harness.core import serialization

    if options.stream is None:
        return _how_it_did(options)
    with ExitStack() as until:
        entries = open_named_tree(options.tree, until, options.image).tree.history(options.image, options.stream)
    if options.json:
        print(json.dumps(serialization.dump(entries), indent=2))
        return 0
    print_table(COLUMNS, [told(entry) for entry in reversed(entries)])
    return 0


def _how_it_did(options: argparse.Namespace) -> int:
    from harness.core import serialization
    from harness.core.tables import show
    from harness.runs import history
    from harness.store.store import find_store

    known = history.versions(find_store(), options.image)
    if options.json:
        print(json.dumps(serialization.dump(known), indent=2))
    elif known:
        show(history.table(known, time.time()))
    else:
        print(f"no run of {options.image} on this host is known")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from harness.core import serialization
    from harness.diff import as_text, compare

    with ExitStack() as until:
        difference = compare(*(select(name, options.tree, until) for name in (options.old, options.new)))
    if options.json:
        print(json.dumps(serialization.dump(difference), indent=2))
    else:
        print("\n".join(as_text(difference, limit=None if options.all else 12)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from harness import report
    from harness.core import serialization
    from harness.model.verdict import Verdict
    from harness.store.store import find_store

    folder = options.folder or Path("runs/latest").resolve()
    try:
        verdict = serialization.read(Verdict, folder / "verdict.json")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is no folder of a run that has ended: {error}") from None
    with ExitStack() as until:
        page = report.write_all(
            verdict, folder, find_store(), select_promoted(options.tree, verdict.image, options.stream, until)
        )
    print(page)
    if options.open:
        webbrowser.open(page.as_uri())
    return 0

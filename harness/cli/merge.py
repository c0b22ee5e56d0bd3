"""The command merge."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command

if TYPE_CHECKING:
    from harness.promotion.merge import Merged

_DESCRIPTION = """\
Make one run of the parts that the hosts of a plan ran: one folder, one verdict, one report and one attestation. RUN is
the folder of a part, a folder with several, an archive (tar or zip) or the URL of one. A part that is missing or did
not end makes the verdict inconclusive, and the command that runs it is printed. Parts that were altered, that are of
another plan, or that are not signed by a trusted key, are refused. The order does not matter; a merged run can be
merged again.
"""
_EPILOG = """\
examples:
  bootproof merge runs/part-*                          folders that were copied from the hosts
  bootproof merge part-1.tar.gz part-2.tar.gz          archives, as CI systems keep them
  bootproof merge parts/ --trust ci.pub --sign-key pipeline.key

exit status: that of the merged verdict: 0 passed, 1 failed or a part was altered, 75 inconclusive; 4 a wrong option
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "merge", _merge, "make one verdict of the parts of a run", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders, archives or URLs with parts of one plan")
    add("--run-dir", type=Path, metavar="DIR", help="folder for the merged run (default: runs/)")
    # fmt: off
    add("--trust", action="append", default=[], metavar="KEY",
        help="a public key that may have signed parts: a file, or hexadecimal digits (repeatable; default: unsigned)")
    # fmt: on
    add("--sign-key", metavar="FILE", help="sign the attestation with this Ed25519 key (default: $BOOTPROOF_SIGN_KEY)")


def _merge(options: argparse.Namespace) -> int:
    from harness.promotion import attest
    from harness.promotion.merge import merge
    from harness.promotion.part_sources import open_runs

    keys = {given: attest.read_public(given) for given in options.trust}
    with ExitStack() as stack:
        folders = open_runs(options.runs, stack)
        merged = merge(
            folders, (options.run_dir or Path("runs")).absolute(), keys, attest.read_signer(options.sign_key)
        )
    return show_merged(merged)


def show_merged(merged: Sequence[Merged]) -> int:
    """Write the report of each merged run and print its verdict; the status of the worst."""
    from harness.core.terminal import to_stderr
    from harness.promotion.select import select_promoted
    from harness.report import write_all
    from harness.report.terminal import format_verdict
    from harness.runs import history
    from harness.store.store import find_store

    store = find_store()
    for one in merged:
        for sentence in one.left_out:
            to_stderr(sentence)
        if problem := history.keep(store, one.verdict, one.folder):
            to_stderr(problem)
        with ExitStack() as until:
            write_all(one.verdict, one.folder, store, select_promoted(None, one.verdict.image, "stable", until))
        print("\n".join(format_verdict(one.verdict, one.folder)))
    statuses = [one.verdict.outcome.exit_status for one in merged]
    return 1 if 1 in statuses else max(statuses)

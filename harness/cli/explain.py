"""The command explain."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands, add_command

_DESCRIPTION = "Print what the finding ID means, its usual causes, and what to do next. Without ID, list all."
_EPILOG = """\
examples:
  bootproof explain                list all findings
  bootproof explain boot-hangs     one finding; its id is in the brackets of a verdict

exit status: 0, or 4 if there is no such finding
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "explain a finding and what to do next"
    parser = add_command(commands, "explain", _explain, summary, _DESCRIPTION, _EPILOG)
    parser.add_argument("id", nargs="?", metavar="ID", help="the id of a finding, such as boot-hangs")


def _explain(options: argparse.Namespace) -> int:
    from harness.model import finding_catalog

    for line in finding_catalog.page(options.id) if options.id else finding_catalog.summary():
        print(line)
    return 0

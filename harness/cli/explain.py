"""The command explain."""

from __future__ import annotations

import argparse
import os
import re

from harness.cli.options import Commands, add_command, add_json, print_json

_DESCRIPTION = """\
Explain a finding, or the text of a console from anywhere.

With the id of a finding: print what it means, its usual causes, and what to do next. Without WHAT: list all findings.

With a file, a folder, a tar or - for standard input: say for each boot in it how far it came, what failed first and
why, and what to do next. The text may come from a serial console, conserver, dmesg, journalctl (-o short, json,
export), pstore, a sosreport, kdump or a run of Bootproof, compressed or not. A folder or tar is searched for the files
that hold such text.
"""
_EPILOG = """\
examples:
  bootproof explain                          list all findings
  bootproof explain boot-hangs               one finding; its id is in the brackets of a verdict
  bootproof explain console.log              what failed in the boots of this console
  bootproof explain sosreport-web7.tar.xz    ... in the console logs, dmesg and journals of a sosreport
  bootproof explain /sys/fs/pstore           ... in the kernel dumps that the firmware kept
  bootproof explain console.log --json       the same for scripts: docs/explain.md lists the fields
  ssh web7 journalctl -o export | bootproof explain -

exit status: 0 no finding, or the page of one; 1 a boot in the log failed; 4 no such finding, or the log cannot be read
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "explain a finding, or why a boot failed from the text of its console"
    parser = add_command(commands, "explain", _explain, summary, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="the id of a finding, such as boot-hangs; or a log: FILE, DIR, TAR or -"
    )
    add_json(parser, "the boots of a log")


def _explain(options: argparse.Namespace) -> int:
    from harness.core.errors import UsageError
    from harness.model import finding_catalog

    what: str | None = options.what
    if what is None or what in finding_catalog.explanations() or not _is_log(what):
        if options.json:
            raise UsageError("--json prints the boots of a log; name a file, a folder, a tar or -")
        for line in finding_catalog.page(what) if what else finding_catalog.summary():
            print(line)
        return 0
    from harness.guest.console_sources import logs_in
    from harness.report.console_logs import page

    logs = logs_in(what)
    if options.json:
        print_json(logs)
    else:
        for line in page(logs):
            print(line)
    return int(any(boot.findings for log in logs for boot in log.boots))


def _is_log(what: str) -> bool:
    """Whether ``what`` is a path, rather than a misspelled finding."""
    return what == "-" or os.path.lexists(what) or not re.fullmatch(r"[A-Za-z]+(-[A-Za-z]+)*", what)

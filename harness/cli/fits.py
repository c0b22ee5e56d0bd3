"""The command fits."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_json, add_tree, print_json, print_table

if TYPE_CHECKING:
    from harness.fleet import FleetReport, ImageDrivers, Reason

_NAMES_SHOWN = 3
_DESCRIPTION = """\
Say from the files of a build, before any rollout, which hosts it will not drive: which will not boot, which devices
will have no driver or no firmware, what changes, and what cannot be told from files; and from its newest run, which
hosts have guests that it will not start. Nothing is booted.

Each FLEET is a file that bootproof hardware wrote on a host, or a folder of such files (*.toml).
"""
_EPILOG = """\
BUILD is one of:
  DIR            a folder of artifacts, or of another builder's kernel, initrd and root file system
  DIGEST         an artifacts digest, or at least its first 8 digits
  IMAGE          the newest build of IMAGE, in the version of its definition
  IMAGE@VERSION  the build of that version
  IMAGE@STREAM   what that stream points to (needs --tree)

examples:
  bootproof hardware >fleet/rack7.toml                on each host: bootproof-hardware is the same in one file
  bootproof fits nova-kvm fleet/
  bootproof fits nova-kvm fleet/ --previous nova-kvm@stable --tree /srv/images    only what this build loses
  bootproof fits out/ rack7.toml --json               all reasons for scripts, with all hosts

exit status: 0 all hosts fit; 1 a host will not boot, or a device of it will not work; 4 no such build, or a file that
is not read (the others are judged)
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "say which hosts of a fleet a build will not drive"
    parser = add_command(commands, "fits", _fits, summary, _DESCRIPTION, _EPILOG)
    parser.add_argument("build", metavar="BUILD", help="the build to judge")
    parser.add_argument("fleet", metavar="FLEET", nargs="+", type=Path, help="hardware profiles, or folders of them")
    parser.add_argument("--previous", metavar="BUILD", help="show only what BUILD has and this build loses")
    add_tree(parser)
    add_json(parser, "models and reasons")


def _fits(options: argparse.Namespace) -> int:
    from harness.core.errors import UsageError
    from harness.core.terminal import to_stderr
    from harness.fleet import judge

    with ExitStack() as stack:
        drivers = _drivers(options.build, options.tree, stack)
        previous = _drivers(options.previous, options.tree, stack) if options.previous else None
        report = judge(options.fleet, drivers, previous)
    if options.json:
        print_json(report)
    else:
        _show(report)
    for sentence in report.unread:
        to_stderr(f"bootproof: {sentence}")
    return UsageError.exit_status if report.unread else int(bool(report.losses))


def _drivers(build: str, tree: str | None, until: ExitStack) -> ImageDrivers:
    from harness.cli.builds import select_build
    from harness.core.errors import ImageError, UsageError
    from harness.fleet import read_drivers
    from harness.store.store import find_store

    try:
        side = select_build(build, tree, until)
        drivers = read_drivers(side.artifacts, find_store())
    except ImageError as error:  # a damaged file is bad input here: nothing was found out about the image
        raise UsageError(str(error)) from error
    return replace(drivers, guests=side.guests)


def _show(report: FleetReport) -> None:
    from harness.fleet import Effect

    columns = ("model", "hosts", "boot", "will not boot", "something missing", "changes", "not told")
    if report.models:
        print_table(
            columns,
            [
                (row.model, *map(str, (row.hosts, row.boot, row.will_not_boot, row.missing, row.changes, row.not_told)))
                for row in report.models
            ],
        )
    for reason in report.reasons:
        _show_reason(reason)
    if report.not_shown:
        print(f"{report.not_shown:,} more are not shown")
    said = ", ".join(f"{count} {effect}" for effect in Effect if (count := report.count(effect)))
    against = f", against {report.previous}" if report.previous else ""
    build = f"{report.image} {report.version} ({report.artifacts[:12]})"
    print(f"{build}, {_hosts(report.hosts)}{against}: {said or ('all fit' if report.hosts else 'none was judged')}")


def _hosts(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"


def _show_reason(reason: Reason) -> None:
    print(f"\n{reason.effect}, {_hosts(reason.hosts)}: {reason.device}: {reason.what} [{reason.id}]")
    for line in reason.evidence:
        print(f"    | {line}")
    if reason.cause:
        print(f"    cause: {reason.cause}")
    if reason.next:
        print(f"    next: {reason.next}")
    more = f" and {reason.hosts - _NAMES_SHOWN} more" if reason.hosts > _NAMES_SHOWN else ""
    print(f"    hosts: {', '.join(reason.names[:_NAMES_SHOWN])}{more}")

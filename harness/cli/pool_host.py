"""The command pool-host, which `bootproof run --hosts` calls by SSH."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands, add_command

_DESCRIPTION = """\
What `bootproof run --hosts` and `bootproof doctor --hosts` start on a host by SSH; nobody else needs this command. It
runs one shard, whose files come through standard input, and gives back the part. It ends, with its machines and its
folder, when the connection ends or is silent for half a minute.
"""
_EPILOG = """\
example:
  bootproof pool-host --describe

exit status: 0, or 75 if the connection was lost
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "pool-host", _pool_host, "run a shard for a run on many hosts", _DESCRIPTION, _EPILOG
    )
    add = parser.add_argument
    add("--describe", action="store_true", help="print the state of this host as JSON instead")
    add("--examine", action="store_true", help="with --describe: with what bootproof doctor finds missing")


def _pool_host(options: argparse.Namespace) -> int:
    import json

    from harness.core import serialization
    from harness.pool.on_host import describe, serve

    if not options.describe:
        return serve()
    print(json.dumps(serialization.dump(describe(is_examined=options.examine))))
    return 0

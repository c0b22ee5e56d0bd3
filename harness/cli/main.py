"""The parser of ``bootproof``, and its exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper

from harness.cli import (
    attach,
    attest,
    bisect,
    boot,
    build,
    diff,
    doctor,
    explain,
    fits,
    hardware,
    history,
    lint,
    merge,
    plan,
    pool_host,
    promote,
    push,
    replay,
    report,
    run,
    store,
    streams,
)
from harness.cli.options import HelpFormatter
from harness.core import process
from harness.core.errors import BootproofError, HostError
from harness.core.terminal import to_stderr

_COMMANDS = (
    build, boot, replay, bisect, attach, explain, diff, lint, fits, history, report, run, plan, push, merge, promote,
    streams, attest, store, doctor, hardware, pool_host,
)  # fmt: skip
_DESCRIPTION = "Build stateless images, boot-test them, reproduce failures, and promote what was proven."
_EPILOG = """\
examples:
  bootproof doctor                       check this host; print the commands that fix what is missing
  bootproof build base                   build the image; unchanged steps come from the store
  bootproof lint base                    say from its files what is wrong with it
  bootproof fits base fleet/             say which hosts of a fleet it will not drive
  bootproof boot base                    boot it here with a root shell; Ctrl-] ends it
  pytest -n 8 --image base               test it: boots, reboots, upgrades, and a verdict
  bootproof replay runs/latest/X.bundle  reproduce a failure from its bundle
  bootproof explain boot-hangs           what a finding means, and what to do next
  bootproof explain console.log          why a machine did not boot, from the text of its console
  bootproof promote base --to stable     publish the tested build to a stream

exit status: 0 success; 1 a problem in the image; 4 a wrong option or definition; 75 a problem of this host or of
Bootproof; 130 interrupted. Commands with other meanings list them in their own --help.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status. Errors print one message to standard error, not a traceback."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # the locale's encoding may lack a character
    options = parse(arguments)
    act: Callable[[argparse.Namespace], int] = options.run
    process.unwind_when_told_to_end()
    try:
        status = act(options)
        sys.stdout.flush()
        return status
    except BootproofError as error:
        to_stderr(f"bootproof: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        to_stderr("bootproof: interrupted")
        return 130
    except BrokenPipeError:  # as in `| head`; Python would report it again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # such as a full disk, or a folder that was removed
        to_stderr(f"bootproof: {f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        return HostError.exit_status


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="bootproof", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=HelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parsers(commands)
    return top


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The exit status of a wrong option is 4, as in pytest; argparse's is 2.

    What stands after ``--`` is the list ``pytest_options`` of the commands that hand it to pytest.
    """
    words = sys.argv[1:] if arguments is None else arguments
    end = words.index("--") if "--" in words else len(words)
    top = parser()
    try:
        options = top.parse_args(words[:end])
        if not hasattr(options, "pytest_options") and words[end:]:
            top.error(f"{options.command} takes no options of pytest after --")
    except SystemExit as error:
        raise SystemExit(4 if error.code == 2 else error.code) from None
    options.pytest_options = words[end + 1 :]
    return options

"""The QEMU that this process starts machines with: the one that was chosen, else `$BOOTPROOF_QEMU`, else PATH's."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from harness.core import process
from harness.core.errors import BootproofError, HostError, UsageError
from harness.model.qemu import THREAD, Qemu, Thread

NAME, PACKAGE = "qemu-system-x86_64", "qemu-system-x86"
VARIABLE, OPTION = "BOOTPROOF_QEMU", "--qemu"
OLDEST = (7, 2)
"""That of Debian 12: older ones are not tested."""
_VERSION = re.compile(r"^QEMU emulator version (\d+(?:\.\d+)+)")


_in_use: Qemu | None = None
"""Of this process, set by `use`."""


def use(qemu: Qemu) -> None:
    """Start the machines of this process with ``qemu`` from now on. Called once, when a run has chosen it."""
    global _in_use  # the one process-wide value, as the host's speed is: machines are started in many places
    _in_use = qemu


def chosen() -> Qemu | None:
    """What `use` was called with; None before that."""
    return _in_use


def in_use() -> Qemu:
    """The QEMU of this process's machines. `HostError` if none is installed, `UsageError` if the named one is wrong."""
    return _in_use or named() or of_path()


def of_path() -> Qemu:
    """The first QEMU on PATH."""
    program = process.require(NAME, PACKAGE)
    return Qemu(program=program, version=version_of(program), reason="the first on PATH")


def named(text: str | None = None) -> Qemu | None:
    """The QEMU that ``text`` (of ``--qemu``) names, else `$BOOTPROOF_QEMU`: PROGRAM or PROGRAM,thread=multi.

    None if neither is given. `UsageError` if it is not a QEMU that can be used.
    """
    source = OPTION if text else f"${VARIABLE}"
    text = text or os.environ.get(VARIABLE, "")
    if not text:
        return None
    word, _, thread = text.partition(THREAD)
    if thread not in ("", *Thread):
        raise UsageError(f"{source} {text}: thread is {' or '.join(Thread)}, not {thread!r}")
    program = process.find(word)
    if program is None:
        raise UsageError(f"{source} {text}: {word} is not a program (the full path of a {NAME} is expected)")
    program = str(Path(program).absolute())
    try:
        version = version_of(program)
    except BootproofError as error:
        raise UsageError(f"{source} {text}: {str(error).partition(chr(10))[0]}") from error
    if not is_new_enough(version):
        oldest = ".".join(map(str, OLDEST))
        raise UsageError(f"{source} {text}: is QEMU {version}; the oldest tested version is {oldest}")
    return Qemu(program=program, version=version, thread=Thread(thread or Thread.SINGLE), reason=f"named by {source}")


@cache
def version_of(program: str) -> str:
    """The version that ``program`` prints. `HostError` if it does not start, or is not QEMU."""
    printed = process.output([program, "--version"])
    if found := _VERSION.search(printed):
        return found[1]
    raise HostError(f"{program} is not QEMU: with --version it prints {printed[:80]!r}")


def is_new_enough(version: str) -> bool:
    return tuple(map(int, version.split("."))) >= OLDEST

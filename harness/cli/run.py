"""The command run."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.doctor import add_hosts
from harness.cli.merge import show_merged
from harness.cli.options import Commands, add_command
from harness.cli.plan import seconds_of
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.pool.hosts import PoolHost
    from harness.pool.run import PoolRun

_DESCRIPTION = """\
Run pytest on many hosts, and make one verdict. The tests are cut into shards, as by `bootproof plan`; GNU parallel
gives each to a host; the parts come back and are merged, as by `bootproof merge`. The hosts need SSH and Bootproof, the
same as here, and nothing else: the files of the current folder and the artifacts are brought. A shard whose host is at
fault is tried on another one. Nothing but artifacts in the stores of the hosts remains there, also after Ctrl-C.

What comes after -- are the options of pytest. Paths in them are relative to the current folder, and in it.
"""
_EPILOG = """\
examples:
  bootproof doctor --hosts hosts.txt                                    can they run shards?
  bootproof run --hosts hosts.txt -- --image nova-kvm --thorough
  bootproof run --hosts hosts.txt --shards 8 -n 4 -- --image nova-kvm
  bootproof run --hosts hosts.txt --resume runs/2026-11-30T10-00-00-pool

exit status: that of the merged verdict: 0 passed, 1 failed, 75 inconclusive or no host; 4 a wrong option;
130 interrupted
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "run", _run, "run pytest on many hosts, by SSH", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add_hosts(parser)
    # fmt: off
    add("--shards", type=int, metavar="N", help="cut the tests into N shards (default: one for each host)")
    add("-n", "--workers", type=int, default=8, metavar="N", help="pytest's workers on each host (default: 8)")
    add("--limit", metavar="TIME",
        help="end a shard that takes longer on a host, for example 40min (default: four times as long as expected)")
    add("--resume", type=Path, metavar="DIR", help="continue the run in that folder: only what has no verdict yet")
    add("--run-dir", type=Path, metavar="DIR", help="folder for the run and the merged run (default: runs/)")
    add("--sign-key", metavar="FILE", help="sign the attestation with this Ed25519 key (default: $BOOTPROOF_SIGN_KEY)")
    # fmt: on
    parser.set_defaults(pytest_options=[])


def _run(options: argparse.Namespace) -> int:
    from harness.core import process
    from harness.core.terminal import to_stderr
    from harness.pool.hosts import read_hosts
    from harness.pool.on_host import harness_digest
    from harness.pool.run import run_shards
    from harness.pool.survey import survey, sweep, usable
    from harness.promotion import attest

    _check(options)
    process.require("parallel", "parallel")
    signer = attest.read_signer(options.sign_key)
    surveyed = survey(read_hosts(options.hosts), options.bootproof, harness_digest(), is_examined=False)
    hosts = usable(surveyed)
    left_out = {one.host.name: one.problem for one in surveyed if one.problem}
    for host, problem in left_out.items():
        to_stderr(f"{host} is left out: {problem}")
    run = _prepare(options, hosts, left_out)
    to_stderr(f"{len(run.plan.shards)} shards on {len(hosts)} hosts; logs in {run.folder}")
    with ExitStack() as stack:
        run_shards(run, stack.enter_context(_Shown(run)).look)
    sweep(run.unsure(), options.bootproof)
    return _conclude(run, signer)


def _check(options: argparse.Namespace) -> None:
    words = [word.partition("=")[0] for word in options.pytest_options]
    if not options.hosts:
        raise UsageError("--hosts FILE is missing; without it, run pytest itself on this host")
    if options.resume and words:
        raise UsageError("--resume has the options of pytest from its run; leave out what comes after --")
    if not options.resume and "--image" not in words:
        raise UsageError("no image; give pytest's options after --, for example -- --image base")
    if taken := {"-n", "--numprocesses", "--shard", "--plan", "--run-dir", "--sign-key"} & set(words):
        raise UsageError(f"{taken.pop()} comes before --, or is decided by this command")
    for name in ("shards", "workers"):
        value = getattr(options, name)
        if value is not None and value < (name == "shards"):
            raise UsageError(f"--{name} {value} is too few")


def _prepare(options: argparse.Namespace, hosts: list[PoolHost], left_out: dict[str, str]) -> PoolRun:
    from harness.model.shard import ShardPlan
    from harness.pool.run import new_run, old_run
    from harness.runs.collected import collect
    from harness.runs.cut import cut, units_of

    if options.resume:
        return old_run(options.resume.absolute(), hosts, left_out)
    limit_s = seconds_of(options.limit, "--limit")
    collected = collect(options.pytest_options)
    shards = cut(collected, options.shards or min(len(hosts), len(units_of(collected)))).shards
    plan = ShardPlan(options=tuple(options.pytest_options), collected=collected, shards=shards)
    parent = (options.run_dir or Path("runs")).absolute()
    return new_run(
        plan, hosts, left_out, parent, bootproof=options.bootproof, workers=options.workers, limit_s=limit_s
    )  # fmt: skip


class _Shown:
    """The table of hosts while the block lasts; without a terminal, a line for each change."""

    def __init__(self, run: PoolRun) -> None:
        from rich.console import Console
        from rich.live import Live

        self._run, self._before = run, run.attempts()
        self._live = Live(console=Console(highlight=False), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> _Shown:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def look(self) -> None:
        from harness.pool.table import as_table, changes

        watched = self._run.watched()
        if self._live:
            self._live.update(as_table(watched, time.time()), refresh=True)
            return
        for line in changes(self._before, watched.attempts, watched.shards):
            print(line, flush=True)
        self._before = watched.attempts


def _conclude(run: PoolRun, signer: object) -> int:
    """Merge what there is; a shard without a conclusion makes the verdict inconclusive, and its reasons are printed."""
    from harness.core.terminal import to_stderr
    from harness.pool.run import check_concluded
    from harness.promotion.merge import merge

    parts = check_concluded(run)
    reasons, unusable = run.reasons(), run.parts()[1]
    for line in [*unusable, *reasons]:
        to_stderr(line)
    status = show_merged(merge(parts, run.folder.parent, {}, signer))
    if reasons or unusable:
        to_stderr(f"to run what has no verdict again: bootproof run --hosts FILE --resume {run.folder}")
    return status

"""The state of each host of a pool, asked for at the same time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.core import process, serialization
from harness.core.errors import HostError
from harness.pool.hosts import PoolHost
from harness.pool.on_host import HostReport

COLUMNS = ("host", "state", "Bootproof", "accelerator", "QEMU", "cores", "memory", "free disk", "clock", "problem")
_PATIENCE_S, _EXAMINED_S, _SWEPT_S = 40, 120, 20
_CLOCK_S = 5.0
"""A clock that differs by less may only have been read late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """A host with its ``report``; None if it gave none, for which ``problem`` is the reason.

    ``clock_s`` is how far its clock is ahead of this host's. Without a ``problem``, it can run shards.
    """

    host: PoolHost
    report: HostReport | None
    clock_s: float
    problem: str


def survey(hosts: Sequence[PoolHost], bootproof: str, harness: str, *, is_examined: bool) -> list[Surveyed]:
    """Ask all ``hosts``. ``harness`` is the digest of Bootproof here, which must be theirs."""
    with ThreadPoolExecutor(max_workers=min(32, len(hosts))) as pool:
        return list(pool.map(lambda host: _ask(host, bootproof, harness, is_examined=is_examined), hosts))


def sweep(hosts: Sequence[PoolHost], bootproof: str) -> None:
    """Have ``hosts``, as far as they answer, remove what killed processes left in their stores."""
    if hosts:
        with ThreadPoolExecutor(max_workers=min(32, len(hosts))) as pool:
            list(pool.map(lambda host: _ask(host, bootproof, "", is_examined=False, patience_s=_SWEPT_S), hosts))


def _ask(host: PoolHost, bootproof: str, harness: str, *, is_examined: bool, patience_s: int = _PATIENCE_S) -> Surveyed:
    command = f"{bootproof} pool-host --describe" + (" --examine" if is_examined else "")
    began_s, patience_s = time.time(), _EXAMINED_S if is_examined else patience_s
    # A frozen host answers neither ssh nor its heartbeat.
    status, printed, errors = process.capture(["timeout", "-k", "5", str(patience_s), *host.ssh(command)])
    middle_s = (began_s + time.time()) / 2
    if status:
        return Surveyed(host=host, report=None, clock_s=0.0, problem=no_report(status, errors, patience_s))
    try:
        report = serialization.load(HostReport, json.loads(printed.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        problem = f"the answer is not that of this Bootproof: {printed[:100]!r}"
        return Surveyed(host=host, report=None, clock_s=0.0, problem=problem)
    clock_s = report.time_s - middle_s
    return Surveyed(host=host, report=report, clock_s=clock_s, problem=problem_of(report, harness))


def no_report(status: int, errors: str, patience_s: int) -> str:
    """Why a host gave none: ssh(1) ends with 255 if it cannot connect, a shell with 127 if there is no such command."""
    told = (errors.strip().splitlines() or ["it printed nothing"])[-1]
    if status == 255:
        return f"not reachable: {told}"
    if status in (126, 127):
        return f"no Bootproof there: {told}; install the wheel, or name the command with --bootproof"
    if status in (124, 137):
        return f"no answer within {patience_s} s"
    return f"bootproof pool-host ended with status {status}: {told}"


def problem_of(report: HostReport, harness: str) -> str:
    """Why this host cannot run shards; empty if it can."""
    if report.harness != harness:
        theirs = f"{report.bootproof}, code {report.harness[:12]}"
        return f"another Bootproof ({theirs}) than here ({harness[:12]}): install the same wheel"
    if not report.qemu:
        return "no QEMU there: apt-get install qemu-system-x86"
    return "; ".join(report.problems)


def usable(surveyed: Sequence[Surveyed]) -> list[PoolHost]:
    """The hosts without a problem. `HostError` if there is none."""
    found = [one.host for one in surveyed if not one.problem]
    if not found:
        problems = "\n".join(f"    {one.host.name}: {one.problem}" for one in surveyed)
        raise HostError(f"no host can run a shard:\n{problems}\nbootproof doctor --hosts FILE shows more")
    return found


def row(one: Surveyed) -> list[str]:
    """As `COLUMNS` name it."""
    state = "ok" if not one.problem else "PROBLEM"
    if (report := one.report) is None:
        return [one.host.name, state, *[""] * 7, one.problem]
    return [
        one.host.name,
        state,
        report.bootproof,
        report.accelerator,
        report.qemu or "none",
        str(report.cores),
        f"{report.memory_mib} MiB",
        f"{report.free_gib:.0f} GiB",
        clock(one.clock_s),
        one.problem,
    ]


def clock(ahead_s: float) -> str:
    """The difference to this host's clock, in words."""
    if abs(ahead_s) < _CLOCK_S:
        return "same"
    minutes = abs(ahead_s) / 60
    size = f"{minutes:.0f} min" if minutes >= 2 else f"{abs(ahead_s):.0f} s"
    return f"{size} {'ahead' if ahead_s > 0 else 'behind'}"

"""Faults of hosts, of the way to them, and of parts, injected into a run on three hosts that boots nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.model.verdict import Verdict

from .pool_hosts import OPTIONS, Host, Hosts, write_repository

DEADLINE_S = 180.0
"""No run may take longer, whatever fault."""


@dataclass(slots=True)
class Pooled:
    """One run on many hosts, while it lasts and after it."""

    hosts: Hosts
    repository: Path
    process: subprocess.Popen[str]
    printed: str = ""
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def folder(self) -> Path | None:
        return next(self.repository.glob("runs/*-pool*"), None)

    def attempts(self) -> list[dict[str, object]]:
        files = self.folder.glob("attempts/*.json") if self.folder else ()
        return [json.loads(file.read_text("utf-8")) for file in files]

    def victim(self) -> Host:
        """The first host whose shard runs tests."""

        def found() -> Host | None:
            for one in self.attempts():
                if one["state"] == "runs" and "artifacts" not in str(one["detail"]):
                    return next(host for host in self.hosts.hosts if host.address in str(one["host"]))
            return None

        host = poll(found, Deadline(60, scaled=False), every_s=0.1)
        assert host, self.attempts()
        return host

    def part(self) -> Path:
        """The first part that arrived, while others run."""
        place = poll(lambda: next(iter((self.folder or Path("/nowhere")).glob("parts/*/*/verdict.json")), None),
                     Deadline(90, scaled=False), every_s=0.02)  # fmt: skip
        assert place
        return place.parent

    def end(self) -> tuple[int, Verdict | None]:
        """The exit status and the verdict, after the deadline at the latest."""
        self.printed, _ = self.process.communicate(timeout=DEADLINE_S)
        merged = sorted(self.repository.glob("runs/*-merged*/verdict.json"))
        return self.process.returncode, serialization.read(Verdict, merged[-1]) if merged else None


def start(hosts: Hosts, folder: Path, *more: str, failing: tuple[int, ...] = (), takes_s: float = 1.5) -> Pooled:
    repository = write_repository(folder / "repository", failing=failing, takes_s=takes_s)
    bootproof = str(Path(sys.executable).parent / "bootproof")
    words = [bootproof, "run", "--hosts", str(hosts.file), "-n", "0", *more]
    words += ["--", *OPTIONS, "--artifacts", str(hosts.built)]
    process = subprocess.Popen(
        hosts.here("env", f"BOOTPROOF_STORE={folder / 'own-store'}", *words),
        cwd=repository,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Pooled(hosts=hosts, repository=repository, process=process)


def _kill_sshd(run: Pooled) -> None:
    host = run.victim()
    assert host.signal(signal.SIGKILL, of="sshd:")
    run.undo.append(host.start_sshd)


def _freeze(run: Pooled) -> None:
    host = run.victim()
    assert host.signal(signal.SIGSTOP)
    run.undo.append(lambda: host.signal(signal.SIGCONT))


def _drop_packets(run: Pooled) -> None:
    host = run.victim()
    host.drop_packets()
    timer = threading.Timer(60, host.pass_packets)
    timer.start()
    run.undo.append(timer.join)


def _fill_disk(run: Pooled) -> None:
    host = run.victim()
    host.fill_disk()
    run.undo.append((host.store / "filler").unlink)


def _fill_disk_before(run: Pooled) -> None:
    host = run.hosts.hosts[0]
    host.fill_disk()
    run.undo.append((host.store / "filler").unlink)


def _kill_shard(run: Pooled) -> None:
    assert poll(lambda: run.victim().signal(signal.SIGKILL, of="-m pytest"), Deadline(60, scaled=False), every_s=0.1)


def _kill_all(run: Pooled) -> None:
    """What runs the shard on the host is killed too."""
    assert poll(lambda: run.victim().signal(signal.SIGKILL, of="pool-host"), Deadline(60, scaled=False), every_s=0.1)


def _alter_part(run: Pooled) -> None:
    """A result is turned around where the part lies."""
    events = run.part() / "events.jsonl"
    text = events.read_text("utf-8")
    events.write_text(text.replace('"failed"', '"passed"') + text.splitlines()[-1].replace("passed", "failed") + "\n")


def _part_of_another_run(run: Pooled) -> None:
    place = run.part()
    other = run.hosts.folder / "other-part"
    assert other.is_dir(), "a part of an earlier run was kept there"
    shutil.rmtree(place)
    shutil.copytree(other, place)


def _nothing(_: Pooled) -> None: ...


FAULTS: dict[str, Callable[[Pooled], None]] = {
    "none": _nothing,
    "sshd-killed": _kill_sshd,
    "host-frozen": _freeze,
    "packets-dropped": _drop_packets,
    "disk-full": _fill_disk,
    "disk-full-before": _fill_disk_before,
    "shard-killed": _kill_shard,
    "all-killed": _kill_all,
    "part-altered": _alter_part,
    "part-of-another-run": _part_of_another_run,
}
LOSING = ("part-altered", "part-of-another-run")
"""The fault strikes after the part arrived: it is not run again, and named as missing."""


def judge(run: Pooled, fault: str, failing: tuple[int, ...]) -> str:
    """What is wrong with the end of this run; empty if nothing is.

    No run without boots can pass. With a planted failure, "failed" is right; "inconclusive" only if its part was lost.
    """
    status, verdict = run.end()
    for undo in run.undo:
        undo()
    left = run.hosts.left(60)
    if left:
        return f"left: {left}"
    if verdict is None:
        return f"no verdict, status {status}"
    findings = {finding.id for finding in verdict.findings}
    blamed = [finding.where for finding in verdict.findings if finding.blame == "image"]
    missing = {"part-missing"} if fault in LOSING else set[str]()
    wanted_failures = [f"[tiny-{number}]" for number in failing]
    if any(not any(where.endswith(wanted) for wanted in wanted_failures) for where in blamed):
        return f"blamed: {blamed}"
    if failing and blamed:
        right = status == 1 and verdict.outcome == "failed"
    else:
        right = status == 75 and verdict.outcome == "inconclusive" and (not failing or fault in LOSING)
        right = right and findings == missing
        right = right and (bool(missing) or set(verdict.coverage.missing) == {"boot:direct"})
    return (
        "" if right else f"status {status}, {verdict.outcome}, findings {findings}, missing {verdict.coverage.missing}"
    )


def inject(hosts: Hosts, folder: Path, fault: str, failing: tuple[int, ...] = ()) -> tuple[str, Pooled, float]:
    """Start a run, inject ``fault``; what is wrong in the end (empty: nothing), the run, and its seconds."""
    began_s = time.monotonic()
    run = start(hosts, folder, failing=failing)
    try:
        FAULTS[fault](run)
        problem = judge(run, fault, failing)
    except subprocess.TimeoutExpired:
        problem = f"hangs: not over after {DEADLINE_S:.0f} s"
    finally:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.communicate()
    return problem, run, time.monotonic() - began_s

"""Whether three hosts have the verdict of one: a whole run of base here, and over SSH on hosts in namespaces.

Each host has a store of its own. All share the cores of this one, so that three are no faster: what counts is that
every test has the same outcome.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core import serialization
from harness.model.verdict import Verdict
from harness.store.store import find_store

from ..shard_runs import outcomes_of
from .start import ROOT
from .table import Figure, Limit

sys.path.insert(0, str(ROOT))
from tests.system.pool_hosts import open_hosts

_HOSTS, _DISK_MIB = 3, 6000


def measure(*, quick: bool) -> list[Figure]:
    options = ["--image", "base", *(["--boot-path", "direct"] if quick else [])]
    with TemporaryDirectory(dir=find_store().folder("bench")) as name:
        repository = Path(name) / "repository"
        shutil.copytree(ROOT / "images", repository / "images")
        (repository / "pytest.ini").write_text("[pytest]\n", "utf-8")
        alone_s = _run(["-m", "pytest", "-q", "-n", "8", *options], repository)
        alone = repository / "runs" / "latest"
        slots = find_store().folder("slots")
        with open_hosts(Path(name) / "net", count=_HOSTS, disk_mib=_DISK_MIB, slots=slots) as hosts:
            pooled = ["-P", "-m", "harness", "run", "--hosts", str(hosts.file), "-n", "4", "--", *options]
            pooled_s = _run(pooled, repository, inside=hosts.here())
            left = hosts.left(30)
        (merged,) = repository.glob("runs/*-base-merged")
        return _compared(alone, merged, len(left), {"one host": [alone_s], "three hosts": [pooled_s]})


def _run(argv: list[str], repository: Path, inside: list[str] | None = None) -> float:
    """Seconds of a run, whose verdict says what came of it."""
    begun_s = time.monotonic()
    done = subprocess.run(
        [*(inside or []), sys.executable, *argv], cwd=repository, check=False, capture_output=True, text=True
    )
    print(done.stdout[-3000:], done.stderr[-2000:], f"status {done.returncode}", file=sys.stderr)
    return time.monotonic() - begun_s


def _compared(alone: Path, merged: Path, left: int, samples: dict[str, list[float]]) -> list[Figure]:
    one, many = outcomes_of(alone), outcomes_of(merged)
    differing = [test for test in sorted(one | many) if one.get(test) != many.get(test)]
    for test in differing:
        print(f"  {test}: {one.get(test)} on one host, {many.get(test)} on {_HOSTS}", file=sys.stderr)
    verdicts = [serialization.read(Verdict, folder / "verdict.json") for folder in (alone, merged)]
    (first, coverage), (second, other) = ((verdict.outcome, verdict.coverage) for verdict in verdicts)
    found = [{finding.id for finding in verdict.findings} for verdict in verdicts]
    parts = {part.host for part in verdicts[1].parts}
    what = f"base, {len(one)} tests: {first} on one host, {second} on {len(parts)}"
    counts = {
        f"{what}; tests that differ": len(differing),
        "required checks that differ": int(coverage != other),
        "findings that differ": len(found[0] ^ found[1]),
        "processes and folders left on the hosts": left,
    }
    limit = Limit(most=0, unit="of them")
    return [
        Figure(row="pool", what=text, value=count, unit="of them", limit=limit, samples=samples)
        for text, count in counts.items()
    ]

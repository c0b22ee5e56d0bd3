"""docs/pipelines/slurm.sbatch on a real cluster: no host that fails leaves a gap in the verdict.

The suite here is a small one that boots nothing; the artifacts are invented.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.model.verdict import Finding, Outcome, Verdict
from harness.promotion import attest

from .. import samples
from .conftest import ROOT
from .slurm import NODES, Cluster, cluster

OPTIONS = ("--image", "base", "--artifacts", "built", "--accel", "tcg", "--network", "user", "tests/image")
SUITE = '''
import platform
import time
from pathlib import Path

import pytest

from harness.core.errors import HostError


@pytest.fixture(autouse=True)
def _on_node():
    """Node 1 is unfit. Node 2 is reached, and does not end a test."""
    if platform.node() == "node1":
        raise HostError("no room")
    if platform.node() == "node2":
        Path("reached").touch()
        time.sleep(600)


@pytest.mark.check("image")
@pytest.mark.parametrize("number", range(6))
def test_image(definition, number):
    assert number != 4


@pytest.mark.check("links")
@pytest.mark.parametrize("number", range(3))
def test_links(definition, number):
    pass
'''


@dataclass(frozen=True)
class Repository:
    """A checkout that all nodes see, with a plan, and the keys of the pool and of the pipeline in ``keys``."""

    folder: Path
    keys: Path

    def run(self, *argv: str) -> int:
        program = Path(sys.executable).with_name(argv[0])
        done = subprocess.run([program, *argv[1:]], cwd=self.folder, check=False, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        return done.returncode

    def verdict(self, runs: str, of: str) -> Verdict:
        (file,) = (self.folder / runs).glob(f"*-{of}/verdict.json")
        return serialization.read(Verdict, file)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))  # it knows no build that a host could boot first
    folder, keys = tmp_path / "checkout", tmp_path / "keys"
    (folder / "tests" / "image").mkdir(parents=True)
    (folder / "tests" / "image" / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    shutil.copytree(ROOT / "images" / "base", folder / "images" / "base")
    samples.artifacts(folder / "built", "2026.11", lines=10)
    (folder / ".venv").symlink_to(sys.prefix)
    keys.mkdir()
    for name in ("pool", "pipeline"):
        attest.make_key(keys / name)
    made = Repository(folder, keys)
    assert made.run("bootproof", "plan", "base", f"--shards={NODES}", "-o", "plan.json", "--", *OPTIONS[2:]) == 0
    return made


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")  # short: it holds a socket
    with cluster(folder) as running:
        yield running
    assert poll(lambda: not processes_of(folder), Deadline(10), every_s=0.1), processes_of(folder)


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that name ``folder`` in them or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if os.fsencode(folder) in text and process.name != str(os.getpid()):
            found.append(text.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def what(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(finding.id, finding.what, finding.where) for finding in findings]


def test_a_killed_and_an_unfit_host_are_replaced_and_the_verdict_is_that_of_one_host(
    slurm: Cluster, repository: Repository, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pool = {"BOOTPROOF_SIGN_KEY": str(repository.keys / "pool"), "TMPDIR": str(scratch)}
    merging = f"merge runs/slurm-$SLURM_ARRAY --trust {repository.keys}/pool.pub --sign-key {repository.keys}/pipeline"

    job = slurm.run(
        "sbatch", "--parsable", f"--array=1-{NODES}", f"{ROOT}/docs/pipelines/slurm.sbatch", "-n0", *OPTIONS,
        cwd=repository.folder, env=pool,
    ).strip()  # fmt: skip
    merge = slurm.run(
        "sbatch", "--parsable", f"--dependency=afterany:{job}", f"--wrap=.venv/bin/bootproof {merging}",
        cwd=repository.folder, env={"SLURM_ARRAY": job},
    ).strip()  # fmt: skip
    assert poll((repository.folder / "reached").exists, Deadline(60), every_s=0.2)
    slurm.kill("node2")

    def has_merged() -> bool:
        slurm.start_requeued()
        return slurm.job(merge)["JobState"] in ("COMPLETED", "FAILED")

    assert poll(has_merged, Deadline(300), every_s=1)
    assert slurm.job(merge)["ExitCode"] == "1:0", (repository.folder / f"slurm-{merge}.out").read_text()
    assert repository.run("pytest", "-q", "-n0", *OPTIONS, "--run-dir=alone") == 1

    merged, alone = repository.verdict("runs", "base-merged"), repository.verdict("alone", "base")
    assert merged.outcome is alone.outcome is Outcome.FAILED
    assert merged.coverage == alone.coverage
    assert what(merged.findings) == what(alone.findings)
    assert merged.digests == alone.digests
    assert merged.rates == alone.rates
    assert [(part.number, part.host) for part in merged.parts] == [(n, "node3") for n in range(1, NODES + 1)]
    parts = repository.folder / "runs" / f"slurm-{job}"
    unfit = {file.read_text() for file in parts.glob("unfit-hosts-*")}
    assert unfit == {"node1\n"}
    content = (repository.folder / "runs" / "latest" / "attestation.json").read_bytes()
    assert attest.verify(content, {"pipeline": attest.read_public(str(repository.keys / "pipeline.pub"))}, "merged")

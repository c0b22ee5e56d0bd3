"""A run in shards with real machines: the parts together prove what one host proves, and an unfit host says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import Blame
from harness.model.artifacts import INITRD, Artifacts, describe
from harness.model.verdict import Coverage, Outcome, Verdict
from harness.runs import history
from harness.store.store import VARIABLE, Store, find_store

from ..shard_runs import outcomes_of
from .conftest import ROOT

TESTS = ("tests/image/test_image.py", "tests/image/test_services.py", "tests/image/test_survival.py")
OPTIONS = ("--image", "base", "--boot-path", "direct")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command() -> Command:
    """Runs a program of Bootproof's in the repository."""

    def run(name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name(name)
        done = subprocess.run(
            [program, *arguments], cwd=ROOT, check=False, capture_output=True, text=True, env=os.environ | environ
        )
        print(done.stdout, done.stderr)
        return done

    return run


def test_the_parts_of_two_hosts_prove_what_one_host_proves(command: Command, tmp_path: Path) -> None:
    plan, whole = tmp_path / "plan.json", tmp_path / "whole"
    assert command("pytest", "-q", "-n", "4", f"--run-dir={whole}", *OPTIONS, *TESTS).returncode == 75

    planned = command("bootproof", "plan", "base", "--shards", "2", "-o", str(plan), "--", *OPTIONS[2:], *TESTS)
    assert planned.returncode == 0
    for other, why in ((["--repeat=2", *TESTS], "--repeat 1, this run has 2"), (TESTS[:2], "are not collected here")):
        refused = command("pytest", "-q", "-n", "2", f"--plan={plan}", "--shard=1/2", *OPTIONS, *other)
        assert refused.returncode == 4
        assert why in refused.stdout + refused.stderr
    for number in (1, 2):
        arguments = ["-q", "-n", "4", "--plan", str(plan), f"--run-dir={tmp_path}/parts", *OPTIONS, *TESTS]
        assert command("pytest", *arguments, "--shard", f"{number}/2").returncode == 0

    merged = command("bootproof", "merge", f"{tmp_path}/parts", f"--run-dir={tmp_path}/merged")

    assert merged.returncode == 75, "some required checks have no test here"
    one, both = (
        serialization.read(Verdict, place / "latest" / "verdict.json") for place in (whole, tmp_path / "merged")
    )
    assert outcomes_of(tmp_path / "merged" / "latest") == outcomes_of(whole / "latest")
    assert (both.outcome, both.coverage, both.findings) == (one.outcome, one.coverage, one.findings)
    assert [part.outcome for part in both.parts] == ["passed"] * 2
    assert {boot.machine.partition("/")[0] for boot in both.boots} == {"part-1", "part-2"}

    shutil.rmtree(next(iter(sorted((tmp_path / "parts").glob("2*")))))
    assert command("bootproof", "merge", f"{tmp_path}/parts", f"--run-dir={tmp_path}/one").returncode == 75
    (finding,) = serialization.read(Verdict, tmp_path / "one" / "latest" / "verdict.json").findings
    assert finding.id == "part-missing"
    assert "--shard 1/2 --plan PLAN" in finding.evidence[0]


@pytest.fixture
def store_with_a_broken_past(tmp_path: Path, artifacts: Artifacts) -> Path:
    """A store of this test's own, whose history says that a build passed which no host boots."""
    store = Store(tmp_path / "store")
    for name in ("accelerators", "artifacts", "builds", "layers", "ssh"):
        shutil.copytree(find_store().folder(name), store.folder(name), copy_function=os.link, dirs_exist_ok=True)
    with store.workfolder() as folder:
        work = folder / "out"
        work.mkdir()
        for name in artifacts.manifest.files:
            shutil.copyfile(artifacts.folder / name, work / name)
        (work / INITRD).write_bytes(b"no initrd")
        files = artifacts.manifest.files | {INITRD: describe(work / INITRD)}
        broken = store.add_artifacts(work, replace(artifacts.manifest, version="2026.10", files=files))
    passed = Verdict(
        outcome=Outcome.PASSED, image="base", version="2026.10", digests={"artifacts": broken.digest}, findings=(),
        coverage=Coverage(boot_paths=("direct",), passed=("image",), failed=(), missing=()), boots=(), host={},
        started="2026-10-01T00:00:00+00:00", elapsed_s=1.0,
    )  # fmt: skip
    (tmp_path / "past").mkdir()
    assert history.keep(store, passed, tmp_path / "past") == ""
    return store.root


def test_a_host_that_cannot_boot_what_has_passed_runs_no_part(
    command: Command, store_with_a_broken_past: Path, tmp_path: Path
) -> None:
    plan, store = tmp_path / "plan.json", {VARIABLE: str(store_with_a_broken_past)}
    arguments = [*OPTIONS, "tests/image/test_image.py"]
    planned = command("bootproof", "plan", "base", "--shards", "1", "-o", str(plan), "--", *arguments[2:], **store)
    assert planned.returncode == 0

    ran = command(
        "pytest", "-q", *arguments, "--plan", str(plan), "--shard", "1/1", f"--run-dir={tmp_path}/runs", **store
    )

    assert ran.returncode == 75
    verdict = serialization.read(Verdict, tmp_path / "runs" / "latest" / "verdict.json")
    assert [(finding.id, finding.blame) for finding in verdict.findings] == [("host-unfit", Blame.HOST)]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert not outcomes_of(tmp_path / "runs" / "latest")
    assert json.loads(plan.read_text())["format"] == 1

"""Invented runs in shards: parts as hosts leave them, with boots, logs, results and statements, but nothing booted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.core import digest, serialization
from harness.core.errors import Blame
from harness.model.artifacts import MANIFEST, Artifacts, load_artifacts
from harness.model.definition import load_definition
from harness.model.events import PlannedTest, Prepared, ReportedTest
from harness.model.layout import PLAN
from harness.model.machine_spec import Accelerator
from harness.model.shard import Collected, ImagePlan, ShardPlan
from harness.model.verdict import BootResult, Finding, Part, Verdict, boot_name
from harness.promotion import attest
from harness.runs.cut import cut
from harness.runs.folder import Run
from harness.runs.record import read_record
from harness.verdict.assemble import Scope, Subject, assemble

from . import samples

BASE = load_definition(Path(__file__).parents[1] / "images" / "base")
BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)
CHECKS = ("lint", "image", "services", "links", "ssh", "host", "identity", "survival", "sockets")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRun:
    """A run of ``count`` tests, in ``shards``, of artifacts in ``folder``; ``seed`` makes another plan."""

    folder: Path
    count: int = 24
    shards: int = 4
    seed: int = 1
    log_bytes: int = 400
    artifacts: Artifacts = field(init=False)

    def __post_init__(self) -> None:
        place = self.folder / "artifacts"
        if not place.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            samples.artifacts(place, "2026.11", lines=10)
        object.__setattr__(self, "artifacts", load_artifacts(place))

    @property
    def digests(self) -> dict[str, str]:
        return {
            "artifacts": self.artifacts.digest,
            **{name: digest.of_value(name) for name in ("definition", "suite", "harness")},
        }

    @property
    def plan(self) -> ShardPlan:
        tests = tuple(
            PlannedTest(
                test=f"test_{number}", file="f", checks=(CHECKS[number % len(CHECKS)],), group=f"g{number}", boots=1
            )
            for number in range(self.count)
        )
        image = ImagePlan(
            definition=BASE,
            boot_paths=BASE.boot_paths,
            is_thorough=False,
            digests=self.digests,
            versions={},
            tests=tests,
        )
        collected = Collected(images=(image,), settings={"--seed": str(self.seed)}, boot_s=60.0, lanes=2)
        return ShardPlan(options=("--image", "base"), collected=collected, shards=cut(collected, self.shards).shards)

    def part(
        self,
        number: int,
        name: str = "",
        *,
        failing: Mapping[str, str] | None = None,
        skipped: int = 0,
        unfit: str = "",
        host: str = "",
        signer: Any = None,
    ) -> Path:
        """The folder of a part: ``failing`` maps tests to what was wrong with the image, or to "host: …"; the last
        ``skipped`` tests did not run, as on a host that is ``unfit``."""
        plan, run = self.plan, Run(self.folder / (name or f"run-{number}"), "gw0")
        run.folder.mkdir()
        serialization.write(run.folder / PLAN, plan)
        shutil.copyfile(self.artifacts.folder / MANIFEST, run.folder / MANIFEST)
        run.add(Prepared(took_s=4.0, worked_s=1.0, all_s=2.0))
        for planned in plan.collected.images[0].tests:
            run.add(planned)
        own = plan.shards[number - 1].tests
        if unfit:
            run.add_finding(Finding(id="host-unfit", what=unfit, where="host-proof", blame=Blame.HOST))
        for place, test in enumerate(own[: len(own) - skipped]):
            self._result(run, test, place, (failing or {}).get(test, ""))
        part = Part(
            number=number, of=self.shards, plan=digest.of_file(run.folder / PLAN), host=host or f"host-{number % 3}"
        )
        scope = Scope(
            definition=BASE, boot_paths=BASE.boot_paths, suites=(), is_thorough=False,
            started=BEGAN + timedelta(minutes=number), elapsed_s=100.0 + number, parts=(part,), tests=frozenset(own),
        )  # fmt: skip
        facts = {"accelerator": "tcg: no KVM", "qemu": f"QEMU {7 + number % 2}.2: installed"}
        subject = Subject(artifacts=self.artifacts, accelerator=Accelerator.TCG, digests=self.digests, host=facts)
        verdict = assemble(scope, subject, read_record(run), (1.5, 3.0))
        serialization.write(run.folder / "verdict.json", verdict)
        attest.write_all(run.folder, verdict, self.artifacts, signer)
        return run.folder

    def _result(self, run: Run, test: str, place: int, wrong: str) -> None:
        log = run.folder / f"machine-{place}" / "boot-1" / "console.log"
        log.parent.mkdir(parents=True)
        log.write_text("x" * 79 + "\n" if self.log_bytes < 80 else ("x" * 79 + "\n") * (self.log_bytes // 80))
        path = BASE.boot_paths[int(test.rpartition("_")[2]) % len(BASE.boot_paths)]
        boot = BootResult(
            machine=f"machine-{place}", number=1, boot_path=path, artifacts=self.artifacts.digest,
            phases={"kernel": 5.0}, ready_s=60.0, console=str(log), added_arguments=(),
        )  # fmt: skip
        run.add_boot(boot)
        if wrong:
            blame = Blame.HOST if wrong.startswith("host: ") else Blame.IMAGE
            where = boot_name(boot.machine, 1, path)
            run.add_finding(Finding(id="unit-failed", what=wrong, where=where, blame=blame))
        outcome = "failed" if wrong else "passed"
        run.add(ReportedTest(test=test, when="call", outcome=outcome, took_s=1.0, console=str(log)))


def without_place(verdict: Verdict) -> Verdict:
    """The verdict without the paths of logs, which depend on where it was merged."""
    return replace(verdict, boots=tuple(replace(boot, console="") for boot in verdict.boots))


def outcomes_of(folder: Path) -> dict[str, str]:
    """The worst outcome of each test in a run's folder."""
    outcomes: dict[str, str] = {}
    for part in Run(folder, "main").of_kind(ReportedTest):
        outcomes[part.test] = "failed" if "failed" in (part.outcome, outcomes.get(part.test)) else part.outcome
    return outcomes

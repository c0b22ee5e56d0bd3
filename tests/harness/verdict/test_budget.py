"""Exceeded budgets are findings, others are not; boot times count only where they are comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import host_scale
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import Accelerator
from harness.model.verdict import BootResult
from harness.verdict.assemble import over_budget

from ... import samples


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """As large as the budgets of base allow."""
    made = samples.artifacts(tmp_path / "artifacts", "1")
    sizes = {"initrd.img": 50, "rootfs.squashfs": 250}
    files = {name: replace(file, size_bytes=sizes.get(name, 1) << 20) for name, file in made.manifest.files.items()}
    return replace(made, manifest=replace(made.manifest, files=files))


@pytest.fixture
def base() -> ImageDefinition:
    return load_definition(Path(__file__).parents[3] / "images" / "base")


def _boot(ready_s: float, firmware_s: float = 0.0, hardware: str = "") -> BootResult:
    return BootResult(
        machine="m", number=1, boot_path="direct", artifacts="", phases={"firmware": firmware_s}, ready_s=ready_s,
        console="", added_arguments=(), hardware=hardware,
    )  # fmt: skip


def test_sizes_count_to_the_byte(artifacts: Artifacts, base: ImageDefinition) -> None:
    assert list(over_budget(base, artifacts, [], Accelerator.KVM)) == []

    tight = replace(base, initrd_mib=49, rootfs_mib=249)
    said = [(one.id, one.what.partition(" ")[0]) for one in over_budget(tight, artifacts, [], Accelerator.KVM)]
    assert said == [("over-budget", "rootfs.squashfs"), ("over-budget", "initrd.img")]


def test_the_quickest_boot_counts_without_what_came_before_its_kernel(
    artifacts: Artifacts, base: ImageDefinition
) -> None:
    limit_s = base.boot_s * host_scale() * 2
    late, slow_firmware, odd = _boot(limit_s * 1.5), _boot(limit_s * 1.5, limit_s), _boot(limit_s * 1.5, hardware="x")

    def said(*boots: BootResult, accelerator: Accelerator = Accelerator.TCG) -> int:
        return len(list(over_budget(base, artifacts, boots, accelerator)))

    assert said(late) == said(late, late) == 1
    assert said(late, _boot(limit_s * 0.9)) == 0
    assert said(slow_firmware) == said(odd) == 0
    assert said(late, accelerator=Accelerator.KVM) == 0

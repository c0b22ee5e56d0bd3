"""A definition to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.definition import ImageDefinition
from harness.model.definition_persist import DiskSelector
from harness.model.machine_spec import BootPath


@pytest.fixture
def definition(tmp_path: Path) -> ImageDefinition:
    return ImageDefinition(
        name="mine",
        folder=tmp_path / "images" / "mine",
        description="A test",
        version="2026.11",
        distribution="debian",
        suite="trixie",
        packages=("python3", "dracut"),
        playbook="playbook.yml",
        kernel_arguments=(),
        disk=DiskSelector(minimum_gib=4),
        persistent_paths=("/etc/nova",),
        image_owned=("/etc/nova/policy",),
        tolerates=(),
        tolerated_network_faults=(),
        services=(),
        sockets=(),
        waiting=(),
        boot_paths=(BootPath.DIRECT,),
        hardware=(),
        memory_mib=1024,
        cpus=1,
        boot_s=60,
        rootfs_mib=250,
        initrd_mib=50,
    )

"""A good and a bad case, as fixtures."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.artifacts import Artifacts
from harness.model.definition import load_definition
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec, NicModel, NicSpec
from harness.replay.case import Case

from ... import samples

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")


@pytest.fixture
def good(tmp_path: Path) -> Case:
    spec = MachineSpec(
        name="m", uuid=uuid.UUID(int=1), boot_path=BootPath.IPXE_BIOS, disks=(DiskSpec(path=Path("data"), serial="a"),)
    )
    return Case(spec=spec, artifacts=samples.artifacts(tmp_path / "good", "1"), definition=BASE)


@pytest.fixture
def bad(tmp_path: Path, good: Case) -> Case:
    """Another build, with another machine and other network faults."""
    newer = samples.artifacts(tmp_path / "bad", "2")
    arguments = (*newer.manifest.kernel_arguments, "nosmt")
    spec = replace(good.spec, memory_mib=512, nics=(NicSpec(model=NicModel.E1000E),), uuid=uuid.UUID(int=2))
    manifest = replace(newer.manifest, kernel_arguments=arguments)
    disk = tmp_path / "disk"
    disk.write_bytes(b"content")
    artifacts = Artifacts(folder=newer.folder, manifest=manifest)
    return replace(good, spec=spec, artifacts=artifacts, network_faults=("dhcp-late",), disks=(disk,))

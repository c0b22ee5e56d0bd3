"""The good image with a faulty lab, disk or board: the fault is found at once and named."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import process
from harness.core.deadline import Deadline
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.machine_spec import MachineSpec
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]


def test_panic_is_found_at_once(booting: Booting, spec: MachineSpec) -> None:
    with booting(spec) as machine:
        started_s = time.monotonic()
        with pytest.raises(BootFailed) as failure:
            machine.run("echo c > /proc/sysrq-trigger; sleep 300")

    assert failure.value.finding.id in {"kernel-panic", "kernel-oops"}
    assert time.monotonic() - started_s < Deadline(60).length_s


def test_reset_of_its_own_is_found(booting: Booting, spec: MachineSpec) -> None:
    with booting(spec) as machine, pytest.raises(BootFailed) as failure:
        machine.run("echo b > /proc/sysrq-trigger; sleep 300")

    assert failure.value.finding.id == "unexpected-reset"


def test_foreign_disk_is_named_and_left_untouched(booting: Booting, spec: MachineSpec) -> None:
    process.output([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-L", "precious", str(spec.disks[0].path)])
    before = digest_of(spec.disks[0].path)

    with pytest.raises(BootFailed) as failure, booting(spec):
        pass

    assert failure.value.finding.id == "persist-failed"
    assert "ext4" in "".join(failure.value.finding.evidence)
    assert digest_of(spec.disks[0].path) == before


def test_absent_disk_is_a_loud_failure(booting: Booting, spec: MachineSpec) -> None:
    with pytest.raises(BootFailed) as failure, booting(replace(spec, disks=())):
        pass

    assert failure.value.finding.id == "persist-failed"


def test_two_bare_disks_are_a_loud_failure(booting: Booting, spec: MachineSpec, tmp_path: Path) -> None:
    both = (*spec.disks, make_disk(tmp_path / "other.raw", "OTHER"))

    with pytest.raises(BootFailed) as failure, booting(replace(spec, disks=both)):
        pass

    assert "several bare disks" in "".join(failure.value.finding.evidence)


def test_findings_are_in_the_runs_folder_before_the_test_ends(booting: Booting, spec: MachineSpec, run: Run) -> None:
    with pytest.raises(BootFailed), booting(replace(spec, disks=())):
        pass

    assert [finding.id for finding in run.findings()] == ["persist-failed"]


def digest_of(path: Path) -> str:
    """The digest of a sparse file of 8 GiB, reading only what is allocated."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\0"):
                digest.update(file.tell().to_bytes(8, "big") + chunk)
    return digest.hexdigest()

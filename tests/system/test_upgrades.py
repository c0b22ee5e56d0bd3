"""Upgrades across releases: an older version meets a file system, or numbers of users, that are not its own."""

from __future__ import annotations

import re
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.core import process
from harness.core.debugfs import debugfs
from harness.lab import Lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine, boot
from harness.model.definition import load_definition
from harness.model.machine_spec import DiskSpec, MachineSpec
from harness.model.verdict import Outcome
from harness.qemu.disk_images import find_partition, put_partition
from harness.runs.folder import Run
from harness.store.store import find_store

from .conftest import ROOT, Judge
from .test_planted_images import text_of

DATA_TYPE = "7be3d0c0-7584-4fb4-ae35-1eaa49f836d1"

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A user with a file in a persistent path, whose number differs between versions
      ansible.builtin.shell: |
        useradd --system --uid {keeper} --user-group keeper
        useradd --system --uid {other} --user-group other
        install -d -o keeper -g keeper -m 700 /var/local/kept

- import_playbook: {root}/images/base/playbook.yml

- hosts: all
  gather_facts: false
  tasks:
    - name: Without what keeps the numbers, if this is what is planted
      ansible.builtin.shell: |
        {then}
"""


def _plant(disk: DiskSpec, option: str, feature: str = "") -> None:
    """A disk that a newer version has made: with the role's partition, and a file system with these features."""
    table = f"label: gpt\ntype={DATA_TYPE}\n"
    subprocess.run([process.require("sfdisk", "fdisk"), "--quiet", str(disk.path)], input=table, text=True, check=True)
    partition = find_partition(disk.path, 1)
    image = disk.path.with_name("ext4")
    with image.open("xb") as file:
        file.truncate(partition.size_bytes)
    process.output([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-O", option, str(image)])
    if feature:
        debugfs(image, f"feature {feature}", writes=True)
    put_partition(image, disk.path, partition)
    image.unlink()


@pytest.mark.parametrize(
    ("feature", "refused_by"), [("FEATURE_C13", "has unsupported feature"), ("shared_blocks", "the kernel says: ")]
)
def test_a_file_system_that_an_older_version_refuses_is_not_damaged(
    lab: Lab, run: Run, spec: MachineSpec, disk: DiskSpec, feature: str, refused_by: str
) -> None:
    """The first is refused by e2fsck, the second by the kernel."""
    _plant(disk, "has_journal", feature)

    with pytest.raises(BootFailed) as failure, _older("base-bookworm", spec, lab, run):
        pass

    finding = failure.value.finding
    assert finding.id == "rollback-not-safe"
    assert finding.what.endswith(f": {feature}")
    assert refused_by in finding.evidence[-1]
    assert "damaged" not in finding.evidence[-1]


@pytest.mark.parametrize("release", ["base-bookworm", "base-noble"])
def test_the_features_that_the_next_release_makes_by_default_are_accepted(
    lab: Lab, run: Run, spec: MachineSpec, disk: DiskSpec, release: str
) -> None:
    _plant(disk, "orphan_file,metadata_csum_seed")

    with _older(release, spec, lab, run) as machine:
        assert machine.check("findmnt --raw --noheadings --output FSTYPE,OPTIONS /data").startswith("ext4 rw,")


def _older(release: str, spec: MachineSpec, lab: Lab, run: Run) -> AbstractContextManager[Machine]:
    definition = load_definition(ROOT / "images" / release)
    context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
    return boot(spec, build(definition, find_store()), definition, context=context)


@pytest.mark.parametrize("role", ["as-it-is", "without-the-record"])
def test_files_stay_with_their_user_although_its_number_changes(judge: Judge, tmp_path: Path, role: str) -> None:
    old, new = (
        _images(tmp_path / f"number-{keeper}", role, keeper=keeper, other=other)
        for keeper, other in ((801, 802), (802, 801))
    )
    previous = build(load_definition(old / "numbers"), find_store())

    _, verdict = judge(
        "numbers", "--thorough", "--boot-path=direct", f"--previous={previous.folder}",
        "tests/image/test_upgrades.py", "-k", "back-from-the-first", images=new,
    )  # fmt: skip

    if role == "as-it-is":
        assert (verdict.findings, verdict.coverage.failed) == ((), ())
    else:
        (finding,) = verdict.findings
        assert (finding.id, verdict.outcome) == ("check-failed", Outcome.FAILED)
        assert re.search(
            r"/var/local/kept and its like were of user keeper \(802\), are of other \(802\)", text_of(finding)
        )


def _images(images: Path, role: str, *, keeper: int, other: int) -> Path:
    folder = images / "numbers"
    folder.mkdir(parents=True)
    (images / "roles").symlink_to(ROOT / "images" / "roles")
    text = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
    (folder / "image.toml").write_text(text.replace('"2026.11"', f'"{keeper}"'), "utf-8")
    then = "true" if role == "as-it-is" else "ln -sf /bin/true /usr/lib/persist/keep-numbers"
    playbook = PLAYBOOK.format(keeper=keeper, other=other, then=then, root=ROOT)
    (folder / "playbook.yml").write_text(playbook, "utf-8")
    return images

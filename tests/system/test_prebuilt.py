"""Artifacts of other builders: each format of a root file system, imported from a folder and booted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build import chroot
from harness.build.imported import take_in
from harness.core.errors import UsageError
from harness.core.namespaces import remove
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.verdict import Outcome, Verdict
from harness.store.store import Store, find_store

from .conftest import ROOT
from .live_medium import make_live_medium

Judge = Callable[..., tuple[int, Verdict]]
Booting = Callable[..., AbstractContextManager[Machine]]

_UNPACK = "unsquashfs -q -n -d {tree} {squashfs} >/dev/null"
_EXT4 = "truncate -s 1G {image} && mkfs.ext4 -q -d {tree} {image}"
_FORMATS = {
    "ext4": f"{_UNPACK} && {_EXT4} && mv {{image}} {{out}}/rootfs.ext4",
    "live": f"{_UNPACK} && {_EXT4} && mkdir -p {{work}}/live/LiveOS && mv {{image}} {{work}}/live/LiveOS/ "
    "&& mksquashfs {work}/live {out}/rootfs.squashfs -comp zstd -Xcompression-level 1 -quiet -no-progress",
    "tar": f"{_UNPACK} && {_EXT4} && tar -C {{work}} -cSzf {{out}}/rootfs.img rootfs.img",
}
"""Commands that make other root file systems of the tree in our squashfs."""

_ARGUMENTS = {"tar": ["systemd.condition_needs_update=no"]}
"""An image that is unpacked and mounted writable needs no overlay."""


@pytest.fixture
def folder(tmp_path: Path, artifacts: Artifacts) -> Path:
    """A folder with kernel and initrd of base, under the names of another builder."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(artifacts.kernel, folder / f"vmlinuz-{artifacts.manifest.kernel_version}")
    shutil.copy(artifacts.initrd, folder / "initramfs.img")
    return folder


def _pack(form: str, artifacts: Artifacts, folder: Path, work: Path) -> None:
    work.mkdir()
    names = {"work": work, "tree": work / "tree", "image": work / "rootfs.img", "out": folder}
    script = _FORMATS[form].format(squashfs=artifacts.rootfs, **names)
    chroot.run(["sh", "-c", script], log=work.with_suffix(".log"))
    remove(work)


@pytest.mark.parametrize(
    ("form", "path"),
    [("ext4", BootPath.IPXE_BIOS), ("live", BootPath.DIRECT), ("tar", BootPath.DIRECT)],
)
def test_a_root_filesystem_of_this_format_is_described_and_boots(
    form: str, path: BootPath, artifacts: Artifacts, folder: Path, base: ImageDefinition, spec: MachineSpec,
    booting: Booting, tmp_path: Path
) -> None:  # fmt: skip
    _pack(form, artifacts, folder, tmp_path / "work")

    theirs = take_in(folder, base, Store(tmp_path / "store"), kernel_arguments=_ARGUMENTS.get(form))

    assert theirs.manifest.packages == artifacts.manifest.packages
    assert theirs.manifest.version == artifacts.manifest.version
    assert not theirs.manifest.is_ours
    with booting(replace(spec, boot_path=path, memory_mib=6144), artifacts=theirs) as machine:
        assert machine.check("cat /etc/machine-id")


def test_the_same_folder_is_the_same_artifacts_and_stays_as_it_was(
    artifacts: Artifacts, folder: Path, base: ImageDefinition, tmp_path: Path
) -> None:
    shutil.copy(artifacts.rootfs, folder / "filesystem.squashfs")
    names = sorted(folder.iterdir())
    store = Store(tmp_path / "store")

    taken = [take_in(folder, base, store) for _ in range(2)]

    assert taken[0] == taken[1]
    assert sorted(folder.iterdir()) == names


def test_a_manifest_that_came_along_is_checked_to_the_byte(
    artifacts: Artifacts, base: ImageDefinition, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifacts.folder, copy)
    assert take_in(copy, base, find_store()) == artifacts

    rootfs = copy / artifacts.rootfs.name
    rootfs.chmod(0o644)
    with rootfs.open("r+b") as file:
        file.seek(1 << 20)
        byte = file.read(1)
        file.seek(1 << 20)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(UsageError, match=r"rootfs\.squashfs was changed"):
        take_in(copy, base, find_store())


@pytest.fixture(scope="module")
def live_medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("medium")
    make_live_medium(folder, find_store())
    return folder


@pytest.mark.parametrize("path", ["direct", "ipxe-bios"])
def test_a_live_medium_of_casper_is_described_and_judged(judge: Judge, live_medium: Path, path: str) -> None:
    """Its definition demands sshd.service, which is ssh.service on Ubuntu."""
    tests = ("tests/image/test_image.py", "tests/image/test_services.py")

    _, verdict = judge(
        "ubuntu-live", f"--artifacts={live_medium}", f"--boot-path={path}", *tests, images=ROOT / "tests/system/images"
    )

    assert not verdict.findings
    assert {"image", "services", f"boot:{path}"} <= set(verdict.coverage.passed)
    (boot,) = verdict.boots
    assert boot.added_arguments[0].startswith("url=http://")
    assert boot.added_arguments[0].endswith("/rootfs.iso")


def test_an_older_system_is_judged_over_ssh_and_what_that_leaves_unseen_is_named(judge: Judge) -> None:
    status, verdict = judge("base-bookworm", "--boot-path=direct", "tests/image/test_links.py")

    assert "links" in verdict.coverage.passed
    assert not verdict.findings
    assert any("SSH" in what for what in verdict.coverage.unchecked)
    assert status == Outcome.INCONCLUSIVE.exit_status  # the other checks were not asked for
    assert all("ip=dhcp" in boot.added_arguments for boot in verdict.boots)

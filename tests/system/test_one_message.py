"""One cause, one message: an image that cannot boot is one finding on the terminal and in every file."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.build import chroot
from harness.core.namespaces import remove
from harness.model.artifacts import Artifacts
from harness.model.verdict import Outcome

from .conftest import Judge

_RENAME = """
unsquashfs -q -n -d {tree} {squashfs} >/dev/null
for folder in {tree}/usr/lib/modules/*; do mv "$folder" "$folder-old"; done
mksquashfs {tree} {out}/rootfs.squashfs -comp zstd -Xcompression-level 1 -quiet -no-progress
"""
SUITE = ("tests/image/test_image.py", "tests/image/test_services.py", "tests/image/test_links.py")


@pytest.fixture
def without_modules(tmp_path: Path, artifacts: Artifacts) -> Path:
    """Artifacts of base whose only fault is that the folder of the kernel's modules has another name."""
    folder = tmp_path / "without-modules"
    folder.mkdir()
    for file in (artifacts.kernel, artifacts.initrd):
        shutil.copy(file, folder)
    (folder / "cmdline").write_text(" ".join(artifacts.manifest.kernel_arguments))
    tree = tmp_path / "tree"
    script = _RENAME.format(tree=tree, squashfs=artifacts.rootfs, out=folder)
    chroot.run(["sh", "-ec", script], log=tmp_path / "rename.log")
    remove(tree)
    return folder


def test_a_boot_that_fails_is_one_message(
    judge: Judge, without_modules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, verdict = judge("base", f"--artifacts={without_modules}", "--boot-path=direct", "-n2", *SUITE)

    text = capsys.readouterr().out
    print(text)
    lines = text.splitlines()
    (finding,) = verdict.findings
    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert finding.id == "unit-failed"
    assert len(lines) <= 40
    assert any(finding.what in line for line in lines[:10])
    assert "Traceback" not in "\n".join(lines)
    (suite,) = ElementTree.parse(tmp_path / "latest" / "junit.xml").getroot()
    tests = int(suite.attrib["tests"])
    assert (len(finding.tests), int(suite.attrib["errors"]), int(suite.attrib["skipped"])) == (tests, 1, tests - 1)
    assert f"{tests} tests need a booted machine and did not run" in lines
    assert len(list((tmp_path / "latest").resolve().glob("*.bundle"))) == 1

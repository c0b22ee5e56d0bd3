"""The change that turns a good image into a bad one is found, in real boots."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.core import serialization
from harness.model.artifacts import Artifacts, load_artifacts
from harness.promotion.promote import promote

from ..harness.proven import Proven
from .conftest import Judge

ROOT = Path(__file__).parents[2]
BOOTS = """\
def test_it_boots(cold_machine):
    assert cold_machine.is_on
"""
LOOKS = """\
def test_the_kernel_has_no_nonsense_argument(machine):
    assert "nonsense" not in machine.check("cat /proc/cmdline")
"""


def _with_arguments(artifacts: Artifacts, folder: Path, *more: str) -> Path:
    folder.mkdir()
    for name in artifacts.manifest.files:
        (folder / name).symlink_to(artifacts.folder / name)
    arguments = (*artifacts.manifest.kernel_arguments, *more)
    serialization.write(folder / "manifest.json", replace(artifacts.manifest, kernel_arguments=arguments))
    return folder


def _bisect(*arguments: object, cwd: Path = ROOT) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "harness", "bisect", *map(str, arguments)]
    done = subprocess.run(argv, cwd=cwd, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout, done.stderr


def test_the_argument_that_breaks_a_boot_is_named(artifacts: Artifacts, tmp_path: Path) -> None:
    bad = _with_arguments(artifacts, tmp_path / "bad", "bootproof.harmless", "systemd.mask=ssh.service")

    status, said, steps = _bisect(artifacts.folder, bad)

    assert status == 0
    assert said.startswith("unit-not-ready is caused by: argument none → systemd.mask=ssh.service\n4 tries; ")
    assert "BAD shows unit-not-ready in 1 of 1\nGOOD: good\n" in steps
    assert "argument none → bootproof.harmless: good\n" in steps


def test_the_network_fault_of_a_bundle_is_named(judge: Judge, artifacts: Artifacts, tmp_path: Path) -> None:
    """And neither the boot path nor any other difference of the machines."""
    (tmp_path / "test_mine.py").write_text(BOOTS)
    judge("base", "-n0", "--network-fault=http-404-rootfs", "--boot-path=ipxe-bios", str(tmp_path / "test_mine.py"))
    (bundle,) = (tmp_path / "latest").glob("*.bundle")

    status, said, _ = _bisect(artifacts.folder, bundle)

    assert status == 0
    assert said.startswith("http-error is caused by: ")
    assert "network faults http-404-rootfs" in said.splitlines()[0]


def test_a_test_can_decide_what_is_good_and_bad(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(LOOKS)
    bad = _with_arguments(artifacts, tmp_path / "bad", "bootproof.nonsense", "bootproof.harmless")

    node = "test_mine.py::test_the_kernel_has_no_nonsense_argument"
    status, said, _ = _bisect(artifacts.folder, bad, f"--test={node}", f"--images-dir={ROOT}/images", cwd=tmp_path)

    assert status == 0
    assert said.startswith("check-failed is caused by: argument none → bootproof.nonsense\n")


def test_the_first_bad_version_of_a_stream_is_named(artifacts: Artifacts, tmp_path: Path) -> None:
    changes = ((), ("bootproof.2",), ("bootproof.2", "bootproof.3"), ("systemd.mask=ssh.service",),
               ("systemd.mask=ssh.service", "bootproof.5"))  # fmt: skip
    proven = Proven(tmp_path)
    proven.demand()
    versions = []
    for number, more in enumerate(changes, 1):
        made = load_artifacts(_with_arguments(artifacts, tmp_path / f"v{number}", *more))
        versions.append(made)
        verdict = proven.verdict(made)
        verdict = replace(
            verdict,
            image="base",
            digests={**verdict.digests, "definition": made.manifest.definition},
            started=(datetime.now(UTC) - timedelta(hours=1)).isoformat(),
        )
        proof = proven.proof(made, verdict)
        promote(proven.tree, "base", "stable", made, [proof], proven.promoter(datetime.now(UTC)))

    status, said, steps = _bisect(
        versions[0].digest, versions[-1].digest, f"--tree={proven.tree.root}", "--stream=stable"
    )

    assert status == 0
    assert "5 versions in stable\n" in steps
    assert said.startswith("unit-not-ready is caused by: argument none → systemd.mask=ssh.service\n")
    assert f"({versions[3].digest[:12]})" in said
    assert f"({versions[-1].digest[:12]})" not in said

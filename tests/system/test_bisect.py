"""What turned a good image into a bad one is found, in real boots."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from harness import record
from harness.artifacts import Artifacts

ROOT = Path(__file__).parents[2]


def _with_arguments(artifacts: Artifacts, folder: Path, *more: str) -> Path:
    folder.mkdir()
    for name in artifacts.manifest.files:
        (folder / name).symlink_to(artifacts.folder / name)
    arguments = (*artifacts.manifest.kernel_arguments, *more)
    record.write(folder / "manifest.json", replace(artifacts.manifest, kernel_arguments=arguments))
    return folder


def test_the_argument_that_breaks_a_boot_is_named(artifacts: Artifacts, tmp_path: Path) -> None:
    bad = _with_arguments(artifacts, tmp_path / "bad", "bootproof.harmless", "systemd.mask=ssh.service")
    argv = [sys.executable, "-m", "harness", "bisect", str(artifacts.folder), str(bad)]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)

    assert done.returncode == 0
    assert done.stdout.startswith("unit-not-ready comes with: argument none → systemd.mask=ssh.service\n4 tries; ")
    assert "BAD shows unit-not-ready in 1 of 1\nGOOD: good\n" in done.stderr
    assert "argument none → bootproof.harmless: good\n" in done.stderr

"""What a guest runs for a kexec, tried with programs that stand for its own; and the findings."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.core import process
from harness.model.artifacts import Artifacts, Manifest
from harness.qemu import kexec

ARTIFACTS = Artifacts(
    folder=Path("/nowhere"),
    manifest=Manifest(
        image="base", version="1", kernel_version="6", kernel_arguments=(), files={}, packages={}, dracut_modules=(),
        initrd_drivers=(), definition="", sources={}, builder={},
    ),
)  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is all of PATH but for a few; ``calls`` in it has the arguments of kexec."""
    for name in ("mktemp", "rm", "cat", "sh"):
        (tmp_path / name).symlink_to(process.require(name, "coreutils"))
    _program(tmp_path / "curl", 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo "$2" >"$2"; shift; done')
    return tmp_path


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _load(programs: Path) -> tuple[int, str]:
    command = kexec.load_command(ARTIFACTS, ("quiet", "a='b c'"))
    return process.answer(["env", f"PATH={programs}", "sh", "-c", command])


def test_the_kernel_is_loaded_with_its_arguments_and_the_boot_id_printed(programs: Path) -> None:
    _program(programs / "kexec", f'printf "%s\\n" "$@" >>{shlex.quote(str(programs))}/calls')

    status, printed = _load(programs)

    assert (status, printed.strip()) == (0, Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    assert (programs / "calls").read_text().splitlines() == [
        "-s", "-l", "vmlinuz", "--initrd=initrd.img", "--command-line=quiet a='b c'",
    ]  # fmt: skip


def test_a_kernel_without_file_load_gets_the_older_call(programs: Path) -> None:
    _program(programs / "kexec", '[ "$1" != -s ]')

    assert _load(programs)[0] == 0


def test_each_failure_has_its_own_finding(programs: Path) -> None:
    missing, _ = _load(programs)
    _program(programs / "kexec", "echo refused >&2; exit 1")
    refused, printed = _load(programs)
    _program(programs / "curl", "exit 22")
    unfetched, _ = _load(programs)

    ids = [kexec.load_finding(status, (printed,), "x").id for status in (missing, refused, unfetched)]
    assert ids == ["kexec-missing", "kexec-load-failed", "kexec-load-failed"]
    assert "refused" in printed
    assert unfetched == 22

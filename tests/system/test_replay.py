"""A failure is reproduced from its bundle, and is gone when its cause is changed."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.model.verdict import Verdict

ROOT = Path(__file__).parents[2]
REPLAY = [sys.executable, "-m", "harness", "replay"]
Judge = Callable[..., tuple[int, Verdict]]

BOOTS = """\
def test_it_boots(cold_machine):
    assert cold_machine.is_on
"""
KEEPS = """\
def test_it_keeps(machine):
    machine.check("echo kept >/data/kept")
    assert machine.check("cat /data/kept") == "something else"
"""


def _replay(*arguments: object, cwd: Path = ROOT) -> tuple[int, str]:
    done = subprocess.run([*REPLAY, *map(str, arguments)], cwd=cwd, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout


def test_a_failed_boot_fails_again_but_not_without_the_network_fault(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(BOOTS)
    status, verdict = judge("base", "-n0", "--network-fault=http-404-rootfs", str(tmp_path / "test_mine.py"))
    (bundle,) = (tmp_path / "latest").glob("*.bundle")

    assert (status, [finding.id for finding in verdict.findings]) == (1, ["http-error"])
    assert bundle.stat().st_size < 25 << 20
    assert _replay(bundle) == (1, "http-error: reproduced in 1 of 1\n")
    status, said = _replay(bundle, "--set", "network-faults=")
    assert (status, said) == (0, "http-error: reproduced in 0 of 1\nno finding: 1 of 1\n")


def test_a_failed_test_is_run_again(tmp_path: Path) -> None:
    """In a repository of its own, as operators have."""
    file = tmp_path / "test_mine.py"
    file.write_text(KEEPS)
    argv = [sys.executable, "-m", "pytest", "--image=base", f"--images-dir={ROOT}/images", "-n0", file.name]
    done = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    (bundle,) = (tmp_path / "runs" / "latest").glob("*.bundle")

    assert f"bootproof replay {bundle.resolve()}" in done.stdout
    assert _replay(bundle, f"--images-dir={ROOT}/images", cwd=tmp_path)[0] == 1
    file.write_text(KEEPS.replace("something else", "kept"))
    assert _replay(bundle, f"--images-dir={ROOT}/images", cwd=tmp_path)[0] == 0


def test_replay_opens_the_monitor_and_waits_for_gdb(judge: Judge, tmp_path: Path) -> None:
    """gdb connects before the first instruction."""
    (tmp_path / "test_mine.py").write_text(BOOTS)
    judge("base", "-n0", "--network-fault=http-404-kernel", str(tmp_path / "test_mine.py"))
    (bundle,) = (tmp_path / "latest").glob("*.bundle")
    argv = [*REPLAY, str(bundle)]

    done = subprocess.run(
        [*argv, "--monitor"], cwd=ROOT, check=True, input="info status\n", capture_output=True, text=True
    )
    assert "(qemu) VM status: running" in done.stdout
    with subprocess.Popen(
        [*argv, "--gdb"], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert child.stdin is not None
        said = next(line for line in child.stderr if line.startswith("gdb -ex 'target remote /"))
        assert "waits before its first instruction" in child.stderr.readline()
        with socket.socket(socket.AF_UNIX) as gdb:
            gdb.connect(said.split()[-1].rstrip("'"))
            gdb.settimeout(30)
            gdb.sendall(b"$g#67")
            registers = b""
            while b"#" not in registers:
                registers += gdb.recv(4096)
        child.stdin.write("\x1d")
        child.stdin.close()
        assert child.wait(60) == 0
    assert b"f0ff000000000000" in registers, "rip: x86 begins at 0xfff0"

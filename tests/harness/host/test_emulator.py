"""The quickest QEMU that is installed is measured, once; shell scripts take the place of QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host import emulator
from harness.host.emulator import EmulatorTime, best, installed
from harness.model.qemu import Qemu
from harness.qemu import program


def install(folder: Path, version: str = "10.0.2", work: str = "echo 'Kernel panic - not syncing'") -> Qemu:
    """A QEMU in ``folder`` that counts its boots in ``boots`` and then does ``work``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program.NAME
    version_of = f'[ "$1" = --version ] && echo "QEMU emulator version {version}" && exit'
    path.write_text(f'#!/bin/sh\n{version_of}\necho "$*" >>{folder}/boots\n{work}; exec sleep 60\n')
    path.chmod(0o755)
    return Qemu(program=str(path), version=version)


COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); done; echo 'Kernel panic - not syncing'"
SOME, BUSY = COUNT.format(150_000), COUNT.format(1_500_000)
"""Some hundredths of a second of CPU time, which is counted in hundredths, and ten times as much."""


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(b"a kernel")
    return tmp_path / "vmlinuz"


def boots(qemu: Qemu) -> int:
    file = Path(qemu.program).with_name("boots")
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_those_of_path_are_first_and_each_file_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = install(tmp_path / "bin"), install(tmp_path / "opt" / "q" / "bin", "11.1.0")
    install(tmp_path / "old", "5.2.0")
    broken = install(tmp_path / "broken")
    Path(broken.program).write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "link").symlink_to(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{tmp_path / 'old'}:{tmp_path / 'broken'}:{tmp_path / 'link'}")

    found = installed([f"{tmp_path}/opt/*/bin", str(tmp_path / "bin")])

    assert [(qemu.program, qemu.version) for qemu in found] == [(ours.program, "10.0.2"), (other.program, "11.1.0")]


def test_the_quicker_is_used_and_measured_once(tmp_path: Path, kernel: Path) -> None:
    slow, quick = install(tmp_path / "a", "7.2.22", BUSY), install(tmp_path / "b", work=SOME)

    chosen = [emulator.choose([slow, quick], kernel, kernel, tmp_path / "memory") for _ in range(3)]

    assert {qemu.program for qemu in chosen} == {quick.program}
    assert boots(slow) == boots(quick) == 1


def test_a_changed_program_is_measured_again(tmp_path: Path, kernel: Path) -> None:
    slow, quick = install(tmp_path / "a", "7.2.22", BUSY), install(tmp_path / "b")
    emulator.choose([slow, quick], kernel, kernel, tmp_path / "memory")
    install(tmp_path / "a", "7.2.22", "echo 'Kernel panic - not syncing'; true")

    emulator.choose([slow, quick], kernel, kernel, tmp_path / "memory")

    assert boots(slow) == 2


def test_the_only_one_needs_no_measurement(tmp_path: Path, kernel: Path) -> None:
    only = install(tmp_path / "a")

    assert emulator.choose([only], kernel, kernel, tmp_path / "memory") == only
    assert boots(only) == 0


def test_the_first_is_kept_unless_another_is_clearly_quicker() -> None:
    first, second = Qemu(program="/a", version="7.2.22"), Qemu(program="/b", version="10.0.2")

    def chosen(*cpu_s: float | None) -> Qemu:
        return best([EmulatorTime(qemu=qemu, cpu_s=used) for qemu, used in zip((first, second), cpu_s, strict=True)])

    assert chosen(10.0, 9.7).program == "/a"
    assert chosen(10.0, 7.0).program == "/b"
    assert chosen(10.0, 7.0).reason == "the same work took it 7.0 CPU seconds, 10.0 for QEMU 7.2.22 (/a)"
    assert chosen(7.0, 10.0).program == "/a"
    assert chosen(None, 10.0).program == "/b"
    assert chosen(10.0, None).reason == "the same work took it 10.0 CPU seconds, no end for QEMU 10.0.2 (/b)"
    assert "none of those installed completed" in chosen(None, None).reason


def test_the_work_is_emulated_as_machines_are(tmp_path: Path, kernel: Path) -> None:
    quick = install(tmp_path / "a")

    emulator.measure([quick], kernel, kernel)

    argv = Path(quick.program).with_name("boots").read_text()
    assert "-accel tcg,thread=single,tb-size=256 -cpu max,-erms,-fsrm" in argv
    assert f"-initrd {kernel}" in argv

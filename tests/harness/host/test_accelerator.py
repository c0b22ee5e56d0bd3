"""The accelerator is proven by a kernel's first line; a shell script takes the place of QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import HostError, UsageError
from harness.host.accelerator import AcceleratorChoice, choose, slowness
from harness.model.machine_spec import Accelerator
from harness.model.qemu import Qemu

STUB = Path("/dev/null")
"""A device that opens, as /dev/kvm does on a host that has it."""
TCG = AcceleratorChoice(accelerator=Accelerator.TCG, reason="")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"a kernel")
    return path


def _qemu(tmp_path: Path, script: str) -> Qemu:
    """A QEMU that keeps its arguments in ``starts``, a line for each start, and then does ``script``."""
    path = tmp_path / "qemu"
    path.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/starts\n{script}\n')
    path.chmod(0o755)
    return Qemu(program=str(path), version="10.0.2")


def _starts(tmp_path: Path) -> int:
    file = tmp_path / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_tcg_needs_no_proof(kernel: Path, tmp_path: Path) -> None:
    assert choose("tcg", kernel, tmp_path, qemu=_qemu(tmp_path, "exit 1")).accelerator is Accelerator.TCG


def test_another_word_is_a_usage_error(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no accelerator 'hvf'; known: auto, kvm, tcg"):
        choose("hvf", kernel, tmp_path, qemu=_qemu(tmp_path, "exit 1"))


def test_a_first_line_is_the_proof(kernel: Path, tmp_path: Path) -> None:
    qemu = _qemu(tmp_path, "echo 'SeaBIOS'; echo '[0.0] Linux version 6.12'; exec sleep 60")

    choice = choose("auto", kernel, tmp_path / "memory", qemu=qemu, device=STUB)

    assert choice.accelerator is Accelerator.KVM
    assert choose("kvm", kernel, tmp_path / "memory", qemu=qemu, device=STUB) == choice


def test_the_answer_is_remembered_by_kernel(kernel: Path, tmp_path: Path) -> None:
    qemu = _qemu(tmp_path, "exit 1")
    answers = {choose("auto", kernel, tmp_path / "memory", qemu=qemu, device=STUB) for _ in range(3)}
    assert (len(answers), _starts(tmp_path)) == (1, 1)

    kernel.write_bytes(b"another kernel")
    choose("auto", kernel, tmp_path / "memory", qemu=qemu, device=STUB)
    assert _starts(tmp_path) == 2


def test_a_qemu_that_gives_up_is_quoted(kernel: Path, tmp_path: Path) -> None:
    qemu = _qemu(tmp_path, "echo 'failed to set MSR' >&2; exit 3")

    choice = choose("auto", kernel, tmp_path / "memory", qemu=qemu, device=STUB)

    assert choice.accelerator is Accelerator.TCG
    assert "QEMU ended with status 3 and had printed 'failed to set MSR'" in choice.reason


def test_a_kernel_that_spins_for_ever_is_given_up(kernel: Path, tmp_path: Path) -> None:
    dump = "KVM internal error. Suberror: 1\\nextra data[0]: 0x1\\nRAX=02 R8 =01\\nCR0=80050033\\nCode=05 83 <c4>\\n"
    qemu = _qemu(tmp_path, f"printf '\\033[2JSeaBIOS\\033c\\n{dump}'; exec sleep 60")

    choice = choose("auto", kernel, tmp_path / "memory", qemu=qemu, device=STUB, probe_s=0.3)

    assert "QEMU still ran and had printed 'SeaBIOS KVM internal error. Suberror: 1'" in choice.reason


def test_asking_for_a_kvm_that_lies_is_the_host_s_fault(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(
        HostError, match=r"kvm was asked for, but this kernel does not start under /dev/kvm: .*; --accel auto or tcg"
    ):
        choose("kvm", kernel, tmp_path / "memory", qemu=_qemu(tmp_path, "exit 1"), device=STUB)


def test_the_kernel_is_tried_with_the_processor_of_the_host(kernel: Path, tmp_path: Path) -> None:
    qemu = _qemu(tmp_path, "echo 'Linux version 6.12'; exec sleep 60")

    choose("kvm", kernel, tmp_path / "memory", qemu=qemu, device=STUB)

    assert " -accel kvm -cpu host " in (tmp_path / "starts").read_text()


def test_a_host_without_the_device_is_told_how_to_get_it(kernel: Path, tmp_path: Path) -> None:
    qemu = _qemu(tmp_path, "echo 'Linux version 6.12'; exec sleep 60")

    with pytest.raises(HostError, match=r"kvm was asked for, but /nowhere does not exist \(load kvm_amd or"):
        choose("kvm", kernel, tmp_path / "memory", qemu=qemu, device=Path("/nowhere"))
    assert _starts(tmp_path) == 0


def test_the_time_until_the_kernel_panics_is_the_slowness_of_emulation(kernel: Path, tmp_path: Path) -> None:
    quick = _qemu(tmp_path, "echo 'Kernel panic - not syncing'; exec sleep 60")
    assert slowness(TCG, kernel, qemu=quick) == 1.0

    slow = _qemu(tmp_path, "sleep 0.5; echo 'Kernel panic - not syncing'; exec sleep 60")
    assert slowness(TCG, kernel, qemu=slow, reference_s=0.1) >= 5


def test_deadlines_do_not_grow_with_the_slowness_of_an_emulation_that_is_not_used(kernel: Path, tmp_path: Path) -> None:
    by_kvm = AcceleratorChoice(accelerator=Accelerator.KVM, reason="")

    assert slowness(by_kvm, kernel, qemu=_qemu(tmp_path, "sleep 0.5"), reference_s=0.001) == 1.0
    assert _starts(tmp_path) == 0

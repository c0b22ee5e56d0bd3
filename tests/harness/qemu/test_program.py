"""Which QEMU starts machines: shell scripts take the place of QEMU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.model.qemu import Thread
from harness.qemu import program


def qemu(folder: Path, version: str = "10.0.2") -> Path:
    """A QEMU in ``folder`` that only prints its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program.NAME
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
    path.chmod(0o755)
    return path


def test_an_option_names_a_qemu_and_how_it_emulates(tmp_path: Path) -> None:
    path = qemu(tmp_path)

    plain, several = program.named(str(path)), program.named(f"{path},thread=multi")

    assert plain
    assert several
    assert (plain.program, plain.version, plain.thread) == (str(path), "10.0.2", Thread.SINGLE)
    assert several.thread is Thread.MULTI
    assert str(several) == f"QEMU 10.0.2 ({path},thread=multi)"
    assert several.reason == "named by --qemu"


def test_the_variable_names_one_where_no_option_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_variable, by_option = qemu(tmp_path / "a"), qemu(tmp_path / "b")
    monkeypatch.setenv("BOOTPROOF_QEMU", str(by_variable))

    first, second = program.named(), program.named(str(by_option))

    assert first
    assert second
    assert (first.program, first.reason) == (str(by_variable), "named by $BOOTPROOF_QEMU")
    assert second.program == str(by_option)


def test_without_either_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOTPROOF_QEMU", raising=False)

    assert program.named() is None


@pytest.mark.parametrize(
    ("script", "thread", "message"),
    [
        (None, "", "is not a program"),
        ("exit 3", "", "ended with status 3"),
        ("echo hello", "", "is not QEMU: with --version it prints 'hello"),
        ("echo QEMU emulator version 5.2.0", "", "is QEMU 5.2.0; the oldest tested version is 7.2"),
        ("echo QEMU emulator version 10.0.2", ",thread=both", "thread is single or multi, not 'both'"),
    ],
)
def test_a_wrong_one_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, thread: str, message: str
) -> None:
    path = tmp_path / "q"
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("BOOTPROOF_QEMU", f"{path}{thread}")

    with pytest.raises(UsageError, match=re.escape(f"$BOOTPROOF_QEMU {path}{thread}: ")) as refused:
        program.named()

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == 4

"""``bootproof replay`` without a boot: what --set changes, what the result shows, what is refused."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.core.errors import UsageError
from harness.model.machine_spec import BootPath, BreakPoint, MachineSpec, NicModel
from harness.model.verdict import Finding
from harness.replay.break_at import stop_at
from harness.replay.bundle import UNFINISHED, Failure
from harness.replay.case import AttemptFinding, Case
from harness.replay.changes import CHANGES, change
from harness.replay.replay import matching, summarize
from harness.store.store import Store

CASE = Case(
    spec=MachineSpec(name="m", uuid=uuid.uuid4(), boot_path=BootPath.IPXE_BIOS),
    artifacts=None,  # type: ignore[arg-type]  # nothing here looks at them
    definition=None,  # type: ignore[arg-type]  # nor at this
    network_faults=("dhcp-late",),
)
STORE = Store(Path("/nonexistent"))


@pytest.mark.parametrize(
    ("setting", "seen", "expected"),
    [
        ("memory=4096", lambda case: case.spec.memory_mib, 4096),
        ("cpus=1", lambda case: case.spec.cpus, 1),
        ("nic=e1000e", lambda case: [nic.model for nic in case.spec.nics], [NicModel.E1000E]),
        ("boot-path=ipxe-uefi", lambda case: (case.spec.boot_path, case.spec.is_uefi), (BootPath.IPXE_UEFI, True)),
        ("network-faults=", lambda case: case.network_faults, ()),
        ("network-faults=dns-absent,dhcp-late=5", lambda case: case.network_faults, ("dns-absent", "dhcp-late=5")),
        ("kernel-argument=rd.debug quiet", lambda case: case.arguments, ("rd.debug", "quiet")),
        ("delay=ssh.service:30", lambda case: [*case.spec.credentials.values()],
         ["[Service]\nTimeoutStartSec=infinity\nExecStartPre=sleep 30\n"]),
    ],
)  # fmt: skip
def test_set_changes_one_setting(setting: str, seen: Any, expected: object) -> None:
    assert seen(change(CASE, setting, STORE)) == expected


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("hail=1", "expected KEY=VALUE, where KEY is one of artifacts, boot-path"),
        ("memory", "expected KEY=VALUE"),
        ("memory=much", "'much' is not a positive whole number"),
        ("nic=carrier-pigeon", "carrier-pigeon"),
        ("boot-path=floppy", "floppy"),
        ("network-faults=hail", "'hail'"),
        ("artifacts=0123456789", "'0123456789'"),
        ("delay=ssh:30", "such as delay=ssh.service:30"),
        ("disk=/nonexistent", "file not found"),
    ],
)
def test_an_invalid_setting_is_quoted_with_its_problem(setting: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        change(CASE, setting, STORE)

    assert problem in str(refused.value)
    assert f"--set {setting}: " in str(refused.value)


def test_the_machine_of_a_test_cannot_be_resized() -> None:
    with pytest.raises(UsageError, match="only artifacts, boot-path, network-faults can be changed"):
        change(replace(CASE, test="t.py::x"), "memory=4096", STORE)


def test_a_machine_stops_where_break_at_says() -> None:
    assert stop_at(CASE, "initrd").arguments == ("rd.break=pre-mount",)
    assert stop_at(CASE, "ipxe").stop is BreakPoint.IPXE
    ((name, lines),) = stop_at(CASE, "after:ssh.service").spec.credentials.items()
    assert name.startswith("systemd.unit-dropin.ssh.service~")
    assert "ExecStartPost=sleep infinity" in lines


@pytest.mark.parametrize("where", ["moon", "during:ssh.service", "grub"])
def test_a_place_where_it_cannot_stop_is_refused(where: str) -> None:
    with pytest.raises(UsageError, match=f"--break-at {where}: "):
        stop_at(CASE, where)


def test_a_test_reproduces_only_its_own_finding() -> None:
    wanted = Finding(id="check-failed", what="it failed", where="t.py::test_x")
    mine = AttemptFinding(id="check-failed", where="t.py::test_x")
    other = AttemptFinding(id="check-failed", where="t.py::test_y")

    assert matching((other, mine), wanted, is_test=True) == "check-failed"
    assert matching((other,), wanted, is_test=True) == "check-failed at t.py::test_y"
    assert matching((other,), wanted, is_test=False) == "check-failed"
    assert matching((), wanted, is_test=True) == ""


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--help"])

    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [key for key in CHANGES if f"{key}=" not in shown] == []


@pytest.mark.parametrize(
    ("counts", "status", "lines"),
    [
        ({"boot-hangs": 3}, 1, ["boot-hangs: reproduced in 3 of 3"]),
        ({"": 3}, 0, ["boot-hangs: reproduced in 0 of 3", "no finding: 3 of 3"]),
        ({"boot-hangs": 1, "": 2}, 75, ["boot-hangs: reproduced in 1 of 3", "no finding: 2 of 3"]),
        ({"kernel-panic": 3}, 0, ["boot-hangs: reproduced in 0 of 3", "kernel-panic: 3 of 3"]),
    ],
)
def test_the_exit_status_tells_whether_the_failure_was_reproduced(
    counts: dict[str, int], status: int, lines: list[str]
) -> None:
    assert summarize(_failure(), counts, 3) == (lines, status)


@pytest.mark.parametrize(
    ("counts", "status", "last"),
    [
        ({"boot-hangs": 2, "": 8}, 1, "no finding: 8 of 10"),
        ({"boot-hangs": 10}, 1, "7% to 59%)"),
        ({"boot-hangs": 9, "": 1}, 75, "no finding: 1 of 10"),  # far more often: something else has changed
        ({"": 10}, 75, "too few tries to conclude that the failure is gone: --repeat 11"),
    ],
)
def test_an_intermittent_failure_is_reproduced_if_its_rate_is_that_of_its_run(
    counts: dict[str, int], status: int, last: str
) -> None:
    lines, exit_status = summarize(_failure(seen=2, tries=8), counts, 10)

    assert exit_status == status
    assert lines[0].startswith(f"boot-hangs: reproduced in {counts.get('boot-hangs', 0)} of 10 (")
    assert lines[0].endswith("); in its run in 2 of 8 (7% to 59%)")
    assert lines[-1].endswith(last)


def test_an_intermittent_failure_is_gone_after_enough_tries() -> None:
    _, exit_status = summarize(_failure(seen=2, tries=8), {"": 11}, 11)

    assert exit_status == 0


def test_an_unfinished_boot_is_reproduced_by_any_finding() -> None:
    lines, exit_status = summarize(_failure(UNFINISHED), {"kernel-panic": 1, "unit-failed": 1}, 2)

    assert exit_status == 1
    assert lines[0] == "not ready in 2 of 2"


def _failure(name: str = "boot-hangs", seen: int = 1, tries: int = 1) -> Failure:
    finding = Finding(id=name, what="it hangs", where="host1, boot 1 (direct)")
    return Failure(finding=finding, seen=seen, tries=tries)


def test_an_invalid_bundle_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    (tmp_path / "text").write_text("hello")

    assert main(["replay", str(tmp_path / "text")]) == 4
    printed = capsys.readouterr().err
    assert printed.startswith("bootproof: ")
    assert printed.count("\n") == 1
    assert not list((tmp_path / "store" / "tmp").iterdir())

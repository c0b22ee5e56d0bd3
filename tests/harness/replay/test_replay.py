"""``bootproof replay`` without booting: what may be changed, what it tells, what it refuses."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import _CHANGES as NAMED
from harness.cli.main import main
from harness.core.errors import UsageError
from harness.model.machine_spec import BootPath, MachineSpec, NicModel
from harness.model.verdict import Finding
from harness.replay.attempt import Case
from harness.replay.bundle import Failure
from harness.replay.replay import _CHANGES, _changed, _first, _stopped, _tell
from harness.store.store import Store

CASE = Case(
    spec=MachineSpec(name="m", uuid=uuid.uuid4(), boot_path=BootPath.IPXE_BIOS),
    artifacts=None,  # type: ignore[arg-type]  # nothing here looks at them
    definition=None,  # type: ignore[arg-type]  # nor at this
    network_faults=("dhcp-late",),
)
STORE = Store(Path("/nonexistent"))


@pytest.mark.parametrize(
    ("change", "seen", "awaited"),
    [
        ("memory=4096", lambda case: case.spec.memory_mib, 4096),
        ("cpus=1", lambda case: case.spec.cpus, 1),
        ("nic=e1000e", lambda case: [nic.model for nic in case.spec.nics], [NicModel.E1000E]),
        ("boot-path=ipxe-uefi", lambda case: (case.spec.boot_path, case.spec.is_uefi), (BootPath.IPXE_UEFI, True)),
        ("network-faults=", lambda case: case.network_faults, ()),
        ("network-faults=dns-absent,dhcp-late=5", lambda case: case.network_faults, ("dns-absent", "dhcp-late=5")),
        ("kernel-argument=rd.debug quiet", lambda case: case.arguments, ("rd.debug", "quiet")),
    ],
)
def test_one_thing_is_different(change: str, seen: Any, awaited: object) -> None:
    assert seen(_changed(CASE, change, STORE)) == awaited


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("hail=1", "KEY=VALUE with one of artifacts, boot-path"),
        ("memory", "KEY=VALUE with one of"),
        ("memory=much", "a whole number"),
        ("nic=carrier-pigeon", "carrier-pigeon"),
        ("boot-path=floppy", "floppy"),
        ("network-faults=hail", "no network fault 'hail'"),
        ("artifacts=0123456789", "no artifacts '0123456789'"),
    ],
)
def test_what_cannot_be_changed_is_said(change: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        _changed(CASE, change, STORE)

    assert said in str(refused.value)
    assert change in str(refused.value)


def test_it_stops_where_it_shall() -> None:
    assert _stopped(CASE, None) == CASE
    assert _stopped(CASE, "initrd").arguments == ("rd.break=pre-mount",)
    (name,) = _stopped(CASE, "ssh.service").spec.credentials
    assert name.startswith("systemd.unit-dropin.ssh.service~")
    with pytest.raises(UsageError, match="--at moon"):
        _stopped(CASE, "moon")


def test_another_finding_of_the_same_kind_elsewhere_has_not_come_back() -> None:
    assert _first(["check-failed at t.py::test_y", "check-failed"], "check-failed") == "check-failed"
    assert _first(["check-failed at t.py::test_y"], "check-failed") == "check-failed at t.py::test_y"
    assert _first([], "check-failed") == ""


def test_help_names_every_change() -> None:
    assert ", ".join(sorted(_CHANGES)) == NAMED


@pytest.mark.parametrize(
    ("seen", "status", "said"),
    [
        ({"boot-hangs": 3}, 1, "boot-hangs: came back in 3 of 3\n"),
        ({"": 3}, 0, "boot-hangs: came back in 0 of 3\nno finding: 3 of 3\n"),
        ({"boot-hangs": 1, "": 2}, 75, "boot-hangs: came back in 1 of 3\nno finding: 2 of 3\n"),
        ({"kernel-panic": 3}, 0, "boot-hangs: came back in 0 of 3\nkernel-panic: 3 of 3\n"),
    ],
)
def test_the_exit_status_says_whether_it_came_back(
    seen: dict[str, int], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tell(_failure(), Counter(seen), 3) == status
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("seen", "status", "said"),
    [
        ({"boot-hangs": 2, "": 8}, 1, ""),
        ({"boot-hangs": 10}, 1, ""),
        ({"boot-hangs": 9, "": 1}, 75, ""),  # far more often: something else has changed
        ({"": 10}, 75, "too few tries to say that it is gone: --times 11\n"),
    ],
)
def test_what_came_and_went_is_back_if_it_comes_as_often(
    seen: dict[str, int], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    back = seen.get("boot-hangs", 0)

    assert _tell(_failure(seen=2, tries=8), Counter(seen), 10) == status
    shown = capsys.readouterr().out
    assert shown.startswith(f"boot-hangs: came back in {back} of 10 (")
    assert "); in its run in 2 of 8 (7% to 59%)\n" in shown
    assert shown.endswith(said)


def test_what_came_and_went_is_gone_after_enough_tries() -> None:
    assert _tell(_failure(seen=2, tries=8), Counter({"": 11}), 11) == 0


def _failure(seen: int = 1, tries: int = 1) -> Failure:
    finding = Finding(id="boot-hangs", what="it hangs", where="host1, boot 1 (direct)")
    return Failure(finding=finding, seen=seen, tries=tries)


def test_a_bundle_that_is_none_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    (tmp_path / "text").write_text("hello")

    assert main(["replay", str(tmp_path / "text")]) == 4
    said = capsys.readouterr().err
    assert said.startswith("bootproof: ")
    assert said.count("\n") == 1
    assert not list((tmp_path / "store" / "tmp").iterdir())

"""Images whose console shows little are judged by what the guest says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.errors import Blame
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts, load_artifacts
from harness.model.events import Unchecked
from harness.model.machine_spec import BootPath, MachineSpec
from harness.runs.folder import Run

Booting = Callable[..., AbstractContextManager[Machine]]

SILENT = ("quiet", "loglevel=0", "systemd.show_status=0", "rd.systemd.show_status=0")
ELSEWHERE = ("console=ttyS0", "console=tty0")


def _with_arguments(artifacts: Artifacts, folder: Path, arguments: tuple[str, ...]) -> Artifacts:
    folder.mkdir()
    for name in artifacts.manifest.files:
        (folder / name).symlink_to(artifacts.folder / name)
    given = (*artifacts.manifest.kernel_arguments, *arguments)
    serialization.write(folder / "manifest.json", replace(artifacts.manifest, kernel_arguments=given))
    return load_artifacts(folder)


@pytest.mark.parametrize("arguments", [SILENT, ELSEWHERE], ids=["silent", "elsewhere"])
def test_a_good_image_whose_console_shows_little_is_ready_and_what_stays_unseen_is_named(
    arguments: tuple[str, ...], booting: Booting, spec: MachineSpec, artifacts: Artifacts, run: Run, tmp_path: Path
) -> None:
    with booting(spec, artifacts=_with_arguments(artifacts, tmp_path / "quiet", arguments)) as machine:
        assert machine.check("systemctl is-system-running") == "running"

    assert run.findings() == ()
    unseen = "\n".join(one.what for one in run.of_kind(Unchecked))
    assert "(loglevel=0)" in unseen if arguments is SILENT else "(console=tty0)" in unseen
    assert "userspace" in run.boots()[0].phases


def test_a_unit_that_fails_out_of_sight_is_found_and_named(
    booting: Booting, spec: MachineSpec, artifacts: Artifacts, tmp_path: Path
) -> None:
    credentials = {
        "systemd.extra-unit.hidden.service": "[Service]\nType=oneshot\nExecStart=/usr/bin/no-such-program\n",
        "systemd.unit-dropin.ssh.service~hidden": "[Unit]\nWants=hidden.service\nAfter=hidden.service\n",
    }
    quiet = _with_arguments(artifacts, tmp_path / "quiet", SILENT)
    with pytest.raises(BootFailed) as failure, booting(replace(spec, credentials=credentials), artifacts=quiet):
        pass

    print(failure.value)
    assert failure.value.finding.id == "unit-failed"
    assert failure.value.finding.what.startswith("hidden.service failed: exit status 203/EXEC")
    assert failure.value.finding.blame is Blame.IMAGE


def test_a_kexec_that_the_console_does_not_show_is_none_that_hangs(
    booting: Booting, spec: MachineSpec, artifacts: Artifacts, run: Run, tmp_path: Path
) -> None:
    quiet = _with_arguments(artifacts, tmp_path / "quiet", SILENT)
    with booting(replace(spec, boot_path=BootPath.KEXEC), artifacts=quiet) as machine:
        machine.reboot(into=quiet)
        assert machine.check("true") == ""

    assert run.findings() == ()

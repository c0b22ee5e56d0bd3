"""A unit that fails is named by the guest: in full, with its result, its cause and its journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from harness.core.errors import Blame
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Finding

Booting = Callable[..., AbstractContextManager[Machine]]


def _unit(name: str, text: str) -> dict[str, str]:
    """A unit of that name, which ssh.service needs."""
    return {
        f"systemd.extra-unit.{name}": text,
        f"systemd.unit-dropin.ssh.service~{name}": f"[Unit]\nRequires={name}\nAfter={name}\n",
    }


def _found(booting: Booting, spec: MachineSpec, credentials: dict[str, str]) -> Finding:
    with pytest.raises(BootFailed) as failure, booting(replace(spec, credentials=credentials)):
        pass
    print(failure.value)
    return failure.value.finding


def test_a_program_that_is_missing_is_named_with_the_units_that_follow(booting: Booting, spec: MachineSpec) -> None:
    program = "[Service]\nType=oneshot\nExecStart=/usr/bin/no-such-program --now\n"
    needs = "[Unit]\nRequires=first.service\nAfter=first.service\n[Service]\nType=oneshot\nExecStart=true\n"
    found = _found(booting, spec, {**_unit("first.service", program), **_unit("second.service", needs)})

    assert found.id == "unit-failed"
    assert found.what.startswith("first.service failed: exit status 203/EXEC")
    assert "its program /usr/bin/no-such-program is missing" in found.cause
    assert any("second.service" in line and line.startswith("because of it") for line in found.evidence)
    assert any("first.service: Failed with result 'exit-code'" in line for line in found.evidence)
    assert found.blame is Blame.IMAGE


def test_modules_in_a_folder_of_another_name_are_the_cause_of_what_fails(booting: Booting, spec: MachineSpec) -> None:
    rename = "cd /usr/lib/modules && for each in *; do mv $$each $$each-old; done"
    unit = f'[Service]\nType=oneshot\nExecStart=/bin/sh -c "{rename}"\nExecStart=/sbin/modprobe dummy\n'
    found = _found(booting, spec, _unit("needs-module.service", unit))

    assert found.what.startswith("needs-module.service failed: exit status 1")
    assert "/usr/lib/modules: there is " in found.cause
    assert found.cause.endswith("-old")


def test_a_mount_in_fstab_whose_device_no_disk_has_is_the_images_fault(booting: Booting, spec: MachineSpec) -> None:
    """A device that is absent when the boot has ended did not come late, however slow the host is."""
    device = "/dev/disk/by-uuid/6d1f0f3a-0000-4000-8000-000000000000"
    line = f"{device} /mnt/old ext4 defaults,x-systemd.device-timeout=20 0 2\n"
    found = _found(booting, spec, {"fstab.extra": line})

    assert found.id in ("unit-dependency-failed", "emergency-mode")
    assert f"{device}, which " in found.what
    assert any("mnt-old.mount" in line and line.startswith("because of it") for line in found.evidence)
    assert found.blame is Blame.IMAGE

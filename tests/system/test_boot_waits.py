"""What a boot waits for while the CPUs are idle is found and named, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.machine.machine import Machine
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import BootResult, Finding
from harness.runs.folder import Run

from .test_starved_hosts import starving

Booting = Callable[..., AbstractContextManager[Machine]]

_SECONDS = 40
_SEEN_S = _SECONDS / 4
"""What must be seen of that at least: on a slow host, other work of the boot takes the CPUs for most of the time."""


def _unit(service: str, unit: str = "") -> str:
    return f"[Unit]\n{unit}\n[Service]\n{service}\n"


def _wanted_by(target: str, **units: str) -> dict[str, str]:
    """Credentials with ``units``, by their names without the suffix, that ``target`` wants."""
    files = {f"systemd.extra-unit.{name}.service": text for name, text in units.items()}
    wants = " ".join(f"{name}.service" for name in units)
    return {**files, f"systemd.unit-dropin.{target}~planted": f"[Unit]\nWants={wants}\n"}


_SLEEPS = _unit(f"Type=oneshot\nExecStart=sleep {_SECONDS}")
_IN_INITRD = """\
ConditionPathExists=/etc/initrd-release
DefaultDependencies=no
After=sysroot.mount
Before=initrd-root-fs.target initrd-parse-etc.service
"""
_LATE_DEVICE = _unit(
    f'ExecStart=/bin/sh -c "sleep {_SECONDS}; truncate -s 1M /run/late; losetup /dev/loop7 /run/late"',
    "DefaultDependencies=no",
)

WAITS = {
    "a unit that sleeps": ("sleeper.service", _wanted_by("multi-user.target", sleeper=_SLEEPS)),
    "a service that is ready late": (
        "late.service",
        _wanted_by("multi-user.target", late=_unit(f"ExecStartPre=sleep {_SECONDS}\nExecStart=sleep infinity")),
    ),
    "a unit that sleeps in the initrd": (
        "early.service",
        _wanted_by(
            "initrd-root-fs.target",
            early=_unit(f"Type=oneshot\nRemainAfterExit=yes\nExecStart=sleep {_SECONDS}", _IN_INITRD),
        ),
    ),
    "a device that comes late": (
        "dev-loop7.device",
        {
            **_wanted_by("sysinit.target", attach=_LATE_DEVICE),
            "systemd.extra-unit.needs.service": _unit(
                "Type=oneshot\nExecStart=true", "Wants=dev-loop7.device\nAfter=dev-loop7.device"
            ),
            "systemd.unit-dropin.multi-user.target~needs": "[Unit]\nWants=needs.service\n",
        },
    ),
    "the unit that is waited for beside one that only takes long": (
        "sleeper.service",
        {
            **_wanted_by("multi-user.target", sleeper=_SLEEPS),
            "systemd.extra-unit.beside.service": _unit(
                f"Type=oneshot\nExecStart=sleep {_SECONDS - 5}", "DefaultDependencies=no"
            ),
            "systemd.unit-dropin.sysinit.target~beside": "[Unit]\nWants=beside.service\n",
        },
    ),
}

NO_WAITS = {
    "a unit that works": _wanted_by(
        "multi-user.target", worker=_unit(f"Type=oneshot\nStandardOutput=null\nExecStart=-timeout {_SECONDS} yes")
    ),
    "a service that sleeps when it runs": _wanted_by("multi-user.target", simple=_unit(f"ExecStart=sleep {_SECONDS}")),
    "nothing": {},
}


def _waits(run: Run) -> list[Finding]:
    return [finding for finding in run.findings() if finding.id == "boot-waits"]


def _boot(run: Run) -> BootResult:
    (boot,) = run.boots()
    print(boot.idle_s, boot.ready_s, *boot.waits, sep="\n")
    print((Path(boot.console).parent / "critical-path.json").read_text("utf-8"))
    return boot


@pytest.mark.parametrize("name", WAITS)
def test_what_a_boot_waits_for_is_named(name: str, booting: Booting, spec: MachineSpec, run: Run) -> None:
    unit, credentials = WAITS[name]

    with booting(replace(spec, credentials=credentials)) as machine:
        assert machine.check("systemctl is-system-running") == "running", "the machine can be used"

    boot = _boot(run)
    (finding,) = run.findings()
    print(finding)
    assert finding.id == "boot-waits"
    assert f"for {unit};" in finding.what
    assert boot.waits[0].unit == unit
    assert boot.waits[0].idle_s > _SEEN_S
    assert boot.idle_s is not None
    assert boot.idle_s >= boot.waits[0].idle_s
    assert (Path(boot.console).parent / "finding.json").exists(), "a bundle is made of it"


@pytest.mark.parametrize("name", NO_WAITS)
def test_what_a_boot_does_not_wait_for_is_no_finding(name: str, booting: Booting, spec: MachineSpec, run: Run) -> None:
    with booting(replace(spec, credentials=NO_WAITS[name])):
        pass

    assert run.findings() == ()
    assert _boot(run).idle_s is not None


def test_a_starved_machine_does_not_wait(booting: Booting, spec: MachineSpec, run: Run) -> None:
    with starving(spec, 0), booting(spec):
        pass

    assert _waits(run) == []
    assert _boot(run).idle_s is None


def test_a_serialised_start_is_on_the_critical_path(booting: Booting, spec: MachineSpec, run: Run) -> None:
    """ssh.service starts after a unit that it neither requires nor wants."""
    credentials = {
        **_wanted_by("multi-user.target", sleeper=_SLEEPS),
        "systemd.unit-dropin.ssh.service~planted": "[Unit]\nAfter=sleeper.service\n",
    }

    with booting(replace(spec, credentials=credentials)):
        pass

    path = json.loads((Path(_boot(run).console).parent / "critical-path.json").read_text("utf-8"))
    steps = {step["unit"]: step for step in path}
    assert list(steps)[-1].endswith(".target")
    assert steps["sleeper.service"]["idle_s"] > _SEEN_S
    assert steps["ssh.service"]["earlier_s"] > _SECONDS / 2
    assert not steps["ssh.service"]["is_pulled_in"]

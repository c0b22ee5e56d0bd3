"""A unit that may wait for a control plane runs and says so. Each other reason for which it is not ready is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guest.control_plane import find_not_waiting
from harness.lab import Lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine, boot
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Finding
from harness.runs.folder import Run
from harness.store.store import find_store

from .ready import ready_machine

NOVA = load_definition(Path(__file__).parents[2] / "images" / "nova-kvm")
UNIT = "nova-compute.service"
SAYS = NOVA.waiting_says[UNIT]
BROKEN_IMPORT = "mkdir -p /run/planted && echo 'import no_such_library' >/run/planted/nova.py"
BROKEN_SETTING = "mkdir -p /run/planted && echo 'no option' >/run/planted/nova.conf"
FAULTS = {
    "import": (
        BROKEN_IMPORT,
        "[Service]\nEnvironment=PYTHONPATH=/run/planted\n",
        ("was started again", "exit status 1", "No module named 'no_such_library'"),
    ),
    "program": (
        "true",
        "[Service]\nExecStart=\nExecStart=/usr/bin/nova-computer\n",
        ("/usr/bin/nova-computer is missing",),
    ),
    "start-limit": (
        "true",
        "[Service]\nExecStart=\nExecStart=/bin/false\n",
        ("was started again", "exit status 1"),
    ),
    "condition": (
        "true",
        "[Unit]\nConditionPathExists=/nowhere\n",
        ("is inactive", "a condition of the unit was not met", "ConditionPathExists=/nowhere"),
    ),
    "time-limit": ("true", "[Service]\nTimeoutStartSec=1\n", ("was started again", "a time limit of systemd expired")),
    "configuration": (
        BROKEN_SETTING,
        "[Service]\nEnvironment=CONFIG_FILE=/run/planted/nova.conf\n",
        ("was started again", "exit status 1", "/run/planted/nova.conf"),
    ),
}
"""What is prepared in the guest, a drop-in of nova-compute, and what the finding or its evidence must have."""


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A ready machine of nova-kvm, without a control plane."""
    with ready_machine(NOVA, tmp_path_factory.mktemp("compute")) as machine:
        yield machine


def found(machine: Machine, deadline: Deadline | None = None) -> Finding | None:
    return find_not_waiting(machine.channel, UNIT, SAYS, "here", deadline)


def plant(machine: Machine, drop_in: str, prepare: str = "true") -> None:
    """Start nova-compute anew with ``drop_in``, or without one."""
    folder = f"/run/systemd/system/{UNIT}.d"
    write = f"printf '%s' '{drop_in}' >{folder}/planted.conf" if drop_in else f"rm -f {folder}/planted.conf"
    machine.check(
        f"{prepare} && mkdir -p {folder} && {write} && systemctl daemon-reload && systemctl stop {UNIT}; "
        f"systemctl reset-failed {UNIT}; systemctl start --no-block {UNIT}"
    )


def test_nova_compute_of_the_good_image_says_that_it_cannot_reach_its_peer(compute: Machine) -> None:
    assert found(compute) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_what_else_keeps_nova_compute_from_being_ready_is_found(compute: Machine, fault: str) -> None:
    prepare, drop_in, words = FAULTS[fault]
    plant(compute, drop_in, prepare)

    finding = found(compute)

    assert finding is not None
    assert finding.id == "unit-not-waiting"
    text = "\n".join((finding.what, finding.cause, *finding.evidence))
    assert [word for word in words if word not in text] == []


def test_a_unit_that_runs_and_says_nothing_is_found_when_its_time_is_over(compute: Machine) -> None:
    plant(compute, "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n")

    finding = found(compute, Deadline(60))

    assert finding is not None
    assert finding.what.startswith(f"{UNIT} runs, and has not said what it waits for")


def test_nova_compute_waits_again_once_the_faults_are_gone(compute: Machine) -> None:
    plant(compute, "")

    assert found(compute) is None


def test_a_boot_check_finds_a_unit_that_fails_though_it_may_wait(
    spec: MachineSpec, lab: Lab, run: Run, artifacts: Artifacts, base: ImageDefinition
) -> None:
    """Without a control plane, as with one."""
    credentials = {
        "systemd.extra-unit.agent.service": "[Service]\nType=notify\nExecStart=/usr/bin/no-such-agent\n",
        "systemd.unit-dropin.multi-user.target~agent": "[Unit]\nWants=agent.service\n",
    }
    theirs = replace(base, waiting=("agent.service",), waiting_says={"agent.service": "unreachable"})
    context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))

    with (
        pytest.raises(BootFailed) as failure,
        boot(replace(spec, credentials=credentials), artifacts, theirs, context=context),
    ):
        pass

    assert failure.value.finding.id == "unit-failed"
    assert "agent.service failed: exit status 203/EXEC" in failure.value.finding.what

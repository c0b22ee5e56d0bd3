"""Watching a boot whose process, console and lab are plain objects: what is noted, and which error is raised."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from harness.core import serialization
from harness.core.cpu_use import CpuSample
from harness.core.deadline import HostSpeed, use_host_speed
from harness.core.errors import Blame, HostError
from harness.guest.channel import ChannelTimeout
from harness.guest.console_patterns import PATTERNS
from harness.guest.pattern_watcher import PatternMatch
from harness.guest.unit_findings import Awaited
from harness.machine.errors import BootFailed
from harness.machine.observation import BootState
from harness.machine.watch import BootWatch
from harness.model.layout import FINDING
from harness.model.machine_spec import Accelerator
from harness.model.verdict import Finding
from harness.qemu.snapshot import CannotFreeze

PANIC = PatternMatch(next(pattern for pattern in PATTERNS if pattern.id == "kernel-panic"), ("Kernel panic",))


def noted(watch: BootWatch) -> list[str]:
    return [finding.id for finding in watch.context.run.findings()]


def test_observing_writes_nothing_and_a_good_boot_raises_nothing(watch: BootWatch) -> None:
    watch.observe()
    watch.check()

    assert noted(watch) == []
    assert not (watch.plan.folder / FINDING).exists()


def test_a_failure_is_noted_in_the_run_and_beside_the_boot_and_raised_again_later(watch: BootWatch) -> None:
    watch.console.matches.append(PANIC)

    with pytest.raises(BootFailed) as failure:
        watch.check()
    watch.state = BootState.FAILED
    watch.child.status = 1
    with pytest.raises(BootFailed) as again:
        watch.check()

    assert noted(watch) == ["kernel-panic"]
    assert serialization.read(Finding, watch.plan.folder / FINDING) == failure.value.finding
    assert again.value is failure.value
    command = f"bootproof boot {watch.plan.artifacts.folder} --boot-path direct --memory 2048"
    assert str(failure.value).endswith(f"boot it by hand: {command}")


def test_a_kernel_that_another_one_started_is_observed_with_the_log_of_their_qemu(watch: BootWatch) -> None:
    watch.child.status = 1
    later = replace(watch, plan=replace(watch.plan, number=2, folder=watch.plan.folder.parent / "boot-2"))

    assert later.observe().qemu_log == ("qemu: killed",)


def test_a_full_disk_is_raised_as_it_is_and_is_no_finding_about_the_boot(watch: BootWatch) -> None:
    watch.events.append(("BLOCK_IO_ERROR", {"nospace": True}))

    with pytest.raises(HostError, match="no space left"):
        watch.check()
    assert noted(watch) == []


def test_a_clone_that_fails_before_it_answers_is_no_finding(watch: BootWatch) -> None:
    watch.state, watch.child.status = BootState.THAWING, -9

    with pytest.raises(CannotFreeze, match="QEMU ended with status -9"):
        watch.check()
    assert noted(watch) == []


def test_late_patterns_of_a_ready_machine_are_noted_and_of_one_that_was_held_are_not(watch: BootWatch) -> None:
    watch.console.matches.append(PANIC)
    for state in (BootState.HELD, BootState.FAILED):
        watch.state = state
        watch.report_late_findings()
    assert noted(watch) == []

    watch.state = BootState.READY
    watch.report_late_findings()
    assert noted(watch) == ["kernel-panic"]


def test_a_failure_of_a_machine_in_doubt_is_the_hosts(watch: BootWatch) -> None:
    fault = next(pattern for pattern in PATTERNS if pattern.overrides)
    assert watch.doubt() == ""

    watch.console.matches.extend([PatternMatch(fault, ("int3",)), PANIC])

    assert watch.doubt() == fault.cause
    with pytest.raises(BootFailed) as failure:
        watch.check()
    assert failure.value.finding.blame is Blame.HOST


def test_a_machine_whose_lab_lost_its_dhcp_server_fails_early_for_the_hosts_doing(watch: BootWatch) -> None:
    lab: Any = watch.context.lab
    lab.problem = "the lab's dnsmasq ended with status -11"
    assert watch.doubt() == "", "it is in user space"

    del watch.console.phases["userspace"]
    watch.console.matches.append(PANIC)

    with pytest.raises(BootFailed) as failure:
        watch.check()
    assert (failure.value.finding.blame, failure.value.finding.cause) == (Blame.HOST, lab.problem)


UNIT = PatternMatch(
    next(pattern for pattern in PATTERNS if pattern.id == "unit-failed" and pattern.is_final),
    ("[ TIME ] Timed out waiting for device x.",),
)


def test_a_unit_that_fails_is_raised_at_once_and_reported_when_the_guest_has_been_asked(watch: BootWatch) -> None:
    watch.console.matches.append(UNIT)

    with pytest.raises(BootFailed) as failure:
        watch.check()
    assert failure.value is not watch.failure
    assert noted(watch) == []

    watch.state = BootState.FAILED
    watch.console.matches.clear()
    watch.check()  # the guest can be asked
    watch.events.append(("GUEST_PANICKED", {}))
    watch.console.matches.append(PANIC)
    with pytest.raises(BootFailed):
        watch.check()
    assert noted(watch) == []

    assert watch.report_failure(failure.value.finding) is watch.failure
    assert noted(watch) == ["unit-failed"]


def starve(watch: BootWatch, for_s: float = 100.0) -> None:
    """The machine got a third of the time that it wanted, until now."""
    now_s = time.monotonic()
    watch.started_s = now_s - for_s
    watch.meter.samples.extend(
        CpuSample(now_s - for_s + second, ran_s=second / 3, waited_s=second * 2 / 3) for second in range(int(for_s))
    )


def test_a_unit_that_timed_out_on_a_starved_host_is_the_hosts_unless_its_device_is_absent(watch: BootWatch) -> None:
    finding = Finding(id="unit-failed", what="x", where="m", evidence=UNIT.evidence)
    assert watch.report_failure(finding).finding.blame is Blame.IMAGE

    starve(watch)

    assert watch.report_failure(finding).finding.blame is Blame.HOST
    assert watch.report_failure(finding, Awaited.ABSENT).finding.blame is Blame.IMAGE


def test_a_wait_of_a_test_is_in_doubt_if_the_machine_was_starved_while_it_waited(watch: BootWatch) -> None:
    error = ChannelTimeout("m", "sleep 1", 60.0, "")
    assert watch.doubt(error) == ""

    starve(watch)

    assert "starved this machine" in watch.doubt(error)
    assert watch.doubt(AssertionError()) == ""
    assert watch.doubt() == ""


@pytest.mark.parametrize(("accelerator", "blame"), [(Accelerator.TCG, Blame.HOST), (Accelerator.KVM, Blame.IMAGE)])
def test_slow_emulation_excuses_only_machines_that_are_emulated(
    watch: BootWatch, accelerator: Accelerator, blame: Blame
) -> None:
    lockup = Finding(id="kernel-lockup", what="a CPU stood still", where="m", blame=Blame.HOST)
    before = use_host_speed(HostSpeed(emulation=4.0))
    try:
        plan = replace(watch.plan, spec=replace(watch.plan.spec, accelerator=accelerator))
        error = replace(watch, plan=plan).report_failure(lockup)
    finally:
        use_host_speed(before)

    assert error.finding.blame is blame


def test_a_ready_machine_that_was_paused_for_an_hour_is_not_judged_hung_or_starved(watch: BootWatch) -> None:
    """It prints nothing, and its process neither runs nor waits for a CPU."""
    console: Any = watch.console
    watch.state, console.silent_s = BootState.READY, 3600.0
    now_s = time.monotonic()
    watch.meter.samples.extend(CpuSample(now_s - 1000 + second, ran_s=60.0, waited_s=5.0) for second in range(1000))

    watch.check()

    assert watch.doubt(ChannelTimeout("m", "sleep 1", 60.0, "")) == ""
    assert noted(watch) == []

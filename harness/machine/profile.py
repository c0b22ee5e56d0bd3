"""``bootproof boot --profile``: one boot until ready, and where its CPU time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from harness.core.cpu_use import CpuSample
from harness.core.errors import HostError
from harness.guest.boot_profile import read_use
from harness.guest.console import read_log
from harness.machine.attend import BootOptions, ByHand, machine_by_hand
from harness.machine.boot_plan import BootContext, BootPlan, reachable
from harness.machine.power_on import power_on
from harness.model.boot_profile import LINUX, BootProfile, StepUse, phase_uses
from harness.qemu import disk_images
from harness.runs.folder import Run, make_key
from harness.store.store import find_store

_STEPS = 12


def profile_by_hand(options: BootOptions) -> BootProfile:
    """Boot what ``options`` ask for until it is ready, and end it. `BootFailed` if it does not become ready."""
    with machine_by_hand(options) as one:
        return profile(one)


def profile(one: ByHand) -> BootProfile:
    """The profile of one boot of that machine."""
    disk_images.furnish(one.spec.disks)
    run = Run(one.folder, "main")
    make_key(run, find_store())
    context = BootContext(lab=one.lab, run=run, slots=one.folder)
    plan = BootPlan(number=1, folder=one.folder / "boot-1", spec=reachable(one.spec, run), artifacts=one.artifacts,
                    definition=one.definition)  # fmt: skip
    with power_on(plan, context) as running:
        running.wait_until_ready()
        guest = read_use(running.channel)
        samples, started_s = list(running.watch.meter.samples), running.console.started_s
    durations_s = run.boots()[-1].phases
    used_s = {name: used_until(samples, started_s + begin_s) for name, begin_s in _begins(durations_s).items()}
    since_kernel_s = samples[-1].ran_s - next((used_s[name] for name in LINUX if name in used_s), 0.0)
    if not guest.busy_s or since_kernel_s <= 0:
        raise HostError(f"{one.spec.name}: neither the guest nor QEMU counted CPU time, so there is no profile")
    scale = since_kernel_s / guest.busy_s
    scaled = guest.scaled(scale)
    log = running.console.log.read_text("utf-8", "replace")
    printed = [(started_s + at_s, line) for at_s, line in read_log(log)]
    return BootProfile(
        image=one.definition.name,
        artifacts=one.artifacts.digest,
        accelerator=one.spec.accelerator.value,
        phases=phase_uses(durations_s, used_s),
        steps=longest_steps(printed, started_s + sum(durations_s.values()), samples),
        units=scaled.units,
        programs=scaled.programs,
        scale=round(scale, 3),
    )


def longest_steps(
    printed: Sequence[tuple[float, str]], ready_s: float, samples: Sequence[CpuSample]
) -> tuple[StepUse, ...]:
    """Of the lines printed at monotonic seconds until ``ready_s``, those after which most CPU time was used: pure."""
    moments = [*((at_s, line) for at_s, line in printed if at_s < ready_s), (ready_s, "")]
    steps = [
        StepUse(
            line=line,
            wall_s=round(end_s - at_s, 2),
            cpu_s=round(used_until(samples, end_s) - used_until(samples, at_s), 2),
        )
        for (at_s, line), (end_s, _) in pairwise(moments)
    ]
    least_s = min(sorted((step.cpu_s for step in steps), reverse=True)[:_STEPS], default=0.0)
    return tuple(step for step in steps if step.cpu_s >= least_s)[:_STEPS]


def _begins(durations_s: Mapping[str, float]) -> dict[str, float]:
    """When each phase began, and when the machine was "ready", in seconds since power-on: pure."""
    begins, at_s = dict[str, float](), 0.0
    for name, duration_s in durations_s.items():
        begins[name] = at_s
        at_s += duration_s
    return {**begins, "ready": at_s}


def used_until(samples: Sequence[CpuSample], at_s: float) -> float:
    """The CPU seconds used until the monotonic second ``at_s``, on the line between the samples around it: pure."""
    if not samples or at_s <= samples[0].at_s:
        return samples[0].ran_s if samples else 0.0
    for before, after in pairwise(samples):
        if at_s <= after.at_s:
            share = (at_s - before.at_s) / (after.at_s - before.at_s)
            return before.ran_s + share * (after.ran_s - before.ran_s)
    return samples[-1].ran_s

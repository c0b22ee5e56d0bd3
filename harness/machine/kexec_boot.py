"""An upgrade by kexec: the running guest loads the next kernel, and QEMU goes on."""

from __future__ import annotations

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.machine.boot_plan import BootPlan
from harness.machine.diagnose import shutdown_hangs
from harness.machine.watch import BootWatch
from harness.model.verdict import Finding
from harness.qemu import kexec


def load(channel: Channel, plan: BootPlan) -> str | Finding:
    """Let the guest load the artifacts of ``plan`` as its next kernel: its boot id, or why it could not."""
    done = channel.run(kexec.load_command(plan.artifacts, plan.arguments))
    if done.status:
        errors = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return kexec.load_finding(done.status, errors, plan.where)
    return done.text


def wait_for_kernel(watch: BootWatch) -> None:
    """Wait until the kernel that a running one started prints its first line; raise `BootFailed` if it does not."""
    timeouts, where = watch.context.timeouts, watch.plan.where

    def has_started() -> bool:
        watch.check()
        return "kernel" in watch.console.phases

    def has_printed(words: str) -> bool:
        return any(words in line for line in watch.console.lines)

    def has_left() -> bool:
        return has_started() or has_printed(kexec.LEAVES) or has_printed(kexec.RESTARTS)

    if not watch.wait_for(has_left, stopping := Deadline(timeouts.shutdown_s)):
        raise watch.report_failure(shutdown_hangs(watch.observe(), stopping.passed_s, "clean kexec"))
    if not has_started() and has_printed(kexec.RESTARTS):
        raise watch.report_failure(kexec.same_boot_finding(where))
    if not watch.wait_for(has_started, starting := Deadline(timeouts.kexec_silence_s)):
        raise watch.report_failure(kexec.silent_finding(where, starting.passed_s, watch.console.lines))

"""The CPU time that a guest counted is read from its answers, or is an error."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.boot_profile import PROBES, read_use
from harness.guest.channel import Channel, Completed
from harness.model.boot_profile import ProgramUse, UnitUse

ANSWERS = {
    "start of user space": "52000000",
    "CPU time of units": """\
Id=ssh.service
CPUUsageNSec=1500000000

Id=dbus.socket
CPUUsageNSec=[not set]

Id=rescue.service
CPUUsageNSec=18446744073709551615

Id=-.slice
CPUUsageNSec=16000000000

Id=system.slice
CPUUsageNSec=15000000000

Id=system-getty.slice
CPUUsageNSec=1000000000

Id=init.scope
CPUUsageNSec=4000000000""",
    "CPU time of ended units": """\
{"__MONOTONIC_TIMESTAMP":"11000000","UNIT":"paths.target"}
{"__MONOTONIC_TIMESTAMP":"51000000","UNIT":"systemd-udevd.service","CPU_USAGE_NSEC":"12500000000"}
{"__MONOTONIC_TIMESTAMP":"90000000","UNIT":"ssh.service","CPU_USAGE_NSEC":"1500000000"}""",
    "CPU time of programs": """\
0::/init.scope 1 (systemd) S 0 1 1 0 -1 4 1 2 3 4 100 50 250 0 20 0 1 0 1
0::/system.slice/ssh.service 310 (sshd: a) b) S 1 3 3 0 -1 4 1 2 3 4 20 30 0 0 20 0 1 0 9
0::/system.slice/ssh.service 311 (sshd: a) b) S 310 3 3 0 -1 4 1 2 3 4 1 0 2 0 20 0 1 0 9
0::/system.slice/system-getty.slice/getty@tty1.service 320 (agetty) S 1 3 3 0 -1 4 1 2 3 4 0 0 0 0 20 0 1 0 9
0::/ 2 (kthreadd) S 0 0 0 0 -1 4 0 0 0 0 0 10 0 0 20 0 1 0 1
0::/ 18 (rcu_preempt) S 2 0 0 0 -1 4 0 0 0 0 0 90 0 0 20 0 1 0 1
end""",
}


class Recorded(Channel):
    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = answers

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        text = "".join(f"{self._answers[probe.name]}\n\x1e{probe.name} 0\n" for probe in PROBES)
        return Completed(command=command, status=0, stdout=text.encode(), stderr=b"")


def test_units_and_programs_are_read_with_the_largest_first() -> None:
    use = read_use(Recorded(ANSWERS))

    assert use.busy_s == 20.0, "of system.slice, init.scope and the kernel's threads"
    assert use.units == (
        UnitUse(unit="systemd-udevd.service", phase="initrd", cpu_s=12.5),
        UnitUse(unit="init.scope", phase="userspace", cpu_s=4.0),
        UnitUse(unit="ssh.service", phase="userspace", cpu_s=1.5),
    )
    assert use.programs == (
        ProgramUse(program="systemd", unit="init.scope", own_s=1.5, children_s=2.5),
        ProgramUse(program="kernel threads", unit="", own_s=1.0, children_s=0.0),
        ProgramUse(program="sshd: a) b", unit="ssh.service", own_s=0.51, children_s=0.02),
    )


@pytest.mark.parametrize(
    ("probe", "answer"),
    [
        ("CPU time of units", "CPUUsageNSec=5"),
        ("CPU time of units", "Id=ssh.service\nCPUUsageNSec=5"),
        ("CPU time of ended units", "-- No entries --"),
        ("CPU time of programs", "0::/init.scope 1 (systemd) S 0 1 1"),
    ],
)
def test_an_answer_of_another_kind_is_an_error_that_quotes_it(probe: str, answer: str) -> None:
    with pytest.raises(ImageError, match=f"'{probe}'"):
        read_use(Recorded({**ANSWERS, probe: answer}))

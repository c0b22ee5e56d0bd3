"""Processes that no unit has are found; kernel threads and those of logins are not."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import processes
from harness.examine.processes import Process

ANSWERS = {
    "control groups": "look\n/proc/1/cgroup:0::/init.scope\n/proc/2/cgroup:0::/\n"
    "/proc/70/cgroup:0::/system.slice/a.service"
    "\n/proc/71/cgroup:1:name=systemd:/system.slice/b.service\n/proc/71/cgroup:0::/",
    "names of processes": "look\n/proc/1/comm:systemd\n/proc/2/comm:kthreadd\n/proc/70/comm:a\n/proc/71/comm:b",
    "parents of processes": "look\n/proc/1/status:PPid:\t0\n/proc/2/status:PPid:\t0\n/proc/70/status:PPid:\t1\n"
    "/proc/71/status:PPid:\t1",
    "programs of processes": "look\nlrwxrwxrwx 1 0 0 0 Nov 30 10:00 /proc/1/exe -> /usr/lib/systemd/systemd\n"
    "lrwxrwxrwx 1 0 0 0 Nov 30 10:00 /proc/70/exe -> /usr/bin/a b",
    "open files": "look\n/proc/1/fd:\ntotal 0\nlrwx------ 1 0 0 64 Nov 30 10:00 0 -> /dev/null\n\n"
    "/proc/70/fd:\ntotal 0\n"
    "lrwx------ 1 0 0 64 Nov 30 10:00 3 -> socket:[501]\nlrwx------ 1 0 0 64 Nov 30 10:00 4 -> anon_inode:[eventpoll]",
}  # fmt: skip


def found(*rows: Process, units: tuple[str, ...] = ("a.service",)) -> list[tuple[str, str]]:
    judged = processes.judge({row.pid: row for row in rows}, dict.fromkeys(units))
    return [(one.id, one.path) for one in judged]


def test_processes_are_read() -> None:
    read = processes.parse(ANSWERS)

    assert read[1] == Process(
        pid=1, name="systemd", group="/init.scope", program="/usr/lib/systemd/systemd", open_files=1
    )
    assert (read[70].unit, read[70].program, read[70].open_files) == ("a.service", "/usr/bin/a b", 2)
    assert read[70].sockets == {501}
    assert read[71].unit == "b.service"
    assert read[2].is_kernel_thread


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_answer_without_process_1_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        processes.parse({**ANSWERS, name: "look"})


def test_process_1_kernel_threads_services_and_logins_are_in_order() -> None:
    assert not found(
        Process(pid=1, name="systemd", group="/init.scope"),
        Process(pid=2, name="kthreadd", group="/"),
        Process(pid=3, name="kworker", parent=2, group="/"),
        Process(pid=70, name="a", group="/system.slice/a.service"),
        Process(pid=80, name="bash", group="/user.slice/user-0.slice/session-3.scope"),
        Process(pid=81, name="x", group="/system.slice/a.service", program="/memfd:x (deleted)"),
    )


@pytest.mark.parametrize("group", ["/", "/init.scope", "/system.slice", "/left-over"])
def test_a_process_without_a_unit_is_found(group: str) -> None:
    assert found(Process(pid=90, name="stray", group=group)) == [("process-without-unit", "process:stray")]


def test_a_process_of_the_initrd_or_of_a_unit_that_is_gone_is_found() -> None:
    left = Process(pid=91, name="dhclient", group="/system.slice/a.service", program="/usr/sbin/dhclient (deleted)")
    gone = Process(pid=92, name="hook", group="/system.slice/dracut-initqueue.service")

    assert found(left, gone) == [("process-without-unit", "process:dhclient"), ("process-without-unit", "process:hook")]

"""Faults that show after minutes or days, planted in a running host: the soak names each, and what is none is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from harness.examine.soak import soak
from harness.lint.finding import Findings, LintFinding
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import MachineSpec

Booting = Callable[..., AbstractContextManager[Machine]]
MINUTES = 10
_UNIT = "/run/systemd/system"
_PLANTED = "/run/planted"


@dataclass(frozen=True)
class Fault:
    """``plant`` is a command for the guest; a finding has this id and path, and its texts contain ``names``."""

    plant: str
    id: str
    path: str
    names: str = ""

    def is_named_by(self, finding: LintFinding) -> bool:
        is_same = (finding.id, finding.path) == (self.id, self.path)
        return is_same and any(self.names in text for text in (finding.what, *finding.evidence))


def _python(unit: str, code: str) -> str:
    """A unit that runs ``code``."""
    file = f"{_PLANTED}/{unit}.py"
    write = f"mkdir -p {_PLANTED}; cat >{file} <<'END'\n{code}\nEND"
    return f"{write}\nsystemd-run --quiet --unit={unit} python3 {file}"


def _every(unit: str, seconds: float, each: str, first: str = "kept = []") -> str:
    return _python(unit, f"import os, time\n{first}\nwhile True:\n    {each}\n    time.sleep({seconds})")


def _timer(name: str, command: str) -> str:
    """A timer that fires each week."""
    service = f"[Service]\nType=oneshot\nExecStart={command}"
    timer = "[Timer]\nOnCalendar=weekly\nAccuracySec=1s"
    return (
        f"mkdir -p {_UNIT}; cat >{_UNIT}/{name}.service <<'END'\n{service}\nEND\n"
        f"cat >{_UNIT}/{name}.timer <<'END'\n{timer}\nEND\n"
        f"systemctl daemon-reload; systemctl start {name}.timer"
    )


FAULTS = {
    "a unit that leaks a mebibyte a minute": Fault(
        _every("leaks", 15, 'kept.append(bytearray(b"x" * (1 << 18)))'),
        "fills-memory",
        "unit:leaks.service",
        "a minute",
    ),
    "a log in RAM that is opened for each line": Fault(
        _every("logs", 2, 'open("/var/log/site.log", "a").write("x" * (1 << 16))'),
        "fills-memory",
        "/var/log/site.log",
        "logs.service",
    ),
    "a file on the disk": Fault(
        _every("stores", 3, 'file.write(b"x" * (1 << 22))', 'file = open("/data/site.log", "ab", 0)'),
        "fills-data",
        "/data/site.log",
        "stores.service",
    ),
    "a process that opens files": Fault(
        _every("opens", 10, 'kept.append(open("/etc/passwd"))'),
        "leaks-descriptors",
        "unit:opens.service",
        "python3, process",
    ),
    "children that nobody waits for": Fault(
        _every("forks", 10, "os.fork() or os._exit(0)"), "leaks-tasks", "unit:forks.service"
    ),
    "a unit that ends again and again": Fault(
        "systemd-run --quiet --unit=flaps -p Restart=always -p RestartSec=7 sleep 20",
        "unit-flapping",
        "unit:flaps.service",
    ),
    "a unit that fails later": Fault(
        "systemd-run --quiet --unit=fails sh -c 'sleep 100; exit 3'", "unit-failed", "unit:fails.service"
    ),
    "a demanded unit that ends": Fault("systemd-run --quiet --unit=ends sleep 120", "unit-ended", "unit:ends.service"),
    "a unit that logs all the time": Fault(
        "systemd-run --quiet --unit=talks sh -c 'while :; do echo I am here; sleep 0.5; done'",
        "journal-floods",
        "journal:systemd-journald",
        "talks.service",
    ),
    "a weekly unit that fails": Fault(
        _timer("weekly", "/bin/false"), "timer-breaks", "timer:weekly.timer", "weekly.service"
    ),
    "what a weekly unit leaves behind": Fault(
        _timer("dumps", '/bin/sh -c "mkdir -p /var/dumps; head -c 10M /dev/zero >/var/dumps/$$(date +%%s)"'),
        "fills-memory",
        "/var/dumps",
        "dumps.timer",
    ),
}
NONE = {
    "a cache that levels off": _every("caches", 2, 'len(kept) < 60 and kept.append(bytearray(b"x" * (1 << 20)))'),
    "a heap that is collected": _every(
        "collects", 2, 'len(kept) < 20 and kept.append(bytearray(b"x" * (1 << 20))) is None or kept.clear()'
    ),
    "a log that is rotated": _every(
        "rotates",
        2,
        'open("/var/log/turns", "a").write("x" * (1 << 18)); '
        'os.path.getsize("/var/log/turns") > 5e6 and os.replace("/var/log/turns", "/var/log/turns.1")',
    ),
    "page cache": (
        "systemd-run --quiet --unit=reads sh -c 'for file in /usr/lib/*/*; do cat $file >/dev/null; sleep 1; done'"
    ),
}
WRITER = _every("writes", 0.2, 'file.write(b"x" * (1 << 20))', 'file = open("/var/log/x", "ab", 0)')
BIG = _python("big", 'import time\nkept = b"x" * (1100 << 20)\ntime.sleep(9999)')


def _soaked(machine: Machine, definition: ImageDefinition, minutes: float = MINUTES) -> tuple[Findings, list[str]]:
    """The findings, and what was said of the progress."""
    said, begin_s = list[str](), time.monotonic()

    def say(line: str) -> None:
        said.append(line)
        print(f"{time.monotonic() - begin_s:6.1f} s {line}")

    found = soak(machine, definition, minutes, say)
    print(f"{time.monotonic() - begin_s:6.1f} s in all", found.unchecked)
    for one in found.findings:
        print(one.id, one.path, one.what, *one.evidence, one.allowed, sep="\n    ")
    return found, said


def test_a_good_host_stays_fit(booting: Booting, spec: MachineSpec, base: ImageDefinition) -> None:
    with booting(spec) as machine:
        found, said = _soaked(machine, base)

    assert [(one.id, one.path, one.what) for one in found.failing] == []
    assert found.unchecked == ("the rotation of log files: the image has no logrotate(8)",)
    assert any("fired for the first time: fstrim.timer" in line for line in said)


def test_each_planted_fault_is_named_and_what_levels_off_is_not(
    booting: Booting, spec: MachineSpec, base: ImageDefinition
) -> None:
    with booting(spec) as machine:
        for plant in (*NONE.values(), *(fault.plant for fault in FAULTS.values())):
            machine.check(plant)
        found, _ = _soaked(machine, replace(base, services=(*base.services, "ends.service")))

    missed = [name for name, fault in FAULTS.items() if not any(fault.is_named_by(one) for one in found.failing)]
    known = {(fault.id, fault.path) for fault in FAULTS.values()}
    assert missed == []
    assert [(one.id, one.path, one.what) for one in found.failing if (one.id, one.path) not in known] == []


def test_a_writer_that_fills_the_ram_is_named_before_it_has(
    booting: Booting, spec: MachineSpec, base: ImageDefinition
) -> None:
    with booting(spec) as machine:
        machine.check(WRITER)
        found, said = _soaked(machine, base)

    (finding,) = found.failing
    assert (finding.id, finding.path) == ("fills-memory", "/var/log/x")
    assert "writes.service" in finding.what
    assert "/run is full in" in finding.what
    assert not any("30 days" in line for line in said), "nothing else is done with the host"


def test_a_timer_that_fills_the_ram_is_named(booting: Booting, spec: MachineSpec, base: ImageDefinition) -> None:
    with booting(spec) as machine:
        machine.check(_timer("floods", "/bin/sh -c 'cat /dev/zero >/var/flood'"))
        found, _ = _soaked(machine, base, minutes=1)

    (finding,) = found.failing
    assert (finding.id, finding.path) == ("timer-breaks", "timer:floods.timer")
    assert "space:/run: it is full" in finding.what


def test_a_big_service_without_protection_is_what_the_oom_killer_chooses(
    booting: Booting, spec: MachineSpec, base: ImageDefinition
) -> None:
    with booting(spec) as machine:
        machine.check(BIG)
        machine.wait_until_succeeds("test $(systemctl show -P MemoryCurrent big.service) -gt 1000000000")
        found, _ = _soaked(machine, replace(base, services=(*base.services, "big.service")), minutes=1)

    assert [(one.id, one.path) for one in found.failing] == [("oom-kills-service", "unit:big.service")]


def test_a_login_that_stops_working_is_found(booting: Booting, spec: MachineSpec, base: ImageDefinition) -> None:
    with booting(spec) as machine:
        machine.check("systemd-run --quiet --on-active=30 systemctl stop ssh.service ssh.socket")
        found, _ = _soaked(machine, replace(base, services=()), minutes=1)

    assert ("use-fails", "use:login") in [(one.id, one.path) for one in found.failing]

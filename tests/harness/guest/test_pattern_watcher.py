"""The state of console patterns over a boot: bugs of an emulator, network cards, lines to ignore."""

from __future__ import annotations

import logging

import pytest

from harness.guest.pattern_watcher import PatternMatch, PatternWatcher

OOPS = """\
BUG: unable to handle page fault for address: ffffb5e841000ff8
#PF: supervisor write access in kernel mode
Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI
CPU: 1 UID: 0 PID: 1 Comm: systemd-shutdow Not tainted 6.12.57+deb13-amd64 #1
RIP: 0010:memcpy_toio+0x66/0xa0
RSP: 0018:ffffb5e840013a58 EFLAGS: {flags}
Kernel panic - not syncing: Fatal exception
"""


def feed(watcher: PatternWatcher, text: str) -> list[PatternMatch]:
    return [match for line in text.splitlines() for match in watcher.feed(line, 0.0)]


def ids(watcher: PatternWatcher) -> list[str]:
    return [match.pattern.id for match in watcher.matches]


def test_a_pattern_is_matched_once_with_the_five_lines_before_it() -> None:
    watcher = PatternWatcher()

    feed(watcher, "one\ntwo\nthree\nfour\nfive\nsix\nKernel panic - not syncing: a\nKernel panic - not syncing: b\n")

    assert ids(watcher) == ["kernel-panic"]
    assert watcher.matches[0].evidence == ("two", "three", "four", "five", "six", "Kernel panic - not syncing: a")


def test_a_final_pattern_is_a_match_also_after_one_with_its_id_that_is_not() -> None:
    watcher = PatternWatcher()
    generator = "systemd[211]: /usr/lib/systemd/system-generators/x failed with exit status 1."
    unit = "[FAILED] Failed to start x.service."

    feed(watcher, "\n".join((generator, generator, unit, unit, generator)))

    assert [(match.pattern.id, match.pattern.is_final) for match in watcher.matches] == [
        ("unit-failed", False),
        ("unit-failed", True),
    ]


def test_what_the_firmware_and_the_initrd_overcame_is_not_a_match_any_more() -> None:
    watcher = PatternWatcher()
    feed(watcher, "Error: Server response timeout.\nrcu: INFO: rcu_sched self-detected stall on CPU\n")
    assert ids(watcher) == ["firmware-download-failed", "kernel-lockup"]

    feed(watcher, "[    0.0] Linux version 6.12.48\ndracut-initqueue[5]: Warning: dhcp for interface eth1 failed\n")
    assert ids(watcher) == ["kernel-lockup", "dhcp-unanswered"]

    feed(watcher, "[    9.0] systemd[1]: Switching root.\n[FAILED] Failed to start x.service.\n")
    assert ids(watcher) == ["kernel-lockup", "unit-failed"]


@pytest.mark.parametrize(
    ("flags", "is_emulated", "seen"),
    [
        ("0600d622", True, ["emulator-fault", "kernel-panic"]),
        ("0600d622", False, ["kernel-oops", "kernel-panic"]),
        ("00010286", True, ["kernel-oops", "kernel-panic"]),
    ],
)
def test_a_bug_with_flags_that_no_processor_has_is_the_emulators(
    flags: str, is_emulated: bool, seen: list[str]
) -> None:
    watcher = PatternWatcher(is_emulated=is_emulated)

    feed(watcher, OOPS.format(flags=flags))

    assert ids(watcher) == seen
    evidence = watcher.matches[0].evidence
    assert evidence[0].startswith("BUG: unable to handle page fault")
    assert (flags in evidence[-1]) == (seen[0] == "emulator-fault")


def test_flags_that_are_not_of_the_bug_itself_excuse_nothing() -> None:
    watcher = PatternWatcher(is_emulated=True)

    feed(watcher, OOPS.format(flags="00010286").replace("Kernel panic", "Call Trace:"))
    feed(watcher, "RSP: 0018:ffffb5e840013a58 EFLAGS: 9d50c0e0\n")  # a trace takes that for registers
    feed(watcher, OOPS.format(flags="0600d622"))  # a second bug

    assert ids(watcher) == ["kernel-oops", "kernel-panic"]


@pytest.mark.parametrize(("is_emulated", "seen"), [(True, "emulator-fault"), (False, "kernel-panic")])
def test_a_timer_without_interrupts_is_the_emulators(is_emulated: bool, seen: str) -> None:
    watcher = PatternWatcher(is_emulated=is_emulated)

    feed(watcher, "Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug\n")
    feed(watcher, "---[ end Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug ]---\n")

    assert ids(watcher) == [seen]
    assert not watcher.awaits_registers(0.0)


def test_registers_are_awaited_only_for_a_moment() -> None:
    watcher = PatternWatcher(is_emulated=True, registers_s=1.0)
    assert not watcher.awaits_registers(0.0)

    watcher.feed("BUG: unable to handle page fault", 10.0)

    assert watcher.awaits_registers(10.9)
    assert not watcher.awaits_registers(11.0), "they did not come in time"
    watcher.feed("RSP: 0018:ffffb5e840013a58 EFLAGS: 00000286", 10.5)
    assert not watcher.awaits_registers(10.6)


@pytest.mark.parametrize(
    "failure", ["Nothing to boot: No such file or directory\nNo more network devices", "No more network devices",
                "Nothing to boot: No such file or directory"]
)  # fmt: skip
def test_a_card_without_an_answer_counts_when_it_is_the_last(failure: str) -> None:
    watcher = PatternWatcher(nics=2)

    assert feed(watcher, f"iPXE 1.0.0\n{failure}\niPXE 1.0.0\n") == []
    assert [match.pattern.id for match in feed(watcher, failure)] == ["no-boot-device"]


def test_the_next_boot_begins_with_nothing_seen_and_the_same_settings() -> None:
    watcher = PatternWatcher(nics=2)
    feed(watcher, "Kernel panic - not syncing: a\n")

    following = watcher.for_next_boot()

    assert ids(following) == []
    assert feed(following, "iPXE 1.0.0\nNothing to boot: No such file or directory\nNo more network devices\n") == []


def test_a_match_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "harness"):
        feed(PatternWatcher(), "Kernel panic - not syncing: a\n")

    assert caplog.messages == ["console pattern kernel-panic: Kernel panic - not syncing: a"]

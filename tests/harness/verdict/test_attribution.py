"""Each rule of who is to blame, from what was observed to the outcome of the run."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from harness.core.cpu_use import CpuUse
from harness.core.errors import Blame, BootproofError, HarnessError, HostError, ImageError, UsageError
from harness.guest.channel import ChannelTimeout
from harness.guest.console import ConsoleTimeout
from harness.guest.unit_findings import Awaited
from harness.guest.waiting import WaitFailed
from harness.model.verdict import Coverage, Finding, Outcome
from harness.verdict import attribution
from harness.verdict.attribution import Circumstances, attribute, blame_of_exception
from harness.verdict.coverage import decide

COMPLETE = Coverage(boot_paths=("direct",), passed=("links",), failed=(), missing=())
TIMED_OUT = "[ TIME ] Timed out waiting for device /dev/sdb."
FAILED = "[FAILED] Failed to start data.service."
NO_DISK = "persist: FAILED: no disk for /data within 30 s: wanted a disk of at least 4 GiB; seen: no disk at all"
NO_TIMER = "Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and send a report."


def finding(finding_id: str, *evidence: str, blame: Blame = Blame.IMAGE) -> Finding:
    return Finding(id=finding_id, what="…", where="here", evidence=evidence, cause="its own", blame=blame)


def outcome(one: Finding) -> Outcome:
    """Of a run in which nothing else was found."""
    return decide([one], COMPLETE)


@pytest.mark.parametrize("finding_id", ["kernel-panic", "boot-hangs", "unexpected-reset", "unit-failed"])
def test_a_panic_or_a_hang_on_a_good_host_is_the_images(finding_id: str) -> None:
    one = attribute(finding(finding_id), Circumstances())

    assert (one.blame, one.cause, outcome(one)) == (Blame.IMAGE, "its own", Outcome.FAILED)


GIVEN = CpuUse(window_s=150.0, ran_s=20.0, waited_s=1.0)
BUSY = CpuUse(window_s=150.0, ran_s=120.0, waited_s=10.0)
STARVED = CpuUse(window_s=150.0, ran_s=50.0, waited_s=90.0)
STOPPED = CpuUse(window_s=150.0, ran_s=20.0, stopped_s=30.0)
NETWORK = "[FAILED] Failed to start systemd-networkd-w… Wait for Network to be Configured."


@pytest.mark.parametrize(
    ("finding_id", "evidence", "use", "slowness", "awaited", "blame"),
    [
        # the host starved or stopped the machine: proven for what timed out, unless the guest refutes it
        ("unit-dependency-failed", TIMED_OUT, STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, STOPPED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, STARVED, 1.0, Awaited.CAME_LATE, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, STARVED, 1.0, Awaited.ABSENT, Blame.IMAGE),
        ("unit-failed", FAILED, STARVED, 1.0, Awaited.FAILED, Blame.IMAGE),
        ("unit-failed", FAILED, STARVED, 1.0, Awaited.CAME_LATE, Blame.HOST),
        ("unit-failed", FAILED, STARVED, 4.0, Awaited.UNKNOWN, Blame.IMAGE),
        ("unit-failed", NETWORK, STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("boot-hangs", "", STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("shutdown-hangs", "", STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("kernel-panic", "Kernel panic - not syncing", STARVED, 8.0, Awaited.UNKNOWN, Blame.IMAGE),
        ("persist-failed", NO_DISK, STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("persist-failed", NO_DISK, BUSY, 4.0, Awaited.UNKNOWN, Blame.IMAGE),
        ("kernel-panic", NO_TIMER, STARVED, 1.0, Awaited.UNKNOWN, Blame.HOST),
        ("kernel-panic", NO_TIMER, GIVEN, 1.0, Awaited.UNKNOWN, Blame.IMAGE),
        # the host is slow: proven by CPUs that were busy, or by the thing that came late
        ("unit-dependency-failed", TIMED_OUT, BUSY, 4.0, Awaited.UNKNOWN, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, GIVEN, 4.0, Awaited.CAME_LATE, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, GIVEN, 4.0, Awaited.UNKNOWN, Blame.IMAGE),
        ("unit-dependency-failed", TIMED_OUT, BUSY, 2.9, Awaited.ABSENT, Blame.IMAGE),
        ("unit-dependency-failed", TIMED_OUT, BUSY, 1.2, Awaited.UNKNOWN, Blame.IMAGE),
        ("unit-failed", FAILED, BUSY, 4.0, Awaited.CAME_LATE, Blame.IMAGE),
        ("boot-hangs", "", BUSY, 4.0, Awaited.UNKNOWN, Blame.IMAGE),
    ],
)
def test_a_lack_of_time_excuses_what_it_is_proven_to_have_caused(
    finding_id: str, evidence: str, use: CpuUse, slowness: float, awaited: Awaited, blame: Blame
) -> None:
    circumstances = Circumstances(boot=use, recent=use, slowness=slowness, awaited=awaited, disks=1)

    one = attribute(finding(finding_id, evidence), circumstances)

    assert one.blame is blame
    assert outcome(one) is (Outcome.FAILED if blame is Blame.IMAGE else Outcome.INCONCLUSIVE)


READ_ONLY = "/dev/sda (8192 MiB, serial BOOTPROOF-DATA) is read-only"
FOREIGN = "/dev/sda (8192 MiB, serial FOREIGN) holds something else (ext4), left untouched"
PARTITIONS = "/dev/sda (8192 MiB, serial BOOTPROOF-DATA) holds something else (gpt, PMBR), left untouched"
SEVERAL = PARTITIONS.replace("gpt, PMBR", "btrfs, gpt, PMBR")
UNREADABLE = PARTITIONS.replace("gpt, PMBR", "unreadable: wipefs: error: /dev/sda: Input/output error")
OTHER = "/dev/sdb (16 MiB, serial unknown) does not match"


@pytest.mark.parametrize(
    ("phrases", "disks", "blame"),
    [
        ([READ_ONLY], 1, Blame.IMAGE),
        ([FOREIGN], 1, Blame.IMAGE),
        ([FOREIGN, READ_ONLY], 2, Blame.IMAGE),
        ([FOREIGN], 2, Blame.HOST),
        ([READ_ONLY], 0, Blame.HOST),
        (["no disk at all"], 0, Blame.IMAGE),
        (["no disk at all"], 1, Blame.HOST),
        ([PARTITIONS], 1, Blame.HOST),
        ([SEVERAL], 1, Blame.HOST),
        ([UNREADABLE], 1, Blame.HOST),
        ([READ_ONLY, OTHER], 2, Blame.HOST),
    ],
)
def test_more_time_makes_no_disk_fit_that_the_image_has_seen_and_cannot_use(
    phrases: list[str], disks: int, blame: Blame
) -> None:
    line = f"[   61.1] persist: FAILED: no disk for /data within 30 s: wanted any; seen: {'; '.join(phrases)}"

    one = attribute(finding("persist-failed", line), Circumstances(boot=STARVED, recent=STARVED, disks=disks))

    assert one.blame is blame


def test_a_host_that_starved_the_machine_either_lately_or_all_the_time_is_to_blame() -> None:
    for circumstances in (Circumstances(boot=STARVED, recent=GIVEN), Circumstances(boot=GIVEN, recent=STOPPED)):
        assert attribute(finding("boot-hangs"), circumstances).blame is Blame.HOST
    assert "did not run at all for 30 s" in attribute(finding("boot-hangs"), Circumstances(recent=STOPPED)).cause


@pytest.mark.parametrize(
    ("use", "slowness", "blame"),
    [(GIVEN, 1.0, Blame.IMAGE), (STARVED, 1.0, Blame.HOST), (STOPPED, 1.0, Blame.HOST), (GIVEN, 3.0, Blame.HOST)],
)
def test_a_lockup_of_the_kernel_is_the_hosts_only_if_the_host_took_time_from_the_machine(
    use: CpuUse, slowness: float, blame: Blame
) -> None:
    lockup = finding("kernel-lockup", "watchdog: BUG: soft lockup", blame=Blame.HOST)

    assert attribute(lockup, Circumstances(boot=use, recent=use, slowness=slowness)).blame is blame


def test_a_thing_that_is_absent_is_not_the_emulators_doing() -> None:
    faulty = Circumstances(emulator_fault="QEMU missed a patch", awaited=Awaited.ABSENT)

    assert attribute(finding("unit-failed"), faulty).blame is Blame.IMAGE
    assert attribute(finding("unit-failed"), replace(faulty, awaited=Awaited.FAILED)).blame is Blame.HOST
    assert attribute(finding("unit-failed"), replace(faulty, alteration="memory was altered")).blame is Blame.HOST


@pytest.mark.parametrize(
    "error",
    [
        ChannelTimeout("m", "true", 60.0, ""),
        WaitFailed("m", "the start of x.service", 60.0, "activating", (), ""),
        ConsoleTimeout("login:", 60.0, "console.log", ""),
    ],
)
def test_a_wait_that_fails_on_a_machine_that_was_starved_meanwhile_is_the_hosts(error: ImageError) -> None:
    assert attribution.excuse_for_wait(error, GIVEN) == ""
    excuse = attribution.excuse_for_wait(error, STARVED)

    assert "no CPU for 64% of the time" in excuse
    assert blame_of_exception(error, doubt=excuse) is Blame.HOST
    assert attribution.excuse_for_wait(AssertionError(), STARVED) == ""


@pytest.mark.parametrize(
    "circumstances",
    [
        Circumstances(alteration="memory was altered"),
        Circumstances(emulator_fault="QEMU missed a patch"),
        Circumstances(alteration="memory was altered", emulator_fault="QEMU missed a patch"),
    ],
)
def test_after_an_emulators_fault_and_in_a_clone_of_an_altered_template_nothing_is_held_against_the_image(
    circumstances: Circumstances,
) -> None:
    one = attribute(finding("kernel-panic"), circumstances)

    assert (one.blame, one.cause) == (Blame.HOST, circumstances.alteration or "QEMU missed a patch")
    assert outcome(one) is Outcome.INCONCLUSIVE


def test_before_user_space_the_last_requests_are_evidence() -> None:
    requests = tuple(f"GET /{number}" for number in range(6))
    early = Circumstances(is_early=True, requests=requests)
    late = Circumstances(requests=requests)

    assert attribute(finding("x", "a"), early).evidence == ("a", *(f"network: GET /{number}" for number in range(2, 6)))
    assert attribute(finding("x", "a"), late).evidence == ("a",)
    assert attribute(finding("x", "a", blame=Blame.HOST), early).evidence == ("a",)
    assert len(attribute(finding("served-bytes-differ", "a"), late).evidence) == 5


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (ImageError("no answer"), Blame.IMAGE),
        (AssertionError("1 == 2"), Blame.IMAGE),
        (pytest.fail.Exception("by the test"), Blame.IMAGE),
        (HostError("no /dev/kvm"), Blame.HOST),
        (HarnessError("lost"), Blame.HARNESS),
        (UsageError("--what"), Blame.HARNESS),
        (OSError(errno.ENOSPC, "No space left on device"), Blame.HOST),
        (OSError(errno.EACCES, "Permission denied"), Blame.HOST),
        (KeyError("x"), Blame.HARNESS),
    ],
)
def test_an_exception_is_blamed_by_its_kind(error: BaseException, blame: Blame) -> None:
    assert blame_of_exception(error) is blame


def test_an_unknown_exception_is_the_images_if_the_guest_answers() -> None:
    assert blame_of_exception(KeyError("x"), guest_answers=True) is Blame.IMAGE
    assert blame_of_exception(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), guest_answers=True) is Blame.IMAGE
    assert blame_of_exception(HarnessError("lost"), guest_answers=True) is Blame.HARNESS


def test_a_full_disk_is_the_hosts_though_the_guest_answers() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert blame_of_exception(OSError(number, "full"), guest_answers=True) is Blame.HOST


@pytest.mark.parametrize("error", [AssertionError(), ImageError("x"), KeyError("x")])
def test_an_exception_in_a_machine_in_doubt_is_the_hosts(error: BaseException) -> None:
    assert blame_of_exception(error, doubt="memory was altered", guest_answers=True) is Blame.HOST


@pytest.mark.parametrize(
    ("one", "finding_id", "where"),
    [
        (attribution.lost_worker("t.py::test_x"), "worker-crashed", "t.py::test_x"),
        (attribution.interrupted(), "interrupted", "pytest"),
        (attribution.not_collected("t.py"), "not-collected", "t.py"),
        (attribution.pytest_failed("INTERNALERROR"), "pytest-failed", "pytest"),
    ],
)
def test_a_lost_worker_and_an_interrupted_run_are_inconclusive(one: Finding, finding_id: str, where: str) -> None:
    assert (one.id, one.where, one.blame) == (finding_id, where, Blame.HARNESS)
    assert outcome(one) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("error", "finding_id", "expected"),
    [
        (ImageError("the playbook failed"), "build-failed", Outcome.FAILED),
        (HostError("no space left"), "host-error", Outcome.INCONCLUSIVE),
        (HarnessError("lost"), "harness-error", Outcome.INCONCLUSIVE),
    ],
)
def test_an_image_that_cannot_be_prepared_is_blamed_by_its_error(
    error: BootproofError, finding_id: str, expected: Outcome
) -> None:
    one = attribution.nothing_to_boot("base", error)

    assert (one.id, one.where, outcome(one)) == (finding_id, "image base", expected)

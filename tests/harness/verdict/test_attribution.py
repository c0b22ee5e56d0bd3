"""Each rule of who is to blame, from what was observed to the outcome of the run."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from harness.core.deadline import Deadline, poll
from harness.core.errors import Blame, BootproofError, HarnessError, HostError, ImageError, UsageError
from harness.core.process import starved_share
from harness.model.verdict import Coverage, Finding, Outcome
from harness.verdict import attribution
from harness.verdict.attribution import Circumstances, attribute, blame_of_exception
from harness.verdict.coverage import decide

COMPLETE = Coverage(boot_paths=("direct",), passed=("links",), failed=(), missing=())
TIMED_OUT = "[ TIME ] Timed out waiting for device /dev/sdb."
FAILED = "[FAILED] Failed to start data.service."


def finding(finding_id: str, *evidence: str, blame: Blame = Blame.IMAGE) -> Finding:
    return Finding(id=finding_id, what="…", where="here", evidence=evidence, cause="its own", blame=blame)


def outcome(one: Finding) -> Outcome:
    """Of a run in which nothing else was found."""
    return decide([one], COMPLETE)


@pytest.mark.parametrize("finding_id", ["kernel-panic", "boot-hangs", "unexpected-reset", "unit-failed"])
def test_a_panic_or_a_hang_on_a_good_host_is_the_images(finding_id: str) -> None:
    one = attribute(finding(finding_id), Circumstances())

    assert (one.blame, one.cause, outcome(one)) == (Blame.IMAGE, "its own", Outcome.FAILED)


@pytest.mark.parametrize(
    ("finding_id", "evidence", "starved_share", "slowness", "blame"),
    [
        ("unit-dependency-failed", TIMED_OUT, 0.6, 1.0, Blame.HOST),
        ("unit-dependency-failed", TIMED_OUT, 0.1, 1.2, Blame.IMAGE),
        ("unit-dependency-failed", TIMED_OUT, 0.1, 4.0, Blame.HOST),
        ("unit-dependency-failed", FAILED, 0.6, 4.0, Blame.IMAGE),
        ("unit-failed", "[FAILED] Failed to start systemd-networkd-w… Wait for Network to be Configured.", 0.8, 1.0,
         Blame.HOST),
        ("boot-hangs", "", 0.6, 1.0, Blame.HOST),
        ("boot-hangs", "", 0.1, 4.0, Blame.IMAGE),
        ("shutdown-hangs", "", 0.6, 1.0, Blame.HOST),
        ("kernel-panic", "Kernel panic - not syncing", 0.9, 8.0, Blame.IMAGE),
    ],
)  # fmt: skip
def test_a_machine_that_ran_out_of_time_on_a_starved_or_slow_host_is_not_held_against_the_image(
    finding_id: str, evidence: str, starved_share: float, slowness: float, blame: Blame
) -> None:
    circumstances = Circumstances(starved_share=starved_share, slowness=slowness)

    one = attribute(finding(finding_id, evidence), circumstances)

    assert one.blame is blame
    assert outcome(one) is (Outcome.FAILED if blame is Blame.IMAGE else Outcome.INCONCLUSIVE)


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


def test_a_process_that_shares_its_cpu_waits_for_it() -> None:
    spin = ["taskset", "-c", "0", sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as one, subprocess.Popen(spin) as other:
        poll(lambda: starved_share(one.pid) > 0.3, Deadline(20), every_s=0.2)
        share = starved_share(one.pid)
        one.kill()
        other.kill()

    assert 0.3 < share <= 1.0

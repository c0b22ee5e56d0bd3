"""What becomes of guests over a boot of their host, and what is found wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from harness.guests.expectations import (
    Ending,
    Expected,
    Known,
    Problem,
    expected,
    left,
    wrong_after_boot,
    wrong_memory,
)
from harness.guests.ground import Ground
from harness.guests.samples import FIRMWARE_ROWS, SampleGuest, sample_guests
from harness.guests.survey import SeenGuest, Survey
from harness.guests.tiny_guest import Answer

GUESTS = {guest.name: guest for guest in sample_guests(Ground.OPENVSWITCH, "seed")}
AUTOSTARTED, MANUAL = GUESTS["q35-virtio-autostart"], GUESTS["pc-ide-e1000"]
UEFI, TPM = sample_guests(Ground.OPENVSWITCH, "seed", FIRMWARE_ROWS)
PAUSED, SAVED, UNUSED = GUESTS["q35-sata-paused"], GUESTS["pc-virtio-saved"], GUESTS["q35-scsi-off"]
RUNS_ANEW = Expected(state="running", is_saved=False, resumes=False)
RUNS_ON = Expected(state="running", is_saved=False, resumes=True)
STAYS_OFF = Expected(state="shut off", is_saved=False, resumes=False)
STAYS_SAVED = Expected(state="shut off", is_saved=True, resumes=True)


def seen(guest: SampleGuest, **changed: object) -> SeenGuest:
    """The guest as it runs on a good host."""
    good = SeenGuest(
        name=guest.name,
        state="running",
        uuid=str(guest.domain.uuid),
        macs=(guest.domain.mac,),
        autostarts=guest.domain.autostarts,
        is_saved=False,
        bridge=guest.bridge,
        started_s=50.0,
        log_begins="2026-12-01 10:00:00: starting up",
    )
    return replace(good, **changed)  # type: ignore[arg-type]  # each test names fields


def answer(guest: SampleGuest, **changed: str) -> Answer:
    fields = {"nonce": guest.tiny.nonce, "disk": guest.tiny.nonce, "word": "word-1", "boots": "1", "counter": "20"}
    return Answer("status", {**fields, **changed})


def known(guest: SampleGuest) -> Known:
    return Known(answer=answer(guest), log_begins="2026-12-01 10:00:00: starting up")


def after_boot(guest: SampleGuest, now: SeenGuest | None, wanted: Expected, **units: float) -> list[str]:
    found: Mapping[str, SeenGuest] = {} if now is None else {guest.name: now}
    survey = Survey(guests=found, units={name.replace("_", "-"): since_s for name, since_s in units.items()})
    return [problem.id for problem in wrong_after_boot(guest, survey, wanted, known(guest), keeps_log=True)]


def ids(problems: list[Problem]) -> list[str]:
    return [problem.id for problem in problems]


@pytest.mark.parametrize(
    ("guest", "ending", "starts_on_boot", "wanted"),
    [
        (AUTOSTARTED, Ending.SUSPEND, False, RUNS_ON),
        (AUTOSTARTED, Ending.SHUTDOWN, False, RUNS_ANEW),
        (AUTOSTARTED, Ending.POWER_CUT, True, RUNS_ANEW),
        (MANUAL, Ending.SUSPEND, True, RUNS_ON),
        (MANUAL, Ending.SUSPEND, False, STAYS_SAVED),
        (MANUAL, Ending.SHUTDOWN, True, RUNS_ANEW),
        (MANUAL, Ending.SHUTDOWN, False, STAYS_OFF),
        (MANUAL, Ending.POWER_CUT, True, STAYS_OFF),
        (PAUSED, Ending.SUSPEND, True, Expected(state="paused", is_saved=False, resumes=True)),
        (PAUSED, Ending.POWER_CUT, True, STAYS_OFF),
        (SAVED, Ending.SUSPEND, True, STAYS_SAVED),
        (SAVED, Ending.POWER_CUT, True, STAYS_SAVED),
        (UNUSED, Ending.SHUTDOWN, True, STAYS_OFF),
    ],
)  # fmt: skip
def test_what_is_expected_follows_from_how_the_host_went_down(
    guest: SampleGuest, ending: Ending, starts_on_boot: bool, wanted: Expected
) -> None:  # fmt: skip
    assert expected(guest, ending, starts_on_boot=starts_on_boot) == wanted


def test_a_guest_runs_where_it_could_not_come_back_otherwise() -> None:
    assert left(PAUSED, Ending.SHUTDOWN, goes_back=False).activity == "running"
    assert left(SAVED, Ending.SUSPEND, goes_back=True).activity == "running"
    assert left(PAUSED, Ending.SUSPEND, goes_back=True) == PAUSED
    assert left(SAVED, Ending.POWER_CUT, goes_back=False) == SAVED


def test_nothing_is_wrong_with_a_guest_that_came_back() -> None:
    assert after_boot(MANUAL, seen(MANUAL), RUNS_ON, ovs_vswitchd=20.0) == []
    assert list(wrong_memory(MANUAL, RUNS_ON, known(MANUAL), answer(MANUAL, counter="25"))) == []
    assert list(wrong_memory(MANUAL, RUNS_ANEW, known(MANUAL), answer(MANUAL, boots="2", counter="1"))) == []
    assert after_boot(SAVED, seen(SAVED, state="shut off", is_saved=True, bridge=""), STAYS_SAVED) == []


@pytest.mark.parametrize(
    ("now", "finding"),
    [
        (None, "guest-lost"),
        (seen(MANUAL, state="shut off", bridge=""), "guest-not-started"),
        (seen(MANUAL, state="paused"), "guest-not-resumed"),
        (seen(MANUAL, uuid="another"), "guest-changed"),
        (seen(MANUAL, macs=("52:54:00:00:00:00",)), "guest-changed"),
        (seen(MANUAL, autostarts=True), "guest-changed"),
        (seen(MANUAL, bridge="none"), "guest-cut-off"),
        (seen(MANUAL, started_s=19.0), "guest-too-early"),
        (seen(MANUAL, disk_errors="ERROR cluster 5 refcount=0"), "guest-disk-damaged"),
        (seen(MANUAL, log_begins="2026-12-01 11:00:00: starting up"), "guest-log-lost"),
    ],
)
def test_what_is_wrong_after_a_boot_has_a_finding(now: SeenGuest | None, finding: str) -> None:
    assert after_boot(MANUAL, now, RUNS_ON, ovs_vswitchd=20.0) == [finding]


def test_a_guest_that_nobody_started_must_be_off() -> None:
    assert after_boot(UNUSED, seen(UNUSED), STAYS_OFF) == ["guest-unwanted"]


def test_a_saved_memory_that_is_gone_is_found_before_the_guest_starts() -> None:
    assert after_boot(SAVED, seen(SAVED, state="shut off", bridge=""), STAYS_SAVED) == ["guest-not-resumed"]


@pytest.mark.parametrize(
    ("wanted", "changed", "finding"),
    [
        (RUNS_ON, {"boots": "2", "counter": "1"}, "guest-not-resumed"),
        (RUNS_ON, {"counter": "3"}, "guest-not-resumed"),
        (RUNS_ANEW, {"boots": "3", "counter": "1"}, "guest-unwanted"),
        (RUNS_ON, {"word": "word-0", "counter": "25"}, "guest-disk-damaged"),
        (RUNS_ON, {"disk": "other", "counter": "25"}, "guest-changed"),
    ],
)
def test_what_a_guest_says_of_itself_has_a_finding(wanted: Expected, changed: dict[str, str], finding: str) -> None:
    assert ids(list(wrong_memory(MANUAL, wanted, known(MANUAL), answer(MANUAL, **changed)))) == [finding]


@pytest.mark.parametrize(("word", "found"), [("word-1", []), ("-", ["guest-firmware-lost"])])
def test_lost_uefi_variables_have_a_finding_of_their_own(word: str, found: list[str]) -> None:
    def said(**changed: str) -> Answer:
        fields = {"nonce": UEFI.tiny.nonce, "variable": UEFI.tiny.nonce, "word": "word-1", "boots": "2", "counter": "1"}
        return Answer("status", {**fields, **changed})

    before = Known(answer=said(boots="1"), log_begins="")

    assert ids(list(wrong_memory(UEFI, RUNS_ANEW, before, said(word=word)))) == found


@pytest.mark.parametrize(
    ("tpm", "tpm_boots", "found"),
    [
        ("its own", "4", ""),
        ("its own", "2", "its TPM has lost 2 of the guest's 5 starts"),
        ("none", "4", "its TPM says none, not"),
        ("error:0x0000018b", "4", "its TPM says error:0x0000018b, not"),
    ],
)
def test_a_tpm_that_lost_its_state_has_a_finding(tpm: str, tpm_boots: str, found: str) -> None:
    own = TPM.tiny.nonce
    before = Known(answer=answer(TPM, boots="4", **{"tpm": own, "tpm-boots": "3"}), log_begins="")
    now = answer(TPM, boots="5", **{"tpm": own if tpm == "its own" else tpm, "tpm-boots": tpm_boots})

    problems = list(wrong_memory(TPM, RUNS_ANEW, before, now))

    assert [problem.id for problem in problems] == (["guest-firmware-lost"] if found else [])
    assert "".join(problem.what for problem in problems).startswith(found)

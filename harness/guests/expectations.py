"""What becomes of a guest when its host goes down and comes up, and what is wrong with one that came back: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.guests.samples import Activity, SampleGuest
from harness.guests.survey import OFF, SeenGuest, Survey
from harness.guests.tiny_guest import Answer


class Ending(StrEnum):
    """How a host goes down: with its guests suspended or shut down by libvirt-guests, or without warning."""

    SUSPEND = "suspend"
    SHUTDOWN = "shutdown"
    POWER_CUT = "power cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The state of a guest after the boot; whether libvirt has its memory saved, and whether that goes on when it runs
    again."""

    state: str
    is_saved: bool
    resumes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A guest before its host went down: what it answered last, and the first line of its log."""

    answer: Answer
    log_begins: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one guest: ``id`` of a finding, and a sentence without the guest's name."""

    id: str
    what: str


def left(guest: SampleGuest, ending: Ending, *, goes_back: bool) -> SampleGuest:
    """``guest`` as its operator leaves it before the host goes down so, to an older version with ``goes_back``.

    A paused guest hears no request to shut down. QEMU reads what an older one has saved; the other way round is not
    promised.
    """
    runs = (guest.activity is Activity.PAUSED and ending is Ending.SHUTDOWN) or (
        guest.activity is Activity.SAVED and goes_back
    )
    return replace(guest, activity=Activity.RUNNING) if runs else guest


def expected(guest: SampleGuest, ending: Ending, *, starts_on_boot: bool) -> Expected:
    """``starts_on_boot``: libvirt-guests starts what ran (ON_BOOT=start)."""
    was_on = guest.activity in (Activity.RUNNING, Activity.PAUSED)
    has_memory = guest.activity is Activity.SAVED or (was_on and ending is Ending.SUSPEND)
    returns = guest.domain.autostarts or (was_on and starts_on_boot and ending is not Ending.POWER_CUT)
    state = "paused" if guest.activity is Activity.PAUSED and has_memory else "running"
    return Expected(state=state if returns else OFF, is_saved=has_memory and not returns, resumes=has_memory)


def wrong_after_boot(
    guest: SampleGuest, seen: Survey, wanted: Expected, known: Known | None, *, keeps_log: bool
) -> Iterator[Problem]:
    """What is wrong with ``guest`` on a host that has just booted; ``known`` is None for one that never ran.
    ``keeps_log``: the image keeps the logs of its guests."""
    now = seen.guests.get(guest.name)
    if now is None:
        yield Problem("guest-lost", "libvirt does not know it any more")
        return
    yield from _wrong_state(now, wanted)
    yield from _changed(guest, now)
    if now.is_active:
        yield from _misplaced(guest, now, seen.units)
    if now.disk_errors:
        yield Problem("guest-disk-damaged", f"qemu-img check of {guest.domain.disk}: {now.disk_errors}")
    if keeps_log and known and now.log_begins != known.log_begins:
        yield Problem("guest-log-lost", f"its log begins {now.log_begins!r}, began {known.log_begins!r} before")


def _wrong_state(now: SeenGuest, wanted: Expected) -> Iterator[Problem]:
    if now.state == wanted.state:
        if wanted.is_saved and not now.is_saved:
            yield Problem("guest-not-resumed", "its memory, which was saved, is gone")
    elif wanted.state == OFF:
        yield Problem("guest-unwanted", f"it is {now.state}, and nobody started it")
    elif now.is_active:
        yield Problem("guest-not-resumed", f"it is {now.state}, not {wanted.state}")
    else:
        saved = ", with its memory still saved" if now.is_saved else ""
        yield Problem("guest-not-started", f"it is {now.state}, not {wanted.state}{saved}")


def _changed(guest: SampleGuest, now: SeenGuest) -> Iterator[Problem]:
    was = {
        "UUID": (str(guest.domain.uuid), now.uuid),
        "MAC": (guest.domain.mac, ", ".join(now.macs)),
        "autostart": (str(guest.domain.autostarts), str(now.autostarts)),
    }
    for name, (before, after) in was.items():
        if before != after:
            yield Problem("guest-changed", f"its {name} was {before}, is {after}")


def _misplaced(guest: SampleGuest, now: SeenGuest, units: Mapping[str, float]) -> Iterator[Problem]:
    if now.bridge != guest.bridge:
        yield Problem("guest-cut-off", f"its card is on bridge {now.bridge or 'none'}, not on {guest.bridge}")
    for unit, since_s in units.items():
        if now.started_s < since_s:
            yield Problem(
                "guest-too-early", f"its QEMU started {now.started_s:.2f} s after the boot, {unit} {since_s:.2f} s"
            )


def wrong_memory(guest: SampleGuest, wanted: Expected, known: Known | None, answer: Answer) -> Iterator[Problem]:
    """What is wrong with a guest that runs again, by its own ``answer`` to ``status``."""
    boots, word, nonce = answer.number("boots"), answer.fields["word"], answer.fields["nonce"]
    was = known.answer if known else None
    boots_before = was.number("boots") if was else boots - 1
    if nonce != guest.tiny.nonce or answer.owner != guest.tiny.nonce:
        yield Problem("guest-changed", f"it is {nonce} with the record of {answer.owner}, not {guest.tiny.nonce}")
    elif was and word != was.fields["word"]:
        is_uefi = "variable" in answer.fields
        kept = "its UEFI variables have" if is_uefi else "its disk has"
        found = "guest-firmware-lost" if is_uefi else "guest-disk-damaged"
        yield Problem(found, f"{kept} the word {word!r}, it wrote {was.fields['word']!r}")
    if guest.domain.has_tpm:
        yield from _wrong_tpm(guest, was, answer)
    if wanted.resumes and was:
        counter, before = answer.number("counter"), was.number("counter")
        if boots != boots_before:
            yield Problem("guest-not-resumed", "its memory is gone: it was started anew")
        elif counter < before:
            yield Problem("guest-not-resumed", f"its counter is {counter}, was {before} before")
    elif boots > boots_before + 1:
        yield Problem("guest-unwanted", f"it was started {boots - boots_before} times since the host went down")


def _wrong_tpm(guest: SampleGuest, was: Answer | None, answer: Answer) -> Iterator[Problem]:
    """A start counts both in the guest's record and in its TPM: their difference stays."""
    tpm = answer.fields.get("tpm", "none")
    if tpm != guest.tiny.nonce:
        yield Problem("guest-firmware-lost", f"its TPM says {tpm}, not {guest.tiny.nonce}")
    elif was and (lost := _ahead(answer) - _ahead(was)) > 0:
        yield Problem("guest-firmware-lost", f"its TPM has lost {lost} of the guest's {answer.number('boots')} starts")


def _ahead(answer: Answer) -> int:
    return answer.number("boots") - answer.number("tpm-boots")

"""What a run says of a template that was frozen while it was busy."""

from __future__ import annotations

from harness.guest.quiet import Quiet
from harness.machine.clone import note_if_busy


def test_a_guest_that_never_becomes_quiet_is_frozen_with_a_note_that_names_its_units() -> None:
    quiet = Quiet(took_s=90.4, waited_for={"a.service": 3.0, "nova.service": 90.0}, busy=("nova.service",))

    assert note_if_busy(quiet, "booted") == (
        "state booted is frozen while nova.service is busy, after 90 s: each clone continues that work"
    )


def test_a_quiet_guest_needs_no_note() -> None:
    assert note_if_busy(Quiet(took_s=2.0), "booted") == ""

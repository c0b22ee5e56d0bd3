"""Detects tests that change the shared machine: the test is named, and the next one gets a new machine."""

from __future__ import annotations

from contextlib import suppress

import pytest

from harness.core.errors import HostError
from harness.plugin.collect import image_of, looks
from harness.plugin.state import KEY, RunState


class SharedMachineChanged(pytest.PytestWarning):
    """A test changed the machine that it shares with others."""


def look_after(item: pytest.Item) -> None:
    """Release the shared machine if the test changed it, and name the test."""
    state, image = item.config.stash[KEY], image_of(item)
    shared = state.shared.get(image or "")
    if shared is None or not looks(item):
        return
    changes = shared.changes()
    if changes:
        text = f"{item.nodeid} changed the machine it shares ({'; '.join(changes)}): use machine instead of host"
        shared.release()
        with suppress(HostError):  # a full disk; pytest's report has it too
            state.runs[str(image)].add_note(text)
        with suppress(SharedMachineChanged):  # if warnings are errors, the image would seem to have failed
            item.warn(SharedMachineChanged(text))


def release_before(state: RunState, nextitem: pytest.Item | None) -> None:
    """Release the shared machine if the next test does not use it, which frees its memory."""
    if nextitem is None or not looks(nextitem):
        for shared in state.shared.values():
            shared.release()

"""Who changes the shared machine is named, and the next test gets another."""

from __future__ import annotations

from contextlib import suppress

import pytest

from harness.core.errors import HostError
from harness.plugin.collect import image_of, looks
from harness.plugin.state import KEY, RunState


class SharedMachineChanged(pytest.PytestWarning):
    """A test changed the machine that it shares with others."""


def look_after(item: pytest.Item) -> None:
    """Compare the shared machine with what it was, and replace it if it is not that any more."""
    state, image = item.config.stash[KEY], image_of(item)
    shared = state.shared.get(image or "")
    if shared is None or not looks(item):
        return
    changes = shared.changes()
    if changes:
        said = f"{item.nodeid} changed the machine it shares ({'; '.join(changes)}): take machine instead of host"
        shared.release()
        with suppress(HostError):  # a full disk; pytest's report has it too
            state.runs[str(image)].add("note", {"text": said})
        with suppress(SharedMachineChanged):  # where warnings are errors it would look as if the image had failed
            item.warn(SharedMachineChanged(said))


def release_before(state: RunState, nextitem: pytest.Item | None) -> None:
    """A machine that nobody looks at next takes memory that the next may need."""
    if nextitem is None or not looks(nextitem):
        for shared in state.shared.values():
            shared.release()

"""Detects tests that change the shared machine: the test is named, and the next one gets a new machine.

Between two tests the shared machine does not run.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from harness.core.errors import HostError
from harness.plugin.collect import image_of, looks
from harness.plugin.state import KEY


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


def release_before(config: pytest.Config, nextitem: pytest.Item | None) -> None:
    """Release the shared machine if the next test does not use it, which frees its memory; else pause it until then.

    Under a debugger (``--pdb``, ``--trace``) it runs on: a person may use it after the test.
    """
    is_used = nextitem is not None and looks(nextitem)
    is_debugged = config.getoption("usepdb", False) or config.getoption("trace", False)
    for shared in config.stash[KEY].shared.values():
        if not is_used:
            shared.release()
        elif not is_debugged:
            shared.pause()

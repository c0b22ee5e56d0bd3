"""What becomes of the shared machine after a test: paused until the next one that uses it, else ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.fixtures.naming import private
from harness.plugin.classify import keep_machine
from harness.plugin.collect import TEST_PROPERTY
from harness.plugin.shared_machine_guard import release_before
from harness.plugin.state import KEY

from ..machine.test_shared import Worker

LOOKS: Any = SimpleNamespace(fixturenames=("host", private("shared")))
CHANGES: Any = SimpleNamespace(fixturenames=("machine",))


def after_a_test(nextitem: Any, **options: bool) -> list[str]:
    """What is done to the shared machine when the next test is that one."""
    done: list[str] = []
    shared = SimpleNamespace(pause=lambda: done.append("paused"), release=lambda: done.append("released"))
    config: Any = SimpleNamespace(
        stash={KEY: SimpleNamespace(shared={"base": shared})},
        getoption=lambda name, default: options.get(name, default),
    )
    release_before(config, nextitem)
    return done


def test_it_is_paused_until_the_next_test_that_uses_it() -> None:
    assert after_a_test(LOOKS) == ["paused"]


@pytest.mark.parametrize("nextitem", [None, CHANGES])
def test_it_ends_if_the_next_test_does_not_use_it(nextitem: Any) -> None:
    assert after_a_test(nextitem) == ["released"]


@pytest.mark.parametrize("option", ["usepdb", "trace"])
def test_it_runs_on_while_a_person_debugs(option: str) -> None:
    assert after_a_test(LOOKS, **{option: True}) == []
    assert after_a_test(None, **{option: True}) == ["released"]


def test_a_paused_machine_continues_before_it_is_held_for_a_person(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    assert worker.shared.machine.is_on
    worker.shared.pause()
    item: Any = SimpleNamespace(funcargs={"shared": worker.shared}, user_properties=[(TEST_PROPERTY, "t.py::test_x")])
    state: Any = SimpleNamespace(keep=lambda machine, why: worker.said.append(f"{machine.name} is held: {why}"))

    keep_machine(item, state)

    assert worker.said == ["shared: pause", "shared: resume", "shared is held: t.py::test_x failed"]

"""States that tests ask for, and the path to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.core.errors import UsageError
from harness.machine import states
from harness.machine.machine import Machine
from harness.machine.states import Versions, path_to, state


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known = dict(states._known)
    yield
    states._known.clear()
    states._known.update(known)


def test_a_state_is_reached_through_those_it_depends_on() -> None:
    @state("with-volume")
    def _with_volume(machine: Machine, versions: Versions) -> None: ...

    @state("full", on="with-volume")
    def _full(machine: Machine, versions: Versions) -> None: ...

    assert [step.name for step in path_to("full")] == ["booted", "with-volume", "full"]


def test_a_changed_source_is_another_state() -> None:
    @state("one")
    def _one(machine: Machine, _: Versions) -> None:
        machine.check("true")

    before = path_to("one")[-1].source

    @state("one")
    def _other(machine: Machine, _: Versions) -> None:
        machine.check("false")

    assert path_to("one")[-1].source != before


def test_an_unknown_state_is_a_usage_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"no state 'upgradet'; known: booted, .*upgraded.*"):
        path_to("upgradet")


def test_a_state_that_depends_on_itself_is_a_usage_error() -> None:
    @state("egg", on="hen")
    def _egg(machine: Machine, versions: Versions) -> None: ...

    @state("hen", on="egg")
    def _hen(machine: Machine, versions: Versions) -> None: ...

    with pytest.raises(UsageError, match="depends on itself"):
        path_to("hen")

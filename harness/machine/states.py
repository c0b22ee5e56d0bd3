"""States that a test may ask for: machines to which something was done before they were frozen.

    @pytest.mark.state("upgraded")
    def test_x(machine): …

A state is reached from another state or from power-on, once on each host; each test that asks for it gets a clone. A
repository adds states in conftest.py:

    from harness import state

    @state("with-volume", on="booted")
    def with_volume(machine, versions):
        machine.check("truncate -s 1G /data/volume && mkfs.ext4 -q /data/volume")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError, UsageError
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts

BOOTED = "booted"
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Versions:
    """The artifacts of an upgrade: from ``old`` to ``new``, one of which is ``under_test``, then to ``newest``, which
    is ``new`` itself if there is no third version."""

    under_test: Artifacts
    old: Artifacts
    new: Artifacts
    newest: Artifacts

    @property
    def other(self) -> Artifacts:
        """The version that is not under test; the one under test if both are the same."""
        return self.new if self.under_test == self.old else self.old


Reach = Callable[[Machine, Versions], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state ``name``: ``reach`` brings a machine from the state ``on`` to it, with ``boots`` boots.

    Without ``on`` and ``reach``, one boot does.
    """

    name: str
    on: str | None = None
    reach: Reach | None = None
    boots: int = 1

    @property
    def source(self) -> str:
        """The source of ``reach`` and of its file, for the key of its template: a changed source makes a new one."""
        if self.reach is None:
            return ""
        file = inspect.getsourcefile(self.reach)
        return inspect.getsource(self.reach) + (Path(file).read_text("utf-8") if file else "")

    def bring(self, machine: Machine, versions: Versions) -> None:
        """Bring ``machine``, which is in the state ``on``, to this state."""
        if self.reach is None:
            raise HarnessError(f"state {self.name!r} is reached by a boot, not from another state")
        self.reach(machine, versions)


_known = {name: State(name=name) for name in (BOOTED, PREVIOUS)}


def state(name: str, *, on: str = BOOTED, boots: int = 0) -> Callable[[Reach], Reach]:
    """A decorator: the function brings a machine from the state ``on`` to the state ``name``.

    Its arguments are the machine, on and ready, and the `Versions` of this run; it must leave the machine on and ready.
    What it puts into ``machine.notes`` is there for each test that asks for the state. If it raises, all these tests
    fail with that error as the cause. It makes ``boots`` boots.
    """

    def note(reach: Reach) -> Reach:
        _known[name] = State(name=name, on=on, reach=reach, boots=boots)
        return reach

    return note


def path_to(name: str) -> tuple[State, ...]:
    """The states from power-on to ``name``, in order; `UsageError` for an unknown one."""
    return tuple(reversed(list(_way_back(name))))


def _way_back(name: str) -> Iterator[State]:
    seen: set[str] = set()
    wanted: str | None = name
    while wanted is not None:
        if wanted in seen:
            raise UsageError(f"state {name!r} depends on itself")
        if wanted not in _known:
            raise UsageError(f"no state {wanted!r}; known: {', '.join(sorted(_known))}; harness.state defines more")
        seen.add(wanted)
        yield _known[wanted]
        wanted = _known[wanted].on


@state("upgraded", on=PREVIOUS, boots=1)
def _upgraded(machine: Machine, versions: Versions) -> None:
    machine.reboot(into=versions.new)

"""States that a test may ask for: what was done to a machine before it was frozen.

    @pytest.mark.state("upgraded")
    def test_x(machine): …

A state is reached from another one, or from power-on, once a host; every test that asks for it gets a copy. A
repository adds its own in conftest.py:

    @harness.state("with-volume", on="booted")
    def with_volume(machine, versions):
        machine.check("truncate -s 1G /data/volume && mkfs.ext4 -q /data/volume")
"""

from __future__ import annotations

import inspect
import shlex
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
    """``old`` is what machines run today, ``new`` what they are upgraded to; one of them is ``under_test``. ``newest``
    is what ``new`` is upgraded to; it is ``new`` itself where there is no third version."""

    under_test: Artifacts
    old: Artifacts
    new: Artifacts
    newest: Artifacts

    @property
    def other(self) -> Artifacts:
        """Another build than the one under test, if there is one."""
        return self.new if self.under_test == self.old else self.old


Reach = Callable[[Machine, Versions], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state called ``name``, ``reach``ed from a machine in the state ``on``; without these, from power-on."""

    name: str
    on: str | None = None
    reach: Reach | None = None

    @property
    def source(self) -> str:
        """What is done, as text, with all of the file it stands in: another text is another state."""
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


def state(name: str, *, on: str = BOOTED) -> Callable[[Reach], Reach]:
    """A decorator: the function brings a machine from the state ``on`` to the state ``name``.

    It gets the machine, on and ready, and the `Versions` of this run, and must leave the machine on and ready. What
    it raises is the cause that every test which asks for the state is told.
    """

    def note(reach: Reach) -> Reach:
        _known[name] = State(name=name, on=on, reach=reach)
        return reach

    return note


def path_to(name: str) -> tuple[State, ...]:
    """The states on the way to ``name``, that of power-on first; `UsageError` for one that nobody defined."""
    return tuple(reversed(list(_way_back(name))))


def _way_back(name: str) -> Iterator[State]:
    seen = set[str]()
    wanted: str | None = name
    while wanted is not None:
        if wanted in seen:
            raise UsageError(f"state {name!r} stands on itself")
        if wanted not in _known:
            raise UsageError(f"no state {wanted!r}; known: {', '.join(sorted(_known))}; harness.state defines more")
        seen.add(wanted)
        yield _known[wanted]
        wanted = _known[wanted].on


@state("upgraded", on=PREVIOUS)
def _upgraded(machine: Machine, versions: Versions) -> None:
    machine.reboot(into=versions.new)


DOMAIN = """<domain type='qemu'><name>bootproof</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""
"""A libvirt domain of firmware alone."""


@state("with-domain")
def _with_domain(machine: Machine, _: Versions) -> None:
    machine.check(
        f"echo {shlex.quote(DOMAIN)} >/run/domain.xml && virsh define /run/domain.xml && virsh start bootproof"
    )

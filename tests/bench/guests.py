"""What tiny guests cost while nothing happens, how soon they answer, and what six of them do to a boot beside them.

The boot is that of `base` on a bare QEMU, from power-on until it is ready.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core.cpu_use import sample
from harness.guests.tiny_guest import TinyGuest, make_disk
from harness.model.definition import load_definition
from harness.qemu import program
from harness.store.store import find_store

from ..machines import specify
from ..tiny_guests import ADDRESS, BOARDS, MAC, RunningGuest, arp_request, echo_reply, echo_request, running
from .boot import boot_bare_by, ready_after
from .start import ROOT, seconds
from .table import Figure, Limit, alternate, compared

_MANY = 6
_BOARD = BOARDS["q35-virtio"]


def measure(*, quick: bool) -> list[Figure]:
    idle_s = 5 if quick else 60
    with TemporaryDirectory() as name, _guests(Path(name), 1) as (guest,):
        answers_ms = [_ping_s(guest, number) * 1000 for number in range(20 if quick else 200)]
        one = _percents([guest], idle_s)
    with TemporaryDirectory() as name, _guests(Path(name), _MANY) as guests:
        many = _percents(guests, idle_s)
    cost = Limit(most=2.0, unit="% of a core")
    return [
        _figure("a tiny guest answers a ping", answers_ms, median(answers_ms), "ms"),
        _figure("a tiny guest without work", one, one[0], "% of a core", cost),
        _figure(f"each of {_MANY}: the most", many, max(many), "% of a core", cost),
        _beside(1 if quick else 4),
    ]


def _figure(what: str, samples: list[float], value: float, unit: str, limit: Limit | None = None) -> Figure:
    return Figure(row="guests", what=what, value=value, unit=unit, limit=limit, samples={what: samples})


@contextmanager
def _guests(folder: Path, count: int) -> Iterator[list[RunningGuest]]:
    """Guests that have started, each with a disk and a cable of its own."""
    with ExitStack() as stack:
        guests = []
        for number in range(count):
            disk = folder / f"{number}.raw"
            make_disk(disk, TinyGuest(nonce=f"bench-{number}", addresses={MAC: ADDRESS}))
            guests.append(stack.enter_context(running(_BOARD, disk)))
            guests[-1].next_line()
        yield guests


def _ping_s(guest: RunningGuest, number: int) -> float:
    if number == 0:
        guest.cable.answer(arp_request(ADDRESS))
    return seconds(lambda: echo_reply(guest.cable.answer(echo_request(ADDRESS, number, bytes(56)))))


def _percents(guests: list[RunningGuest], idle_s: float) -> list[float]:
    """The CPU time of each guest's QEMU within ``idle_s`` seconds, in percent of a core."""
    before = [sample(guest.child.pid) for guest in guests]
    time.sleep(idle_s)
    after = [sample(guest.child.pid) for guest in guests]
    pairs = [(first, last) for first, last in zip(before, after, strict=True) if first and last]
    if len(pairs) < len(guests):
        raise RuntimeError("a tiny guest's QEMU ended")
    return [100 * (last.ran_s - first.ran_s) / (last.at_s - first.at_s) for first, last in pairs]


def _beside(pairs: int) -> Figure:
    beside, alone = alternate(pairs, lambda: _boot_s(_MANY), lambda: _boot_s(0))
    what = f"a boot of base beside {_MANY} tiny guests"
    return compared("guests", what, beside, "alone", alone, unit="s", limit=Limit(most=1.10))


def _boot_s(count: int) -> float:
    definition = load_definition(ROOT / "images" / "base")
    artifacts = build(definition, find_store())
    with TemporaryDirectory() as name, _guests(Path(name), count):
        folder = Path(name) / "boot"
        folder.mkdir()
        spec = specify(definition, artifacts, folder)
        return boot_bare_by(spec, artifacts, folder, program.in_use(), after=ready_after(definition)).took_s

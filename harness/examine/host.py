"""Everything that is read of a running host, as one value, in a few round trips."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.examine import (
    access,
    clock,
    journal,
    limits,
    network,
    network_files,
    processes,
    settings,
    sockets,
    storage,
    udev,
    units,
)
from harness.examine.access import AccessReading
from harness.examine.clock import ClockReading
from harness.examine.journal import JournalReading
from harness.examine.limits import KernelLimits
from harness.examine.network import NetworkReading
from harness.examine.network_files import NetworkFiles
from harness.examine.processes import Process
from harness.examine.settings import StateReading, Texts
from harness.examine.sockets import Socket
from harness.examine.storage import Mount, Superblock, Swap
from harness.examine.udev import UdevReading
from harness.examine.units import UnitRow
from harness.guest.channel import Channel
from harness.guest.probes import ask

_MOST_BYTES = 8 << 20
"""The open files of a hypervisor with guests are some 100 KiB, its journal too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """What a ready host is, by subject; without arguments a host about which there is nothing to say.
    ``unseen_sockets`` has a sentence for each kind that could not be looked at."""

    processes: Mapping[int, Process] = field(default_factory=dict)
    sockets: tuple[Socket, ...] = ()
    unseen_sockets: tuple[str, ...] = ()
    units: Mapping[str, UnitRow] = field(default_factory=dict)
    wanted: tuple[tuple[str, str], ...] = ()
    limits: KernelLimits = field(default_factory=KernelLimits)
    journal: JournalReading = field(default_factory=JournalReading)
    mounts: tuple[Mount, ...] = ()
    swaps: tuple[Swap, ...] = ()
    superblocks: Mapping[str, Superblock] = field(default_factory=dict)
    clock: ClockReading = field(default_factory=ClockReading)
    network: NetworkReading = field(default_factory=NetworkReading)
    network_files: NetworkFiles = field(default_factory=NetworkFiles)
    access: AccessReading = field(default_factory=AccessReading)
    texts: Texts = field(default_factory=Texts)
    state: StateReading = field(default_factory=StateReading)
    udev: UdevReading = field(default_factory=UdevReading)


def read_host(channel: Channel, resolves: str = "") -> HostReading:
    """Ask a ready host, in five round trips; ``resolves`` is a name that its network knows, if one is known.

    `ImageError` if a command fails, or prints nothing or something else than expected.
    """
    asked_s = time.time()
    facts = ask(
        channel,
        [*clock.PROBES, *limits.PROBES, *storage.PROBES, *network.PROBES, *network_files.PROBES, *access.probes()],
    )
    facts |= ask(channel, [*processes.PROBES, *sockets.PROBES, *units.PROBES], most_bytes=_MOST_BYTES)
    facts |= ask(channel, journal.PROBES, most_bytes=_MOST_BYTES)
    facts |= ask(channel, settings.PROBES, most_bytes=_MOST_BYTES)
    mounts, texts = storage.parse_mounts(facts), settings.parse_texts(facts)
    question = network.resolve_probe(resolves) if resolves else None
    facts |= ask(
        channel,
        [
            *units.inactive_probe(facts),
            *storage.superblock_probes(mounts),
            *settings.state_probes(texts),
            *udev.state_probes(texts),
            *access.gained_probes(mounts),
            access.PING,
            access.USER,
            access.ACCOUNTS,
            *((question,) if question else ()),
        ],
    )
    return HostReading(
        processes=processes.parse(facts),
        sockets=sockets.parse(facts),
        unseen_sockets=sockets.parse_unseen(facts),
        units=units.parse(facts),
        wanted=units.parse_wanted(facts),
        limits=limits.parse(facts),
        journal=journal.parse(facts),
        mounts=mounts,
        swaps=storage.parse_swaps(facts),
        superblocks=storage.parse_superblocks(facts, mounts),
        clock=clock.parse(facts, asked_s),
        network=network.parse(facts, settings.network_files(texts), question),
        network_files=network_files.parse(facts, settings.network_files(texts)),
        access=access.parse(facts, mounts),
        texts=texts,
        state=settings.parse_state(facts),
        udev=udev.parse(facts),
    )


def unchecked(host: HostReading) -> Iterator[str]:
    """A sentence for each thing that could not be looked at."""
    yield from host.unseen_sockets
    yield from access.unchecked(host.access)
    yield from network.unchecked(host.network)

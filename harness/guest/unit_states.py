"""The states of a ready guest's units, in one question.

systemctl reads all properties of each unit, whichever are asked for: under emulation that takes most of a question's
time, so one answer serves the boot checks, the report and the runtime profile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.guest.probes import Probe, read
from harness.model.verdict import Unit

BEGIN = Probe("start of user space", "systemctl show -p UserspaceTimestampMonotonic --value")
_PULLS = ("Requires", "Requisite", "BindsTo", "Wants")
_PROPERTIES = (
    "-p Id -p ActiveState -p NRestarts -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic "
    f"-p InactiveEnterTimestampMonotonic -p After {' '.join(f'-p {name}' for name in _PULLS)}"
)
SERVICES = Probe("services", f"systemctl show '*.service' {_PROPERTIES}")
"""All that are loaded: one that has ended may have been started again. systemctl(1): a pattern stands for loaded units,
so that no unit's name, as ``-.mount``, is taken for an option."""

OTHER_UNITS = Probe(
    "other units",
    f"systemctl show '*' {_PROPERTIES} --type=socket,timer,path,mount,automount,swap,scope,target "
    "--state=active,activating,failed",
)
"""Those that do something. Devices and slices cannot fail, and nobody waits for their start."""

_STARTED = ("active", "failed", "activating")
_SHOWN = (".service", ".socket", ".timer", ".mount", ".target")
_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStart:
    """A unit as systemd started it, in seconds since the kernel began: ``ends_s`` is when it was active, or had ended
    if it never is active while it runs; None while it is being started.

    It starts after the units in ``after``, None if that is not known, and pulls in those in ``pulls``: it requires or
    wants them.
    """

    unit: str
    begins_s: float
    ends_s: float | None
    after: frozenset[str] | None = frozenset()
    pulls: frozenset[str] = frozenset()


def read_failed(answers: Mapping[str, str]) -> tuple[str, ...]:
    """The units that failed. `ImageError`, here and below, for an answer that is not as expected."""
    return tuple(
        unit
        for probe in (SERVICES, OTHER_UNITS)
        for unit in read(
            answers, probe, lambda text: [row["Id"] for row in _rows(text) if row["ActiveState"] == "failed"]
        )
    )


def read_restarted(answers: Mapping[str, str]) -> tuple[str, ...]:
    """The services that systemd started again, and how often, as "ssh.service 2"."""
    return read(answers, SERVICES, lambda text: tuple(_restarted(text)))


def read_started(answers: Mapping[str, str]) -> dict[str, Unit]:
    """The services, sockets, timers, mounts and targets that were started, with their seconds of user space."""
    begin_us = read(answers, BEGIN, int)
    services, others = (
        read(answers, probe, lambda text: dict(_started(text, begin_us))) for probe in (SERVICES, OTHER_UNITS)
    )
    return services | others


def read_starts(answers: Mapping[str, str]) -> tuple[UnitStart, ...]:
    """All units that the answers list and that were started: not those that have ended since."""
    return tuple(
        start for probe in (SERVICES, OTHER_UNITS) for start in read(answers, probe, lambda text: list(_starts(text)))
    )


def begin_of_user_space(answers: Mapping[str, str]) -> float:
    """Seconds after the kernel began, without those in the initrd."""
    return read(answers, BEGIN, int) / _US


def names(row: Mapping[str, str], key: str) -> list[str]:
    r"""The units of a property. systemctl quotes a name with a backslash as for a shell: ``"a\\x2db"``."""
    return [word.strip('"').replace("\\\\", "\\") for word in row.get(key, "").split()]


def _restarted(text: str) -> Iterator[str]:
    for row in _rows(text):
        if int(row["NRestarts"]):
            yield f"{row['Id']} {row['NRestarts']}"


def _started(text: str, begin_us: int) -> Iterator[tuple[str, Unit]]:
    for row in _rows(text):
        if row["Id"].endswith(_SHOWN) and row["ActiveState"] in _STARTED:
            yield row["Id"], _unit(row, begin_us)


def _starts(text: str) -> Iterator[UnitStart]:
    for row in _rows(text):
        begins, ready, over = (
            int(row[f"{name}TimestampMonotonic"]) for name in ("InactiveExit", "ActiveEnter", "InactiveEnter")
        )
        end = next((at for at in (ready, over) if at >= begins), None)
        if begins:
            yield UnitStart(
                unit=row["Id"],
                begins_s=begins / _US,
                ends_s=None if end is None else end / _US,
                after=frozenset(names(row, "After")),
                pulls=frozenset(name for key in _PULLS for name in names(row, key)),
            )


def _rows(text: str) -> list[dict[str, str]]:
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n")]


def _unit(row: Mapping[str, str], begin_us: int) -> Unit:
    """systemd's timestamps count from the kernel's start; 0 is never."""
    begins, ready = (int(row[f"{name}TimestampMonotonic"]) for name in ("InactiveExit", "ActiveEnter"))
    return Unit(
        state=row["ActiveState"],
        begins_s=round((begins - begin_us) / _US, 2),
        ready_s=round((max(begins, ready) - begin_us) / _US, 2),
    )

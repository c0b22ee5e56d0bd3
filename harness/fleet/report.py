"""One image against a fleet: the predictions for all hosts, as counts by model and as reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import UsageError
from harness.fleet.drivers import ImageDrivers
from harness.fleet.host_file import FleetHost, find_files, read_host
from harness.fleet.predict import Predictor
from harness.fleet.prediction import Effect, Prediction

_MOST_REASONS = 10_000
"""Further ones are counted: a hostile fleet could have millions."""
_MOST_MODELS = 10_000
_OTHERS = "(other models)"
_LOSSES = (Effect.WILL_NOT_BOOT, Effect.MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that is predicted, and the ``names`` of the hosts that it is predicted for."""

    id: str
    effect: Effect
    device: str
    what: str
    evidence: tuple[str, ...]
    cause: str
    next: str
    hosts: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCount:
    """Hosts of one model: how many ``boot``, and for how many each effect is predicted. A host may be in several."""

    model: str
    hosts: int
    boot: int
    will_not_boot: int
    missing: int
    changes: int
    not_told: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """``reasons`` are the gravest first, by hosts. ``unread`` has a sentence for each file that was not judged. With
    ``previous``, a version, there are only reasons that it does not have on the same host."""

    image: str
    version: str
    artifacts: str
    previous: str
    hosts: int
    models: tuple[ModelCount, ...]
    reasons: tuple[Reason, ...]
    unread: tuple[str, ...] = ()
    not_shown: int = 0

    @property
    def losses(self) -> tuple[Reason, ...]:
        """What a host will not do: it does not boot, or a device does not work."""
        return tuple(reason for reason in self.reasons if reason.effect in _LOSSES)

    def count(self, effect: Effect) -> int:
        """The hosts for which it is predicted."""
        return sum(getattr(model, effect.name.lower()) for model in self.models)


@dataclass
class _Count:
    """Adds up predictions, and drops what exceeds the bounds."""

    hosts: int = 0
    models: dict[str, Counter[str]] = field(default_factory=dict)
    found: dict[tuple[str, Effect, str, str], tuple[Prediction, list[str]]] = field(default_factory=dict)
    same: dict[int, tuple[Prediction, list[str]]] = field(default_factory=dict)
    not_shown: int = 0
    in_use: set[str] = field(default_factory=set)

    def add(self, host: FleetHost, predictions: Iterable[Prediction]) -> None:
        self.hosts += 1
        model = host.model if host.model in self.models or len(self.models) < _MOST_MODELS else _OTHERS
        counts = self.models.setdefault(model, Counter())
        effects = set[Effect]()
        for one in predictions:
            effects.add(one.effect)
            known = self.same.get(id(one))
            if known is None or known[0] is not one:
                known = self._known(one)
            if known is None:
                self.not_shown += 1
            else:
                known[1].append(host.name)
        counts["hosts"] += 1
        counts["boot"] += Effect.WILL_NOT_BOOT not in effects
        counts.update(effect.name.lower() for effect in effects)
        if len(self.in_use) < _MOST_REASONS:
            self.in_use.update(device.module for device in host.devices)

    def _known(self, one: Prediction) -> tuple[Prediction, list[str]] | None:
        """The row of a prediction; None if there are too many."""
        key = (one.id, one.effect, one.device, one.what)
        if key not in self.found and len(self.found) >= _MOST_REASONS:
            return None
        row = self.found.setdefault(key, (one, []))
        if len(self.same) >= 10 * _MOST_REASONS:
            self.same.clear()
        self.same[id(one)] = (one, row[1])
        return row

    def report(self, drivers: ImageDrivers, previous: ImageDrivers | None, unread: list[str]) -> FleetReport:
        order = {effect: place for place, effect in enumerate(Effect)}
        rows = sorted(self.found.values(), key=lambda row: (order[row[0].effect], -len(row[1]), row[0].device))
        names = ("hosts", "boot", *(effect.name.lower() for effect in Effect))
        return FleetReport(
            image=drivers.image,
            version=drivers.version,
            artifacts=drivers.artifacts,
            previous=previous.version if previous else "",
            hosts=self.hosts,
            models=tuple(
                ModelCount(model=model, **{name: counts[name] for name in names})
                for model, counts in sorted(self.models.items())
            ),
            reasons=tuple(
                Reason(
                    id=one.id, effect=one.effect, device=one.device, what=one.what, evidence=one.evidence,
                    cause=one.cause, next=one.next, hosts=len(hosts), names=tuple(hosts),
                )
                for one, hosts in rows
            ),
            unread=tuple(unread),
            not_shown=self.not_shown,
        )  # fmt: skip


def judge(places: Iterable[Path], drivers: ImageDrivers, previous: ImageDrivers | None = None) -> FleetReport:
    """What the image does on each host of the files and folders ``places``; one file is in memory at a time.

    With ``previous``, only what the image loses relative to it.
    """
    return _judge(places, drivers, previous)[0]


def _judge(
    places: Iterable[Path], drivers: ImageDrivers, previous: ImageDrivers | None
) -> tuple[FleetReport, frozenset[str]]:
    about = Predictor(drivers).kinds if previous is None else _losses(Predictor(drivers), Predictor(previous))
    count, unread = _Count(), list[str]()
    for file in find_files(places):
        try:
            if isinstance(file, UsageError):
                raise file
            host = read_host(file)
        except UsageError as error:
            unread.append(str(error))
            continue
        count.add(host, about(host))
    return count.report(drivers, previous, unread), frozenset(count.in_use)


def _losses(new: Predictor, old: Predictor) -> Callable[[FleetHost], Iterable[Prediction]]:
    """What a host loses: it did not lack the same before. What only cannot be told any more is no loss."""

    def about(host: FleetHost) -> list[Prediction]:
        lost = [one for one in new.kinds(host) if one.effect in _LOSSES]
        if not lost:
            return lost
        before = {(one.id, one.effect, one.device) for one in old.kinds(host)}
        return [one for one in lost if (one.id, one.effect, one.device) not in before]

    return about


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetChange:
    """What a fleet loses by an image: a value for decisions. ``problem`` is a sentence if the fleet could not be
    judged. ``unused`` are the drivers that were dropped and that no host uses."""

    problem: str = ""
    hosts: int = 0
    losses: tuple[Reason, ...] = ()
    unused: tuple[str, ...] = ()


def compare(folder: Path, new: ImageDrivers, old: ImageDrivers | None) -> FleetChange:
    """What the hosts in ``folder`` lose; without an ``old`` image nothing, but each file must be readable."""
    if not folder.is_dir():
        return FleetChange(problem=f"the fleet {folder} is not a folder")
    report, in_use = _judge([folder], new, old if old else new)
    if report.unread:
        more = f", and {len(report.unread) - 1} more files" if report.unread[1:] else ""
        return FleetChange(problem=f"the fleet cannot be judged: {report.unread[0]}{more}", hosts=report.hosts)
    dropped = old.names - new.names if old else frozenset[str]()
    return FleetChange(hosts=report.hosts, losses=report.losses, unused=tuple(sorted(dropped - in_use)))

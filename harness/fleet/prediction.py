"""One statement about what an image does on a host, and the makers that predictions use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.text import escaped
from harness.model.finding_catalog import explanations, next_step


class Effect(StrEnum):
    """The gravest first."""

    WILL_NOT_BOOT = "will not boot"
    MISSING = "missing"
    CHANGES = "changes"
    NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One statement about a ``host``. All but the host is the same for each host with such a device."""

    id: str
    effect: Effect
    host: str
    device: str
    what: str
    evidence: tuple[str, ...] = ()
    cause: str = ""
    next: str = ""


def _prediction(effect: Effect, name: str, device: str, what: str, *evidence: str, cause: str = "") -> Prediction:
    known = explanations().get(name)
    return Prediction(
        id=name,
        effect=effect,
        host="",
        device=device,
        what=escaped(what),
        evidence=tuple(escaped(line)[:300] for line in evidence if line),
        cause=escaped(cause) or (known.usual[0] if known else ""),
        next=next_step(name),
    )


def will_not_boot(name: str, device: str, what: str, *evidence: str, cause: str = "") -> Prediction:
    return _prediction(Effect.WILL_NOT_BOOT, name, device, what, *evidence, cause=cause)


def lacks(name: str, device: str, what: str, *evidence: str, cause: str = "") -> Prediction:
    return _prediction(Effect.MISSING, name, device, what, *evidence, cause=cause)


def changes(name: str, device: str, what: str, *evidence: str, cause: str = "") -> Prediction:
    return _prediction(Effect.CHANGES, name, device, what, *evidence, cause=cause)


def not_told(name: str, device: str, what: str, *evidence: str, cause: str = "") -> Prediction:
    return _prediction(Effect.NOT_TOLD, name, device, what, *evidence, cause=cause)

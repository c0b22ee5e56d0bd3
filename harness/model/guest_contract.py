"""What a host offers to its guests, as one value, and which of it a version takes away from them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

KVM = "kvm"
"""The accelerator, and in ``unknown`` what is known only with it: it needs a CPU that can, and depends on that CPU."""
DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestContract:
    """What guests of a host can have. Each field but ``unknown`` maps names to what is said of them; an image without
    QEMU has none.

    - ``programs``: "QEMU" and "libvirt" to their versions
    - ``machine_types``: a machine type to "", "deprecated", or "alias of pc-q35-10.0"
    - ``cpu_models``: a CPU model to the accelerators under which this machine can run it, and to "deprecated", as
      "kvm, tcg": in the order of the alphabet
    - ``firmware``: the path of a firmware file for x86 to its size in bytes
    - ``devices``: a device that a guest can be given, to its bus
    - ``capabilities``: what libvirt offers for q35, as "kvm disk bus", to its values in order

    ``unknown`` maps a field, or "kvm", to the reason why it could not be looked at.
    """

    programs: dict[str, str] = field(default_factory=dict)
    machine_types: dict[str, str] = field(default_factory=dict)
    cpu_models: dict[str, str] = field(default_factory=dict)
    firmware: dict[str, str] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    capabilities: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


TITLES: Mapping[str, str] = MappingProxyType(
    {
        "machine_types": "machine type",
        "cpu_models": "CPU model",
        "firmware": "firmware",
        "devices": "device",
        "capabilities": "domain capability",
    }
)
"""What an entry of each field is called: the fields of which guests can lose something, the gravest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A guest that has ``name``, of the field ``kind``, does not start or migrate any more; ``what`` says why."""

    kind: str
    name: str
    what: str

    def __str__(self) -> str:
        return f"{TITLES[self.kind]} {self.name} {self.what}"


def losses(before: GuestContract, after: GuestContract) -> Iterator[Loss]:
    """What guests lose, the gravest first; nothing of what is unknown on one side. Both machines have the same CPU."""
    unknown = before.unknown.keys() | after.unknown.keys()
    if KVM in unknown:
        before, after = without_kvm(before), without_kvm(after)
    for kind in TITLES:
        if kind not in unknown:
            old, new = getattr(before, kind), getattr(after, kind)
            for name in sorted(old):
                if what := loss(kind, old[name], new.get(name)):
                    yield Loss(kind=kind, name=name, what=what)


def loss(kind: str, old: str, new: str | None) -> str:
    """What guests lose of which something was said to be ``old`` and is ``new``, None if it is gone; empty if nothing.

    A deprecated name, an alias that leads to a newer machine type and a file with another size are still there.
    """
    if kind == "cpu_models" and new is not None:
        lost = sorted(_words(old) - _words(new) - {DEPRECATED})
        return f"cannot run under {' and '.join(lost)} any more" if lost else ""
    if kind == "capabilities":
        return _narrowed(old, new or "")
    return "is gone" if new is None else ""


def _narrowed(old: str, new: str) -> str:
    """Of two numbers, or of two lists of values."""
    if old.isdecimal() and new.isdecimal():
        return f"is {new}, was {old}" if int(new) < int(old) else ""
    lost = sorted(_words(old) - _words(new))
    return f"lacks {', '.join(lost)}" if lost else ""


def without_kvm(contract: GuestContract) -> GuestContract:
    """What of it can be compared with that of a machine without KVM, or with another CPU."""
    return replace(
        contract,
        cpu_models={name: ", ".join(sorted(_words(said) - {KVM})) for name, said in contract.cpu_models.items()},
        capabilities={name: said for name, said in contract.capabilities.items() if not name.startswith(f"{KVM} ")},
    )


def _words(text: str) -> set[str]:
    return set(text.split(", ")) - {""}

"""Compares the facts about two running hosts, a section for each kind, with weights. Pure: nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.diff.references import References
from harness.diff.value import DiffEntry, Section, Weight, entry, section
from harness.model import defences, guest_contract
from harness.model.guest_contract import KVM, without_kvm
from harness.model.host_facts import HostFacts, names_of_link

Judge = Callable[[str, str | None, str | None], Weight]
"""The weight of an entry by its name, its old and its new value; None means missing."""
NamesOf = Callable[[str, str | None, str | None], tuple[str, ...]]
"""The names that the new host lacks, to which files may refer."""

_OF_THE_MACHINE = re.compile(
    r"kernel\.(threads-max|pid_max|shm\w+|sched_\w+|msgmni)|user\.max_\w+|fs\.(file-max|epoll\.\w+|inotify\.\w+)"
    r"|vm\.(min_free_kbytes|\w+_reserve_kbytes|lowmem_reserve_ratio)|net\.nf_conntrack_max|net\.netfilter\.nf_conntrack_\w+"
    r"|net\.ipv4\.(tcp_(mem|rmem|wmem|max_\w+)|udp_mem)"
)
"""Settings that the kernel derives from memory and CPUs: Linux, Documentation/admin-guide/sysctl."""
_PROTECTING = frozenset({"nosuid", "nodev", "noexec", "ro"})
_NO_LOGIN = re.compile(r".*/(nologin|false|sync|halt|shutdown)")
_PRIVILEGED = frozenset(
    {"root", "sudo", "wheel", "adm", "disk", "shadow", "docker", "lxd", "libvirt", "kvm", "systemd-journal"}
)
_BY_MEMORY = ("default TasksMax", "default LimitNPROC")
_SERVICE_LIMIT = re.compile(r"\d+")
_OTHER_CPUS = "the runs of OLD and NEW were on other CPUs: {} and {}"


def _none(_what: str, _old: str | None, _new: str | None) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of facts: the name of its section, its field in `HostFacts`, and how its entries are weighed.

    What is ``for_guests`` is a field of `GuestContract`.
    """

    name: str
    field: str
    judge: Judge
    names: NamesOf = _none
    for_guests: bool = False

    def of(self, facts: HostFacts) -> Mapping[str, str]:
        """Empty if it was not recorded."""
        return getattr(facts.guests if self.for_guests else facts, self.field, {})


def _usual(_what: str, old: str | None, _new: str | None) -> Weight:
    """What is new disturbs nobody."""
    return Weight.USUAL if old is None else Weight.NOTABLE


def _notable(_what: str, _old: str | None, _new: str | None) -> Weight:
    return Weight.NOTABLE


def _minor(_what: str, old: str | None, _new: str | None) -> Weight:
    return Weight.MINOR if old is None else Weight.USUAL


def _interface(_what: str, old: str | None, new: str | None) -> Weight:
    """A card with another name has no configuration."""
    return Weight.ALARM if old and new else _usual("", old, new)


def _mount(_what: str, old: str | None, new: str | None) -> Weight:
    """A file system that lost an option which protects it, or that can no longer be written to, is alarming."""
    if not old or not new:
        return Weight.NOTABLE
    before, after = _options(old), _options(new)
    return Weight.ALARM if _PROTECTING & (before - after) or "ro" in after - before else Weight.NOTABLE


def _options(mount: str) -> frozenset[str]:
    return frozenset(mount.partition(", ")[2].split(","))


def _defence(what: str, old: str | None, new: str | None) -> Weight:
    return Weight.ALARM if old and defences.loss(what, old, new or "") else Weight.USUAL


def _profile(_what: str, old: str | None, new: str | None) -> Weight:
    """AppArmor denies only what a profile in the mode "enforce" does not allow."""
    return Weight.ALARM if old == "enforce" and new != "enforce" else Weight.NOTABLE


def _sysctl(what: str, old: str | None, new: str | None) -> Weight:
    """What only one kernel has differs by its version."""
    return Weight.MINOR if old is None or new is None or _OF_THE_MACHINE.fullmatch(what) else Weight.NOTABLE


def _limit(what: str, old: str | None, new: str | None) -> Weight:
    """A lower limit is notable, unless it follows from the machine's memory."""
    if what in _BY_MEMORY:
        return Weight.MINOR
    return Weight.NOTABLE if _number(new) < _number(old) else Weight.USUAL


def _number(limit: str | None) -> float:
    return float(limit) if limit and _SERVICE_LIMIT.fullmatch(limit) else float("inf")


def _control_group(what: str, _old: str | None, _new: str | None) -> Weight:
    return Weight.ALARM if what == "version" else Weight.NOTABLE


def _login(_what: str, old: str | None, new: str | None) -> Weight:
    """A user that can log in now, and could not before, is alarming."""
    return Weight.ALARM if _can_log_in(new) and not _can_log_in(old) else Weight.NOTABLE


def _can_log_in(login: str | None) -> bool:
    return bool(login) and not _NO_LOGIN.fullmatch((login or "").rpartition(" ")[2])


def _members(what: str, old: str | None, new: str | None) -> Weight:
    gained = set((new or "").split(",")) - set((old or "").split(",")) - {""}
    return Weight.ALARM if gained and what in _PRIVILEGED else Weight.NOTABLE


def _for_guests(field: str) -> Judge:
    """A guest that has what is gone neither starts nor migrates. What is deprecated will be gone; an alias is what new
    guests get."""

    def judge(_what: str, old: str | None, new: str | None) -> Weight:
        if old is None:
            return Weight.USUAL
        if guest_contract.loss(field, old, new):
            return Weight.ALARM
        return Weight.NOTABLE if new and ("deprecated" in new or new.startswith("alias of ")) else Weight.USUAL

    return judge


def _old_name(_what: str, old: str | None, _new: str | None) -> tuple[str, ...]:
    return tuple(old.split(", ")) if old else ()


def _disk_name(what: str, old: str | None, new: str | None) -> tuple[str, ...]:
    """Of a link, its own name if it is gone."""
    if what.startswith("by-"):
        return names_of_link(what) if new is None else ()
    return _old_name(what, old, new)


def _if_gone(what: str, _old: str | None, new: str | None) -> tuple[str, ...]:
    return (what,) if new is None else ()


def _what(what: str, _old: str | None, _new: str | None) -> tuple[str, ...]:
    return (what,)


_KINDS = (  # the most important first
    _Kind(name="interfaces", field="interfaces", judge=_interface, names=_old_name),
    _Kind(name="disks", field="disks", judge=_usual, names=_disk_name),
    _Kind(name="mounts", field="mounts", judge=_mount, names=_what),
    _Kind(name="defences of the kernel", field="defences", judge=_defence),
    _Kind(name="profiles of AppArmor", field="profiles", judge=_profile),
    *(
        _Kind(name=name, field=field, judge=_for_guests(field), names=names, for_guests=True)
        for name, field, names in (
            ("machine types", "machine_types", _if_gone),
            ("CPU models of guests", "cpu_models", _none),
            ("firmware of guests", "firmware", _if_gone),
            ("devices of guests", "devices", _none),
            ("domain capabilities", "capabilities", _none),
        )
    ),
    _Kind(name="QEMU and libvirt", field="programs", judge=_notable, for_guests=True),
    _Kind(name="sysctl", field="sysctl", judge=_sysctl),
    _Kind(name="limits", field="limits", judge=_limit),
    _Kind(name="control groups", field="control_groups", judge=_control_group),
    _Kind(name="timers", field="timers", judge=_notable, names=_if_gone),
    _Kind(name="logins", field="logins", judge=_login),
    _Kind(name="members of groups", field="members", judge=_members),
    _Kind(name="settings", field="settings", judge=_notable),
    _Kind(name="loaded modules", field="modules", judge=_minor),
)


def compare_hosts(
    old: HostFacts | None, new: HostFacts | None, references: References, unknown: str, not_recorded: str = ""
) -> Iterator[Section]:
    """A section for each kind; ``unknown`` says why the facts of a host are not known, ``not_recorded`` why those about
    its guests are not."""
    if old is None or new is None:
        yield from (Section(name=kind.name, unknown=unknown) for kind in _KINDS)
        return
    other_cpus = _OTHER_CPUS.format(old.cpu or "?", new.cpu or "?") if old.cpu != new.cpu else ""
    no_kvm = other_cpus or _not_looked_at(KVM, old, new)
    if no_kvm:
        old, new = _without_kvm(old), _without_kvm(new)
    for kind in _KINDS:
        why = other_cpus if kind.field == "defences" else ""
        if kind.for_guests:
            why = not_recorded or _not_looked_at(kind.field, old, new)
        if why:
            yield Section(name=kind.name, unknown=why)
        else:
            notes = [f"not compared under KVM: {no_kvm}"] if no_kvm and kind.field in _WITH_KVM else []
            yield section(kind.name, _entries(kind, kind.of(old), kind.of(new), references), notes)


_WITH_KVM = ("cpu_models", "capabilities")


def _not_looked_at(name: str, old: HostFacts, new: HostFacts) -> str:
    """Why ``name`` of a contract with guests is unknown on one side or both."""
    sides = (("OLD", old.guests), ("NEW", new.guests))
    return "; ".join(f"{side}: {guests.unknown[name]}" for side, guests in sides if guests and name in guests.unknown)


def _without_kvm(facts: HostFacts) -> HostFacts:
    return replace(facts, guests=without_kvm(facts.guests)) if facts.guests else facts


SECTIONS = tuple(kind.name for kind in _KINDS)


def names_of_host(facts: HostFacts) -> set[str]:
    """The names that a host could lose."""
    return {name for kind in _KINDS for what, value in kind.of(facts).items() for name in kind.names(what, value, None)}


def _entries(
    kind: _Kind, old: Mapping[str, str], new: Mapping[str, str], references: References
) -> Iterator[DiffEntry]:
    for what in sorted(old.keys() | new.keys()):
        one, other = old.get(what), new.get(what)
        if one != other:
            referring = references.to(*kind.names(what, one, other)) if one is not None else ()
            yield entry(what, one, other, weight=kind.judge(what, one, other), referring=referring)

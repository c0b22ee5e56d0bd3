"""Compares the facts about two running hosts, a section for each kind, with weights. Pure: nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.diff.references import References
from harness.diff.value import DiffEntry, Section, Weight, entry, section
from harness.model.defences import loss
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of facts: the name of its section, its field in `HostFacts`, and how its entries are weighed."""

    name: str
    field: str
    judge: Judge
    names: NamesOf = lambda _what, _old, _new: ()


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
    return Weight.ALARM if old and loss(what, old, new or "") else Weight.USUAL


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


def _machine_type(_what: str, _old: str | None, new: str | None) -> Weight:
    """A guest whose machine type is gone neither starts nor migrates."""
    return Weight.ALARM if new is None else Weight.USUAL


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
    _Kind(name="machine types", field="machine_types", judge=_machine_type, names=_if_gone),
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
    old: HostFacts | None, new: HostFacts | None, references: References, unknown: str
) -> Iterator[Section]:
    """A section for each kind; ``unknown`` says why the facts of one are not known."""
    for kind in _KINDS:
        if old is None or new is None:
            yield Section(name=kind.name, unknown=unknown)
        elif kind.field == "defences" and old.cpu != new.cpu:
            yield Section(name=kind.name, unknown=_OTHER_CPUS.format(old.cpu or "?", new.cpu or "?"))
        else:
            yield section(kind.name, _entries(kind, getattr(old, kind.field), getattr(new, kind.field), references))


SECTIONS = tuple(kind.name for kind in _KINDS)


def names_of_host(facts: HostFacts) -> set[str]:
    """The names that a host could lose."""
    return {
        name
        for kind in _KINDS
        for what, value in getattr(facts, kind.field).items()
        for name in kind.names(what, value, None)
    }


def _entries(
    kind: _Kind, old: Mapping[str, str], new: Mapping[str, str], references: References
) -> Iterator[DiffEntry]:
    for what in sorted(old.keys() | new.keys()):
        one, other = old.get(what), new.get(what)
        if one != other:
            referring = references.to(*kind.names(what, one, other)) if one is not None else ()
            yield entry(what, one, other, weight=kind.judge(what, one, other), referring=referring)

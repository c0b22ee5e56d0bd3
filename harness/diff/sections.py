"""Compares the facts about two images, a function for each section. Pure: nothing is read here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from harness.diff.contents import Facts
from harness.diff.files import compare_files
from harness.diff.host import SECTIONS, compare_hosts, names_of_host
from harness.diff.references import References
from harness.diff.value import Change, DiffEntry, Section, Weight, entry, section
from harness.model.artifacts import INITRD, KERNEL
from harness.model.verdict import BootResult, RuntimeProfile, is_like
from harness.store.squashfs_tree import TreeFile

T = TypeVar("T")

_MIB = 1 << 20
_GROWTH = 0.1
"""A growth of size or time by more than this share is notable."""
_EPHEMERAL = 32768
"""Linux, ip_local_port_range: from here on the kernel assigns ports, different ones at each boot."""
_LOOPBACK = ("127.", "[::1]", "[::ffff:127.")
_NO_REFERENCES = References()
ON_HOSTS = frozenset({"users", "groups", "units", "sockets", "links", "kernel", *SECTIONS})
"""The sections about running hosts; the others are about the build."""


def compare_facts(old: Facts, new: Facts, references: References = _NO_REFERENCES) -> tuple[Section, ...]:
    """All sections: those with an entry that files refer to come first, then those with an alarming one.

    ``references`` are those of a host's data, besides what the run of the older image saw.
    """
    packages = _packages(old, new)
    known = old.runtime_profile.host if old.runtime_profile else None
    references = References(files=known.references if known else {}).with_those(references)
    sections = [
        *_accounts(old, new, references),
        _units(old, new, references),
        _sockets(old, new),
        _links(old, new),
        _kernel(old, new),
        *_host(old, new, references),
        *_initrd(old, new),
        packages,
        _sizes(old, new),
        _boot_times(old, new),
        *_files(old, new, {found.what: found.change for found in packages.entries}),
        _kernel_configuration(old, new),
    ]
    return tuple(sorted(sections, key=lambda section: (not section.is_referred_to, not section.is_alarming)))


def names_of(profile: RuntimeProfile) -> set[str]:
    """The names of a running image that files may refer to."""
    return {*profile.units, *(names_of_host(profile.host) if profile.host else ())}


def _missing(why: str, old: object, new: object) -> str:
    """``why``, with the sides that are None or empty in place of ``{}``; empty if both are known."""
    missing = [side for side, known in (("OLD", old), ("NEW", new)) if not known]
    return why.format(" or ".join(missing)) if missing else ""


_NOT_LISTED = "the manifest of {} does not list them"
_AS_BUILT = "from the root file systems: no machines of both can be compared"


_NOT_RECORDED = "the run of {} recorded none: it is of an older Bootproof, or the host did not answer"


def _no_run(old: Facts, new: Facts) -> str:
    """Why what runs is not known, and how to get it; empty if it is of both."""
    lacking = [(side, facts) for side, facts in (("OLD", old), ("NEW", new)) if not facts.runtime_profile]
    return _record("no known run of {} recorded them", lacking) if lacking else ""


def _record(why: str, lacking: Sequence[tuple[str, Facts]]) -> str:
    sides = " or ".join(side for side, _ in lacking)
    commands = " and ".join(f"pytest --image {one.manifest.image} --artifacts {one.folder}" for _, one in lacking)
    return f"{why.format(sides)}; run {commands}"


def _pairs(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[str, T | None, T | None]]:
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key), new.get(key)
        if one != other:
            yield key, one, other


def _accounts(old: Facts, new: Facts, references: References) -> Iterator[Section]:
    """Users and groups of running machines, where services may have added some; else those in the images.

    Files refer to a user by its number, which is that of their owner.
    """
    if old.runtime_profile and new.runtime_profile:
        yield _numbers("users", old.runtime_profile.users, new.runtime_profile.users, references)
        yield _numbers("groups", old.runtime_profile.groups, new.runtime_profile.groups, _NO_REFERENCES)
        return
    for name, one, other in (
        ("users", old.image.users, new.image.users),
        ("groups", old.image.groups, new.image.groups),
    ):
        if unknown := _missing(f"the {name} of {{}} are not known", one, other):
            yield Section(name=name, unknown=unknown)
        else:
            yield _numbers(name, one or {}, other or {}, _NO_REFERENCES, [_AS_BUILT])


def _numbers(
    name: str, old: Mapping[str, int], new: Mapping[str, int], references: References, notes: Sequence[str] = ()
) -> Section:
    def compared(key: str, one: int | None, other: int | None) -> DiffEntry:
        weight = Weight.NOTABLE if one is None or other is None else Weight.ALARM
        referring = references.to(key) if one is not None else ()
        return entry(key, _number(one), _number(other), weight=weight, referring=referring)

    return section(name, (compared(*pair) for pair in _pairs(old, new)), notes)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _units(old: Facts, new: Facts, references: References) -> Section:
    states = [
        {name: unit.state for name, unit in facts.runtime_profile.units.items()} if facts.runtime_profile else {}
        for facts in (old, new)
    ]
    if unknown := _no_run(old, new):
        return Section(name="units", unknown=unknown)

    def compared(key: str, one: str | None, other: str | None) -> DiffEntry:
        weight = Weight.ALARM if other == "failed" else Weight.USUAL if one is None else Weight.NOTABLE
        return entry(key, one, other, weight=weight, referring=references.to(key) if other is None else ())

    return section("units", (compared(*pair) for pair in _pairs(*states)))


def _sockets(old: Facts, new: Facts) -> Section:
    """A new socket that other hosts can reach is alarming; one on the loopback is notable."""
    if not old.runtime_profile or not new.runtime_profile:
        return Section(name="sockets", unknown=_no_run(old, new))
    one, other = ({_socket(text) for text in profile.sockets} for profile in (old.runtime_profile, new.runtime_profile))
    entries = [entry(text, "", None, weight=Weight.NOTABLE) for text in one - other]
    for text in other - one:
        is_local = text.partition(" ")[2].startswith(_LOOPBACK)
        entries.append(entry(text, None, "", weight=Weight.NOTABLE if is_local else Weight.ALARM))
    return section("sockets", entries)


def _socket(text: str) -> str:
    """``text`` without its port, if the kernel chose it."""
    protocol, _, rest = text.partition(" ")
    address, _, program = rest.partition(" ")
    host, _, port = address.rpartition(":")
    is_chosen = port.isdecimal() and int(port) >= _EPHEMERAL
    return f"{protocol} {host}:(any) {program}" if is_chosen else text


def _links(old: Facts, new: Facts) -> Section:
    """A persistent path whose link changes or is removed is lost to the host, or empty."""
    name, notes = "links", list[str]()
    if old.runtime_profile and new.runtime_profile:
        one, other = old.runtime_profile.links, new.runtime_profile.links
    elif old.image.files is not None and new.image.files is not None:
        one, other = _links_to_data(old.image.files), _links_to_data(new.image.files)
        notes.append(_AS_BUILT)
    else:
        return Section(name=name, unknown=_no_run(old, new))
    weights = {path: Weight.ALARM if path in one else Weight.NOTABLE for path in one | other}
    return section(name, (entry(path, *pair, weight=weights[path]) for path, *pair in _pairs(one, other)), notes)


def _links_to_data(files: Mapping[str, TreeFile]) -> dict[str, str]:
    return {f"/{path}": file.target for path, file in files.items() if file.target.startswith("/data/")}


def _kernel(old: Facts, new: Facts) -> Section:
    """Version and arguments: an argument that both have once is changed, all others are added or removed."""
    entries = []
    versions = old.manifest.kernel_version, new.manifest.kernel_version
    if versions[0] != versions[1]:
        entries.append(entry("version", *versions, weight=Weight.NOTABLE))
    one, other = (_arguments(facts.manifest.kernel_arguments) for facts in (old, new))
    for key, before, after in _pairs(one, other):
        if before and after and len(before) == len(after) == 1:
            entries.append(entry(key, before[0], after[0], weight=Weight.NOTABLE))
            continue
        removed = [text for text in before or [] if text not in (after or [])]
        added = [text for text in after or [] if text not in (before or [])]
        entries += [entry(f"argument {text}", "", None, weight=Weight.NOTABLE) for text in removed]
        entries += [entry(f"argument {text}", None, "", weight=Weight.NOTABLE) for text in added]
    return section("kernel", entries)


def _host(old: Facts, new: Facts, references: References) -> Iterator[Section]:
    """What operators see of running hosts besides units, sockets and users."""
    sides = ("OLD", old), ("NEW", new)
    profiles = [facts.runtime_profile for _, facts in sides]
    lacking = [(side, facts) for side, facts in sides if facts.runtime_profile and not facts.runtime_profile.host]
    unknown = _no_run(old, new) or (_record(_NOT_RECORDED, lacking) if lacking else "")
    one, other = (profile.host if profile else None for profile in profiles)
    without = [
        (side, facts) for (side, facts), host in zip(sides, (one, other), strict=True) if host and not host.guests
    ]
    yield from compare_hosts(one, other, references, unknown, _record(_NOT_RECORDED, without) if without else "")


def _arguments(arguments: Iterable[str]) -> dict[str, list[str]]:
    given = defaultdict[str, list[str]](list)
    for argument in arguments:
        given[argument.partition("=")[0]].append(argument)
    return given


def _initrd(old: Facts, new: Facts) -> Iterator[Section]:
    """A removed driver may be one that a host needs to boot."""
    for name, one, other in (
        ("drivers in the initrd", old.manifest.initrd_drivers, new.manifest.initrd_drivers),
        ("dracut modules", old.manifest.dracut_modules, new.manifest.dracut_modules),
    ):
        removed = (entry(driver, "", None, weight=Weight.NOTABLE) for driver in set(one) - set(other))
        added = (entry(driver, None, "") for driver in set(other) - set(one))
        unknown = _missing(_NOT_LISTED, one, other)
        yield Section(name=name, unknown=unknown) if unknown else section(name, [*removed, *added])


def _packages(old: Facts, new: Facts) -> Section:
    one, other = old.manifest.packages, new.manifest.packages
    if unknown := _missing(_NOT_LISTED, one, other):
        return Section(name="packages", unknown=unknown)
    entries = (
        entry(name, *pair, weight=Weight.NOTABLE if pair[1] is None else Weight.USUAL)
        for name, *pair in _pairs(one, other)
    )
    return section("packages", entries)


def _sizes(old: Facts, new: Facts) -> Section:
    """Sizes of the files that are downloaded at each boot, and the memory that idle machines use."""
    sizes = [
        {"kernel": files[KERNEL], "initrd": files[INITRD], "root file system": files[facts.manifest.rootfs]}
        for facts in (old, new)
        for files in [facts.manifest.files]
    ]
    entries = [
        _growth(name, one.size_bytes / _MIB, other.size_bytes / _MIB, "MiB")
        for name, one, other in _pairs(*sizes)
        if one and other and one.size_bytes != other.size_bytes
    ]
    notes = []
    if old.runtime_profile and new.runtime_profile:
        used = old.runtime_profile.memory_mib, new.runtime_profile.memory_mib
        entries += [_growth("memory in use when idle", *used, "MiB")] if used[0] != used[1] else []
    else:
        sides = _missing("{}", old.runtime_profile, new.runtime_profile)
        notes.append(f"memory in use when idle: no known run of {sides} recorded it")
    return section("sizes", entries, notes)


def _growth(name: str, old: float, new: float, unit: str) -> DiffEntry:
    share = new / old - 1 if old else 0.0
    grown = f"{new:,.1f} {unit} ({share:+.0%})" if abs(share) >= 0.005 else f"{new:,.1f} {unit}"
    return entry(name, f"{old:,.1f} {unit}", grown, weight=Weight.NOTABLE if share > _GROWTH else Weight.USUAL)


@dataclass(frozen=True, slots=True)
class _Spread:
    """Several measurements of the same figure, in seconds."""

    seconds: tuple[float, ...]

    def __str__(self) -> str:
        low, high, count = min(self.seconds), max(self.seconds), len(self.seconds)
        return f"{median(self.seconds):.1f} s" + (f" ({low:.1f} to {high:.1f}, {count} boots)" if count > 1 else "")

    def overlaps(self, other: _Spread) -> bool:
        return min(self.seconds) <= max(other.seconds) and min(other.seconds) <= max(self.seconds)


def _boot_times(old: Facts, new: Facts) -> Section:
    """Medians of each phase on each boot path that both have; differences within the spread of boots are left out."""
    name = "boot phases"
    if not old.boots or not new.boots:
        return Section(name=name, unknown=_missing("no boot of {} is known", old.boots, new.boots))
    if not is_like(old.ran_on, new.ran_on):
        ran_on = " and ".join(facts.ran_on or "something unknown" for facts in (old, new))
        return Section(name=name, unknown=f"boots under {ran_on} cannot be compared")
    one, other = _phases(old.boots), _phases(new.boots)
    figures = [key for key in one if key in other]
    within = [key for key in figures if one[key].overlaps(other[key])]
    entries = [_slowness(key, one[key], other[key]) for key in figures if key not in within]
    notes = [f"figures within the spread of boots of one build: {len(within)}"] if within else []
    counts = f"OLD booted {len(old.boots)} times, NEW {len(new.boots)}"
    paths = sorted({boot.boot_path for boot in old.boots} ^ {boot.boot_path for boot in new.boots})
    notes += [f"boot paths that only one side booted by: {', '.join(paths)}"] if paths else []
    return section(name, entries, [*notes, counts])


def _phases(boots: Iterable[BootResult]) -> dict[str, _Spread]:
    seconds = defaultdict[str, list[float]](list)
    for boot in boots:
        for phase, took_s in boot.phases.items():
            seconds[f"{boot.boot_path}, {phase}"].append(took_s)
        seconds[f"{boot.boot_path}, until ready"].append(boot.ready_s or 0.0)
    return {key: _Spread(tuple(taken)) for key, taken in seconds.items()}


def _slowness(name: str, old: _Spread, new: _Spread) -> DiffEntry:
    is_slower = median(new.seconds) > median(old.seconds) * (1 + _GROWTH)
    return entry(name, str(old), str(new), weight=Weight.NOTABLE if is_slower else Weight.USUAL)


def _files(old: Facts, new: Facts, packages: Mapping[str, Change]) -> list[Section]:
    """The sections about files; if a root file system was not read, one that says why."""
    if old.image.files is not None and new.image.files is not None:
        return compare_files(old.image, new.image, packages)
    unread = [f"{side}: {facts.image.unread}" for side, facts in (("OLD", old), ("NEW", new)) if facts.image.unread]
    return [Section(name="files", unknown="; ".join(unread))]


def _kernel_configuration(old: Facts, new: Facts) -> Section:
    """Options that are no longer set are listed first, options that only one kernel has last."""
    name, one, other = "kernel configuration", old.image.config, new.image.config
    if one is None or other is None:
        why = "the root file system of {} has none that could be read"
        return Section(name=name, unknown=_missing(why, one, other))

    def judge(before: str | None, after: str | None) -> Weight:
        if before is None or after is None:
            return Weight.MINOR
        return Weight.NOTABLE if after == "n" else Weight.USUAL

    return section(name, (entry(key, *pair, weight=judge(*pair)) for key, *pair in _pairs(one, other)))

"""The smallest change that turns good into bad: over versions, then over what two of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.core import digest, serialization
from harness.core.errors import SpecError, UsageError
from harness.core.statistics import expected_rate
from harness.model.artifacts import INITRD, KERNEL, MANIFEST, Artifacts, Manifest, load_artifacts
from harness.replay.attempt import Case

KERNEL_PART, INITRD_PART, ROOTFS_PART = "kernel", "initrd", "root file system"
ARGUMENT, ORDER, NETWORK_FAULTS = "argument", "order of arguments", "network faults"
_HARDWARE = ("boot_path", "firmware", "cpus", "memory_mib", "nics", "clock", "has_watchdog", "has_tpm")
"""What a machine spec says of the machine; its disks are told from others by what they hold, too."""


class TryOutcome(StrEnum):
    """What a mix of good and bad showed: nothing, what the bad one shows, or something else, which tells nothing."""

    GOOD = "good"
    BAD = "bad"
    OTHER = "something else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which two cases differ, as each has it."""

    name: str
    good: str
    bad: str

    def __str__(self) -> str:
        if self.name.startswith(ARGUMENT):
            return f"{ARGUMENT} {self.good or 'none'} → {self.bad or 'none'}"
        if not self.good or not self.bad:
            return f"{self.name} {self.bad or f'without {self.good}'}"
        return f"{self.name} {self.good} → {self.bad}" if self.good != self.bad else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """How sure a result is. A bad one failed in ``failed`` of ``tried``; each of ``goods`` passed ``times`` times."""

    failed: int
    tried: int
    goods: int
    times: int

    @property
    def confidence(self) -> float:
        """That no bad one passed for a good one: its rate is taken by Laplace's rule of succession, and each good one
        could have been a bad one that passed ``times`` times by chance."""
        passes = 1 - expected_rate(self.failed, self.tried)
        return float((1 - passes**self.times) ** self.goods)


@dataclass(slots=True)
class Judge:
    """Tries a case up to ``times`` times: it is bad as soon as one try is, and good if none is.

    ``attempt`` gives the ids of what one try found. The first that BAD shows is what is looked for.
    """

    attempt: Callable[[Case], tuple[str, ...]]
    times: int
    say: Callable[[str], None]
    awaited: str = ""
    boots: int = 0
    goods: int = 0
    failed: int = 0
    tried: int = 0

    def begin(self, good: Case, bad: Case) -> None:
        """`UsageError` where there is nothing to look for, or GOOD shows it, too."""
        for _ in range(self.times):
            found = self._try(bad)
            self.tried += 1
            if found and not self.awaited:
                self.awaited = found[0]
            self.failed += self.awaited in found
        if not self.awaited:
            raise UsageError(
                f"BAD is good: nothing was found in {self.times} of {self.times}; --times {self.times * 3} for more"
            )
        self.say(f"BAD shows {self.awaited} in {self.failed} of {self.tried}")
        answer = self.judge(good, "GOOD")
        if answer is not TryOutcome.GOOD:
            raise UsageError(
                f"GOOD is not good: it shows {self.awaited if answer is TryOutcome.BAD else 'something else'}"
            )

    def judge(self, case: Case, what: str) -> TryOutcome:
        """Bad as soon as one try is, something else if one shows that, else good."""
        other = ""
        for _ in range(self.times):
            found = self._try(case)
            if self.awaited in found:
                self.say(f"{what}: {TryOutcome.BAD}")
                return TryOutcome.BAD
            other = next(iter(found), other)
        self.goods += not other
        self.say(f"{what}: {f'{TryOutcome.OTHER} ({other})' if other else TryOutcome.GOOD}")
        return TryOutcome.OTHER if other else TryOutcome.GOOD

    def _try(self, case: Case) -> tuple[str, ...]:
        self.boots += 1
        return self.attempt(case)

    @property
    def odds(self) -> Odds:
        return Odds(failed=self.failed, tried=self.tried, goods=self.goods, times=self.times)


def neighbours(count: int, judge: Callable[[int], TryOutcome]) -> tuple[int, int]:
    """The last good and the first bad of ``count`` versions, of which the first is good and the last bad.

    What shows something else is left out, as `git bisect skip` does.
    """
    good, bad, open_ = 0, count - 1, set(range(1, count - 1))
    while between := sorted(one for one in open_ if good < one < bad):
        middle = between[len(between) // 2]
        open_.remove(middle)
        answer = judge(middle)
        if answer is TryOutcome.GOOD:
            good = middle
        elif answer is TryOutcome.BAD:
            bad = middle
    return good, bad


def smallest(
    parts: Sequence[Difference], judge: Callable[[tuple[Difference, ...]], TryOutcome]
) -> tuple[Difference, ...]:
    """The fewest ``parts`` that make it bad; all of them, if no fewer do. That all do is known."""
    for count in range(1, len(parts)):
        for some in combinations(parts, count):
            if judge(some) is TryOutcome.BAD:
                return some
    return tuple(parts)


# What two cases are made of


def differences(good: Case, bad: Case) -> tuple[Difference, ...]:
    """All in which they differ, the likeliest first: pure. A test makes its own machine, whose hardware it names."""
    return (
        *_of_artifacts(good.artifacts.manifest, bad.artifacts.manifest),
        *_of_arguments(_arguments(good), _arguments(bad)),
        *_of_specs(good, bad, ("boot_path",) if bad.test else _HARDWARE),
        *(() if bad.test else _of_disks(good, bad)),
        *_of_network_faults(good.network_faults, bad.network_faults),
    )


def _of_artifacts(good: Manifest, bad: Manifest) -> Iterator[Difference]:
    names = {KERNEL_PART: (KERNEL, KERNEL), INITRD_PART: (INITRD, INITRD), ROOTFS_PART: (good.rootfs, bad.rootfs)}
    versions = {KERNEL_PART: (good.kernel_version, bad.kernel_version), ROOTFS_PART: (good.version, bad.version)}
    for part, (left, right) in names.items():
        files = good.files[left].sha256[:12], bad.files[right].sha256[:12]
        if files[0] != files[1]:
            shown = versions.get(part, files)
            shown = shown if shown[0] != shown[1] else files
            yield Difference(name=part, good=shown[0], bad=shown[1])


def _arguments(case: Case) -> tuple[str, ...]:
    return (*case.artifacts.manifest.kernel_arguments, *case.arguments)


def _of_arguments(good: Sequence[str], bad: Sequence[str]) -> Iterator[Difference]:
    """By what stands before the equals sign: ``root=a`` has become ``root=b``."""
    left, right = _by_key(good), _by_key(bad)
    parts = [
        Difference(name=f"{ARGUMENT} {key}", good=" ".join(left.get(key, ())), bad=" ".join(right.get(key, ())))
        for key in dict.fromkeys((*left, *right))
        if left.get(key) != right.get(key)
    ]
    if not parts and tuple(good) != tuple(bad):
        parts = [Difference(name=ORDER, good=" ".join(good), bad=" ".join(bad))]
    yield from parts


def _by_key(words: Sequence[str]) -> dict[str, list[str]]:
    found = dict[str, list[str]]()
    for word in words:
        found.setdefault(word.partition("=")[0], []).append(word)
    return found


def _of_network_faults(good: Sequence[str], bad: Sequence[str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*good, *bad)):
        if (name in good) != (name in bad):
            yield Difference(name=NETWORK_FAULTS, good=name if name in good else "", bad=name if name in bad else "")


def _of_specs(good: Case, bad: Case, names: Sequence[str]) -> Iterator[Difference]:
    for name in names:
        left, right = getattr(good.spec, name), getattr(bad.spec, name)
        if left != right:
            yield Difference(name=name, good=_shown(left), bad=_shown(right))


def _of_disks(good: Case, bad: Case) -> Iterator[Difference]:
    left, right = _disks(good), _disks(bad)
    if left != right:
        yield Difference(name="disks", good=_shown(left), bad=_shown(right))


def _disks(case: Case) -> tuple[str, ...]:
    """Kind and content of each."""
    held = dict(enumerate(case.disks))
    return tuple(
        f"{disk.bus} {disk.sector_bytes} {disk.role} {_content(held.get(number))}"
        for number, disk in enumerate(case.spec.disks)
    )


def _content(held: Path | None) -> str:
    return digest.of_file(held)[:12] if held else "blank"


def _shown(value: Any) -> str:
    """Short, for a line."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "none"
    plain = serialization.dump(value)
    return " ".join(map(str, plain.values())) if isinstance(plain, Mapping) else str(plain)


def mixed(good: Case, bad: Case, taken: Sequence[Difference], folder: Path) -> Case:
    """``good`` with those parts as ``bad`` has them; its artifacts, if they are neither's, are links in ``folder``.

    `SpecError` for a machine that cannot be.
    """
    names = {part.name for part in taken}
    spec = {field.name: getattr(bad.spec, field.name) for field in fields(bad.spec) if field.name in names}
    case = replace(
        good,
        artifacts=_mixed_artifacts(good, bad, taken, folder),
        arguments=(),
        network_faults=_mixed_network_faults(good, bad, taken),
        spec=replace(good.spec, **spec),
    )
    if "disks" in names:
        case = replace(case, disks=bad.disks)
    if case.spec.is_uefi != good.spec.is_uefi or "disks" in names:
        case = replace(case, variables=bad.variables)
    return case


def _mixed_network_faults(good: Case, bad: Case, taken: Sequence[Difference]) -> tuple[str, ...]:
    parts = [part for part in taken if part.name == NETWORK_FAULTS]
    gone, come = {part.good for part in parts}, {part.bad for part in parts}
    return (
        *(name for name in good.network_faults if name not in gone),
        *(name for name in bad.network_faults if name in come),
    )


def _mixed_arguments(good: Sequence[str], bad: Sequence[str], taken: Sequence[Difference]) -> tuple[str, ...]:
    """In the order of ``good``, or that of ``bad`` where all that differs is taken."""
    names = {part.name for part in taken}
    if all(part.name in names for part in _of_arguments(good, bad)):
        return tuple(bad)
    left, right = _by_key(good), _by_key(bad)
    chosen = {
        key: right.get(key, []) if f"{ARGUMENT} {key}" in names else left.get(key, [])
        for key in dict.fromkeys((*left, *right))
    }
    return tuple(word for words in chosen.values() for word in words)


def _mixed_artifacts(good: Case, bad: Case, taken: Sequence[Difference], folder: Path) -> Artifacts:
    names = {part.name for part in taken}
    left, right = good.artifacts, bad.artifacts
    kernel, initrd, rootfs = (right if name in names else left for name in (KERNEL_PART, INITRD_PART, ROOTFS_PART))
    sources = {KERNEL: kernel.kernel, INITRD: initrd.initrd, rootfs.manifest.rootfs: rootfs.rootfs}
    records = {KERNEL: kernel, INITRD: initrd, rootfs.manifest.rootfs: rootfs}
    manifest = replace(
        rootfs.manifest,
        kernel_version=kernel.manifest.kernel_version,
        kernel_arguments=_mixed_arguments(_arguments(good), _arguments(bad), taken),
        files={name: records[name].manifest.files[name] for name in sources},
        dracut_modules=initrd.manifest.dracut_modules,
        initrd_drivers=initrd.manifest.initrd_drivers,
    )
    folder.mkdir(parents=True)
    for name, path in sources.items():
        (folder / name).symlink_to(path.absolute())
    serialization.write(folder / MANIFEST, manifest)
    return load_artifacts(folder)


def narrow(good: Case, bad: Case, judge: Judge, folder: Path) -> tuple[Difference, ...]:
    """The smallest change between the two, its mixes in ``folder``."""
    parts, made = differences(good, bad), iter(range(1 << 30))
    if not parts:
        raise UsageError("GOOD and BAD differ in nothing that can be told apart")

    def try_some(some: tuple[Difference, ...]) -> TryOutcome:
        what = ", ".join(map(str, some))
        with suppress(SpecError):
            return judge.judge(mixed(good, bad, some, folder / f"mix-{next(made)}"), what)
        judge.say(f"{what}: there is no such machine")
        return TryOutcome.OTHER

    return smallest(parts, try_some)


def told(found: Sequence[Difference], judge: Judge) -> Iterator[str]:
    """The result, as lines for a person."""
    yield f"{judge.awaited} comes with: {'; '.join(map(str, found))}"
    odds = judge.odds
    tries = f"{judge.boots} tries; BAD showed it in {odds.failed} of {odds.tried}"
    if odds.times == 1:
        yield f"{tries}; if it comes and goes, --times {_TIMES} is surer"
        return
    yield f"{tries}; {odds.confidence:.0%} sure that no bad one passed for good"
    if odds.confidence < _SURE:
        yield f"for more certainty: --times {odds.times * 2}"


_SURE, _TIMES = 0.95, 5

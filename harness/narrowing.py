"""The smallest change that turns good into bad: over versions, then over what two of them are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from harness import record
from harness.artifacts import INITRD, KERNEL, MANIFEST, Artifacts, Manifest, load_artifacts
from harness.errors import SpecError, UsageError
from harness.trial import Case

KERNEL_PART, INITRD_PART, ROOTFS_PART = "kernel", "initrd", "root file system"
_NOT_HARDWARE = ("name", "number", "uuid", "accelerator", "credentials", "hardware", "disks")


class Answer(StrEnum):
    """What a mix of good and bad showed: nothing, what the bad one shows, or something else, which tells nothing."""

    GOOD = "good"
    BAD = "bad"
    OTHER = "something else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing in which two cases differ, as each has it."""

    name: str
    good: str
    bad: str

    def __str__(self) -> str:
        if not self.good or not self.bad:
            return f"{self.name} {f'without {self.good}' if self.good else f'with {self.bad}'}"
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
        """That no bad one passed for a good one: its rate is taken as (failed + 1) / (tried + 2), Laplace's rule of
        succession, and each good one could have been a bad one that passed ``times`` times by chance; 1.0 if it never
        passed and was tried just once, which says that it does not flicker as far as anybody knows."""
        if self.failed == self.tried == 1:
            return 1.0
        passes = 1 - (self.failed + 1) / (self.tried + 2)
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
        if answer is not Answer.GOOD:
            raise UsageError(f"GOOD is not good: it shows {self.awaited if answer is Answer.BAD else 'something else'}")

    def judge(self, case: Case, what: str) -> Answer:
        answer, number = Answer.GOOD, 0
        while answer is Answer.GOOD and number < self.times:
            number += 1
            found = self._try(case)
            if found:
                answer = Answer.BAD if self.awaited in found else Answer.OTHER
        self.goods += answer is Answer.GOOD
        self.say(f"{what}: {answer}{f' ({found[0]})' if answer is Answer.OTHER else ''}")
        return answer

    def _try(self, case: Case) -> tuple[str, ...]:
        self.boots += 1
        return self.attempt(case)

    @property
    def odds(self) -> Odds:
        return Odds(failed=self.failed, tried=self.tried, goods=self.goods, times=self.times)


def neighbours(count: int, judge: Callable[[int], Answer]) -> tuple[int, int]:
    """The last good and the first bad of ``count`` versions, of which the first is good and the last bad.

    What shows something else is left out, as `git bisect skip` does.
    """
    good, bad, open_ = 0, count - 1, set(range(1, count - 1))
    while between := sorted(one for one in open_ if good < one < bad):
        middle = between[len(between) // 2]
        open_.remove(middle)
        answer = judge(middle)
        if answer is Answer.GOOD:
            good = middle
        elif answer is Answer.BAD:
            bad = middle
    return good, bad


def smallest(parts: Sequence[Part], judge: Callable[[tuple[Part, ...]], Answer]) -> tuple[Part, ...]:
    """The fewest ``parts`` that make it bad; all of them, if no fewer do. That all do is known."""
    for count in range(1, len(parts)):
        for some in combinations(parts, count):
            if judge(some) is Answer.BAD:
                return some
    return tuple(parts)


# What two cases are made of


def differences(good: Case, bad: Case) -> tuple[Part, ...]:
    """All in which they differ, the likeliest first: pure."""
    return (
        *_of_artifacts(good.artifacts.manifest, bad.artifacts.manifest),
        *_of_words("argument", _arguments(good), _arguments(bad)),
        *_of_specs(good, bad),
        *_of_words("weather", good.weather, bad.weather),
    )


def _of_artifacts(good: Manifest, bad: Manifest) -> Iterator[Part]:
    names = {KERNEL_PART: (KERNEL, KERNEL), INITRD_PART: (INITRD, INITRD), ROOTFS_PART: (good.rootfs, bad.rootfs)}
    versions = {KERNEL_PART: (good.kernel_version, bad.kernel_version), ROOTFS_PART: (good.version, bad.version)}
    for part, (left, right) in names.items():
        files = good.files[left].sha256[:12], bad.files[right].sha256[:12]
        if files[0] != files[1]:
            shown = versions.get(part, files)
            shown = shown if shown[0] != shown[1] else files
            yield Part(name=part, good=shown[0], bad=shown[1])


def _arguments(case: Case) -> tuple[str, ...]:
    return (*case.artifacts.manifest.kernel_arguments, *case.arguments)


def _of_words(name: str, good: Sequence[str], bad: Sequence[str]) -> Iterator[Part]:
    for word in dict.fromkeys((*good, *bad)):
        if (word in good) != (word in bad):
            yield Part(name=name, good=word if word in good else "", bad=word if word in bad else "")


def _of_specs(good: Case, bad: Case) -> Iterator[Part]:
    for field in fields(good.spec):
        left, right = getattr(good.spec, field.name), getattr(bad.spec, field.name)
        if field.name not in _NOT_HARDWARE and left != right:
            yield Part(name=field.name, good=_shown(left), bad=_shown(right))
    if _disks(good) != _disks(bad):
        yield Part(name="disks", good=_shown(_disks(good)), bad=_shown(_disks(bad)))


def _disks(case: Case) -> tuple[Hashable, ...]:
    held = dict(enumerate(case.disks))
    return tuple(
        (disk.bus.value, disk.sector_bytes, disk.role.value, str(held.get(number) or "blank"))
        for number, disk in enumerate(case.spec.disks)
    )


def _shown(value: Any) -> str:
    """Short, for a line."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "none"
    plain = record.dump(value)
    return " ".join(map(str, plain.values())) if isinstance(plain, Mapping) else str(plain)


def mixed(good: Case, bad: Case, taken: Sequence[Part], folder: Path) -> Case:
    """``good`` with those parts as ``bad`` has them; its artifacts, if they are neither's, are links in ``folder``.

    `SpecError` for a machine that cannot be.
    """
    names = {part.name for part in taken}
    spec = {field.name: getattr(bad.spec, field.name) for field in fields(bad.spec) if field.name in names}
    case = replace(
        good,
        artifacts=_mixed_artifacts(good, bad, taken, folder),
        arguments=(),
        weather=_words(good.weather, taken, "weather"),
        spec=replace(good.spec, **spec),
    )
    if "disks" in names:
        case = replace(case, disks=bad.disks)
    if case.spec.is_uefi != good.spec.is_uefi or "disks" in names:
        case = replace(case, variables=bad.variables)
    return case


def _words(good: Sequence[str], taken: Sequence[Part], name: str) -> tuple[str, ...]:
    parts = [part for part in taken if part.name == name]
    left_out = {part.good for part in parts}
    return (*(word for word in good if word not in left_out), *(part.bad for part in parts if part.bad))


def _mixed_artifacts(good: Case, bad: Case, taken: Sequence[Part], folder: Path) -> Artifacts:
    names = {part.name for part in taken}
    left, right = good.artifacts, bad.artifacts
    kernel, initrd, rootfs = (right if name in names else left for name in (KERNEL_PART, INITRD_PART, ROOTFS_PART))
    sources = {KERNEL: kernel.kernel, INITRD: initrd.initrd, rootfs.manifest.rootfs: rootfs.rootfs}
    records = {KERNEL: kernel, INITRD: initrd, rootfs.manifest.rootfs: rootfs}
    manifest = replace(
        rootfs.manifest,
        kernel_version=kernel.manifest.kernel_version,
        kernel_arguments=_words(_arguments(good), taken, "argument"),
        files={name: records[name].manifest.files[name] for name in sources},
        dracut_modules=initrd.manifest.dracut_modules,
        initrd_drivers=initrd.manifest.initrd_drivers,
    )
    folder.mkdir(parents=True)
    for name, path in sources.items():
        (folder / name).symlink_to(path.absolute())
    record.write(folder / MANIFEST, manifest)
    return load_artifacts(folder)


def narrow(good: Case, bad: Case, judge: Judge, folder: Path) -> tuple[Part, ...]:
    """The smallest change between the two, its mixes in ``folder``."""
    parts, made = differences(good, bad), iter(range(1 << 30))

    def try_some(some: tuple[Part, ...]) -> Answer:
        what = ", ".join(map(str, some))
        with suppress(SpecError):
            return judge.judge(mixed(good, bad, some, folder / f"mix-{next(made)}"), what)
        judge.say(f"{what}: there is no such machine")
        return Answer.OTHER

    return smallest(parts, try_some)


def told(found: Sequence[Part], judge: Judge) -> Iterator[str]:
    """The result, as lines for a person."""
    yield f"{judge.awaited} comes with: {'; '.join(map(str, found))}"
    odds = judge.odds
    flicker = f"BAD showed it in {odds.failed} of {odds.tried}"
    yield f"{judge.boots} tries; {flicker}; {odds.confidence:.0%} sure that no bad one passed for good"
    if odds.confidence < _SURE:
        more = math.ceil(odds.times * 2)
        yield f"for more certainty: --times {more}"


_SURE = 0.95

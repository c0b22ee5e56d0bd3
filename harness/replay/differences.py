"""What differs between two cases, and mixes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.core import digest, serialization
from harness.model.artifacts import INITRD, KERNEL, MANIFEST, Artifacts, Manifest, load_artifacts
from harness.replay.case import Case

KERNEL_PART, INITRD_PART, ROOTFS_PART = "kernel", "initrd", "root file system"
ARGUMENT, ORDER, NETWORK_FAULTS = "argument", "order of arguments", "network faults"
_HARDWARE = ("boot_path", "firmware", "cpus", "memory_mib", "nics", "clock", "has_watchdog", "has_tpm")
"""The fields of a machine spec that are compared one by one. Disks are compared with their contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference between two cases, with the value of each; an empty value means that the case has none."""

    name: str
    good: str
    bad: str

    def __str__(self) -> str:
        if self.name.startswith(ARGUMENT):
            return f"{ARGUMENT} {self.good or 'none'} → {self.bad or 'none'}"
        if not self.good or not self.bad:
            return f"{self.name} {self.bad or f'without {self.good}'}"
        return f"{self.name} {self.good} → {self.bad}" if self.good != self.bad else self.name


def differences(good: Case, bad: Case) -> tuple[Difference, ...]:
    """All differences, the most likely causes first. A test makes its own machine, so its hardware is not compared."""
    return (
        *_of_artifacts(good.artifacts.manifest, bad.artifacts.manifest),
        *_of_arguments(good.kernel_arguments, bad.kernel_arguments),
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


def _of_arguments(good: Sequence[str], bad: Sequence[str]) -> Iterator[Difference]:
    """By the key before the equals sign, so ``root=a`` and ``root=b`` are one difference; else the order."""
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
    found: dict[str, list[str]] = {}
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
            yield Difference(name=name, good=_short(left), bad=_short(right))


def _of_disks(good: Case, bad: Case) -> Iterator[Difference]:
    left, right = _disks(good), _disks(bad)
    if left != right:
        yield Difference(name="disks", good=_short(left), bad=_short(right))


def _disks(case: Case) -> tuple[str, ...]:
    """Bus, sector size, role and content of each disk."""
    return tuple(
        f"{disk.bus} {disk.sector_bytes} {disk.role} {digest.of_file(content)[:12] if content else 'blank'}"
        for disk, content in zip(case.spec.disks, case.contents, strict=True)
    )


def _short(value: Any) -> str:
    """A short form for one line."""
    if isinstance(value, tuple):
        return ", ".join(map(_short, value)) or "none"
    plain = serialization.dump(value)
    return " ".join(map(str, plain.values())) if isinstance(plain, Mapping) else str(plain)


def mixed(good: Case, bad: Case, taken: Sequence[Difference], folder: Path) -> Case:
    """``good`` with the ``taken`` parts of ``bad``. Its artifacts are symlinks in ``folder``.

    `SpecError` if there can be no such machine.
    """
    names = {part.name for part in taken}
    spec = {field.name: getattr(bad.spec, field.name) for field in fields(bad.spec) if field.name in names}
    case = replace(
        good,
        artifacts=_mixed_artifacts(good, bad, taken, folder),
        arguments=(),
        network_faults=_mixed_network_faults(good, bad, taken),
        spec=replace(good.spec, **spec),
        disks=bad.disks if "disks" in names else good.disks,
    )
    if case.spec.is_uefi != good.spec.is_uefi or "disks" in names:
        case = replace(case, variables=bad.variables)
    return case


def _mixed_network_faults(good: Case, bad: Case, taken: Sequence[Difference]) -> tuple[str, ...]:
    parts = [part for part in taken if part.name == NETWORK_FAULTS]
    removed, added = {part.good for part in parts}, {part.bad for part in parts}
    return (
        *(name for name in good.network_faults if name not in removed),
        *(name for name in bad.network_faults if name in added),
    )


def _mixed_arguments(good: Sequence[str], bad: Sequence[str], taken: Sequence[Difference]) -> tuple[str, ...]:
    """In the order of ``good``, or in that of ``bad`` if all differences are taken."""
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
        kernel_arguments=_mixed_arguments(good.kernel_arguments, bad.kernel_arguments, taken),
        files={name: records[name].manifest.files[name] for name in sources},
        dracut_modules=initrd.manifest.dracut_modules,
        initrd_drivers=initrd.manifest.initrd_drivers,
    )
    folder.mkdir(parents=True)
    for name, path in sources.items():
        (folder / name).symlink_to(path.absolute())
    serialization.write(folder / MANIFEST, manifest)
    return load_artifacts(folder)

"""Compares the files of two root file systems, with weights. Pure: nothing is read here.

Files of a package whose version changed are counted for the package, and files of an added or removed folder for the
folder. Files of added or removed packages, caches, logs and differences in time alone are left out and counted in a
note. A file that gained setuid or setgid is always shown.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import PurePosixPath

from harness.diff.contents import Image
from harness.diff.value import Change, DiffEntry, Section, Weight, entry, section
from harness.packages import DATABASES
from harness.store.squashfs_tree import TreeFile

_CACHES = re.compile(
    r"(.*/)?__pycache__(/.*)?|.*\.pyc"
    r"|(var/(cache|log|tmp|backups)|tmp|run)/.*"
    r"|var/lib/(systemd/catalog|man-db)/.*"
    r"|etc/ld\.so\.cache|etc/udev/hwdb\.bin|usr/lib/udev/hwdb\.bin"
    r"|usr/lib/modules/[^/]+/modules\..*"
    r"|.*/(icon-theme|mime|giomodule|gschemas)\.(cache|compiled)|usr/share/info/dir|"
    + "|".join(database.caches for database in DATABASES)
)
_MADE_BY_SCRIPTS = re.compile(r"etc/(alternatives|ssl/certs|rc[S0-6]\.d)/")
"""Links that maintainer scripts of packages make."""
_SETID = 0o6000

Pair = tuple[TreeFile | None, TreeFile | None]


def compare_files(old: Image, new: Image, packages: Mapping[str, Change]) -> list[Section]:
    """Two sections: files of no package, and files of packages.

    ``packages`` maps each package that was added, removed or changed its version to that change.
    """
    assert old.files is not None
    assert new.files is not None
    differing, times_only = _differing(old.files, new.files)
    owners = {path: new.owners.get(path) or old.owners.get(path, "") for path in differing}
    setid = {path for path, pair in differing.items() if _gains_setid(*pair)}
    caches = {path for path in differing if _CACHES.fullmatch(path)} - setid
    expected = {path for path, pair in differing.items() if owners[path] in packages and _is_expected(path, *pair)}
    expected -= caches | setid
    counted = {path for path in expected if packages[owners[path]] is Change.CHANGED}
    aside = caches | expected
    shown = {path: pair for path, pair in differing.items() if path not in aside}
    entries = [*_folded(shown, owners, old.files, new.files, setid), *_by_package(counted, owners, differing)]
    caches_and_times = {
        "caches, logs and databases of packages": len(caches),
        "files of which only the time differs": times_only,
    }
    of_packages = {"files of added or removed packages": len(expected - counted)}
    return [
        section("files of no package", (entry for entry in entries if not entry.package), _notes(caches_and_times)),
        section("files of packages", (entry for entry in entries if entry.package), _notes(of_packages)),
    ]


def _differing(old: Mapping[str, TreeFile], new: Mapping[str, TreeFile]) -> tuple[dict[str, Pair], int]:
    """The files that differ, and the number of those that differ only in time."""
    differing, times_only = dict[str, Pair](), 0
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one == other:
            continue
        if one and other and _describe(one, other) == ("", ""):
            times_only += 1
        else:
            differing[path] = one, other
    return differing, times_only


def _gains_setid(old: TreeFile | None, new: TreeFile | None) -> bool:
    """Whether a regular file gained setuid or setgid. (On a folder these bits are harmless.)"""
    return new is not None and new.kind == "file" and bool(new.mode & ~(old.mode if old else 0) & _SETID)


def _is_expected(path: str, old: TreeFile | None, new: TreeFile | None) -> bool:
    """Whether a new version explains the difference: new contents do, not new owners, modes or configuration."""
    if old is None or new is None:
        return True
    return (old.kind, old.mode, old.uid, old.gid) == (new.kind, new.mode, new.uid, new.gid) and path[:4] != "etc/"


def _folded(
    shown: Mapping[str, Pair],
    owners: Mapping[str, str],
    old: Mapping[str, TreeFile],
    new: Mapping[str, TreeFile],
    setid: Set[str],
) -> Iterator[DiffEntry]:
    """An entry for each file, or for the topmost folder that was added or removed with it."""
    inside = defaultdict[tuple[str, str], list[str]](list)
    for path, (one, other) in shown.items():
        there = old if one is None else new
        top = path if (one and other) or path in setid else _topmost(path, there)
        inside[top, owners[path]].append(path)
    for (top, owner), paths in inside.items():
        if paths == [top]:
            yield _entry(top, *shown[top], owner, gains_setid=top in setid)
            continue
        files = sum(not _is_folder(shown[path]) for path in paths)
        text = f"{files:,} file{'s' if files > 1 else ''}" if files else "folders only"
        is_new = shown[paths[0]][0] is None
        yield entry(f"{top}/", None if is_new else text, text if is_new else None, weight=_weight(top), package=owner)


def _topmost(path: str, there: Mapping[str, TreeFile]) -> str:
    """The topmost folder of ``path`` that is not in ``there``; ``path`` itself if all are."""
    parents = [str(parent) for parent in PurePosixPath(path).parents][-2::-1]
    return next((parent for parent in parents if parent not in there), path)


def _is_folder(pair: Pair) -> bool:
    return all(file is None or file.kind == "folder" for file in pair)


def _entry(path: str, old: TreeFile | None, new: TreeFile | None, owner: str, *, gains_setid: bool) -> DiffEntry:
    texts: tuple[str | None, str | None] = _what(old) if old else None, _what(new) if new else None
    if old and new:
        texts = _describe(old, new)
    return entry(path, *texts, weight=_weight(path, old, new, gains_setid=gains_setid), package=owner)


def _weight(
    path: str, old: TreeFile | None = None, new: TreeFile | None = None, *, gains_setid: bool = False
) -> Weight:
    if gains_setid:
        return Weight.ALARM
    if old and new and (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid):
        return Weight.NOTABLE
    if _MADE_BY_SCRIPTS.match(path):
        return Weight.MINOR
    return Weight.NOTABLE if path.startswith("etc/") else Weight.USUAL


def _describe(old: TreeFile, new: TreeFile) -> tuple[str, str]:
    """The attributes in which two files differ, in the same words; times are ignored."""
    pairs = [(_kind(old), _kind(new)), (f"owner {old.uid}:{old.gid}", f"owner {new.uid}:{new.gid}")]
    if old.kind == new.kind:
        pairs.append((f"mode {old.mode:04o}", f"mode {new.mode:04o}"))
        pairs.append((f"{old.size_bytes:,} bytes", f"{new.size_bytes:,} bytes"))
        if old.size_bytes == new.size_bytes:
            pairs.append((f"content {old.content[:8]}", f"content {new.content[:8]}"))
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return ", ".join(one for one, _ in differing), ", ".join(other for _, other in differing)


def _kind(file: TreeFile) -> str:
    return f"{file.kind} to {file.target}" if file.kind == "link" else " ".join(filter(None, [file.kind, file.target]))


def _what(file: TreeFile) -> str:
    if file.kind != "file":
        return _kind(file)
    return f"{file.size_bytes:,} bytes" + (f", mode {file.mode:04o}" if file.mode & _SETID else "")


def _by_package(paths: Set[str], owners: Mapping[str, str], differing: Mapping[str, Pair]) -> Iterator[DiffEntry]:
    counts = defaultdict[str, Counter[Change]](Counter)
    for path in paths:
        one, other = differing[path]
        if not _is_folder((one, other)):
            counts[owners[path]][Change.ADDED if not one else Change.REMOVED if not other else Change.CHANGED] += 1
    for package, counted in counts.items():
        text = ", ".join(f"{counted[change]:,} {change}" for change in Change if counted[change])
        yield entry(package, "", text, package=package, weight=Weight.MINOR)


def _notes(left_out: Mapping[str, int]) -> list[str]:
    return [f"left out: {what}, {count:,}" for what, count in left_out.items() if count]

"""What systemd reads at boot besides units: tmpfiles.d(5), sysusers.d(5), sysctl.d(5), modules-load.d(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.known import known
from harness.lint.tree import Tree

Findings = Iterator[LintFinding]


def names_in(tree: Tree, path: str) -> set[str]:
    return {line.partition(":")[0] for line in (tree.text(path) or "").splitlines()}


def effective(tree: Tree, name: str) -> list[str]:
    """The files of a folder such as tmpfiles.d that count: /etc before /usr, by name."""
    found = dict[str, str]()
    for folder in (f"etc/{name}", f"usr/local/lib/{name}", f"usr/lib/{name}", f"lib/{name}"):
        for path in tree.inside(folder):
            if path.endswith(".conf"):
                found.setdefault(path.rpartition("/")[2], path)
    return [found[base] for base in sorted(found)]


def rows(tree: Tree, path: str) -> Iterator[list[str]]:
    for line in (tree.text(path) or "").splitlines():
        words = line.split()
        if words and not words[0].startswith(("#", ";")):
            yield words


def tmpfiles(image: Image) -> Findings:
    """Two files that make one path differently, and owners that do not exist."""
    tree = image.root
    users, groups = names_in(tree, "etc/passwd"), names_in(tree, "etc/group")
    made = [words for path in effective(tree, "sysusers.d") for words in rows(tree, path)]
    users |= {words[1] for words in made if words[0].startswith("u") and len(words) > 1}
    groups |= {words[1] for words in made if words[0][0] in "ug" and len(words) > 1}
    seen = dict[str, tuple[str, list[str]]]()
    for path in effective(tree, "tmpfiles.d"):
        for words in rows(tree, path):
            if (wrong := _is_no_line(words, _TMPFILES)) and not image.is_original(path):
                what = f"systemd-tmpfiles does not know a line: {wrong}"
                yield fails("tmpfiles-conflict", path, what, " ".join(words))
            if len(words) < 2:
                continue
            kind, name = words[0], words[1].rstrip("/")
            for word, names, what in ((words[3:4], users, "user"), (words[4:5], groups, "group")):
                owner = word[0].lstrip(":!") if word else "-"
                if (
                    owner not in ("-", "")
                    and not owner.isdecimal()
                    and owner not in names
                    and "%" not in owner
                    and not image.is_original(path)
                ):
                    yield fails("tmpfiles-conflict", path, f"{name}: there is no {what} {owner}", " ".join(words))
            if kind[0] not in "fdDLpqQvcb" or kind.endswith("-"):
                continue
            first, its = seen.setdefault(name, (path, words))
            is_same = (its[0][0], *its[2:5]) == (kind[0], *words[2:5])
            if first == path or is_same or (image.is_original(path) and image.is_original(first)):
                continue
            own, other = (first, path) if image.is_original(path) else (path, first)
            what = f"{name} is made differently in /{other}; what is in /{first} counts"
            yield warns("tmpfiles-conflict", own, what, " ".join(its), " ".join(words))


_TMPFILES = "fFwdDevqQpLcbCxXrRztThHaAZ"
_SYSUSERS = "ugmr"
"""The first letters of lines: tmpfiles.d(5), sysusers.d(5)."""


def _is_no_line(words: list[str], letters: str) -> str:
    """What is wrong with the first two words of a line; empty if nothing is."""
    kind = words[0].strip("\"'")
    if not re.fullmatch(rf"[{letters}][+!=~^$-]*", kind):
        return f"there is no type {words[0]}"
    if len(words) < 2:
        return "it has one word"
    if letters == _TMPFILES and not words[1].startswith(("/", "%", '"/', "'/")):
        return f"the path {words[1]} is not absolute"
    return ""


def sysusers(image: Image) -> Findings:
    """Two names with one number, or a number that passwd(5) gives to another name."""
    tree = image.root
    given = {kind: {row[0]: row[2] for line in (tree.text(file) or "").splitlines() if len(row := line.split(":")) > 2}
             for kind, file in (("u", "etc/passwd"), ("g", "etc/group"))}  # fmt: skip
    seen = dict[tuple[str, str], tuple[str, str]]()
    for path in effective(tree, "sysusers.d"):
        for words in rows(tree, path):
            if (wrong := _is_no_line(words, _SYSUSERS)) and not image.is_original(path):
                what = f"systemd-sysusers does not know a line: {wrong}"
                yield fails("sysusers-conflict", path, what, " ".join(words))
            if len(words) < 2:
                continue
            kind, number = words[0].rstrip("!"), (words[2].partition(":")[0] if len(words) > 2 else "-")
            if kind not in given or not number.isdecimal():
                continue
            name = words[1]
            has = given[kind].get(name)
            holder = next((other for other, value in given[kind].items() if value == number and other != name), None)
            if (has and has != number) or (holder and not has):
                what = f"{name} shall have the number {number}, " + (f"and has {has}" if has else f"which {holder} has")
                yield warns("sysusers-conflict", path, what, " ".join(words))
            other, file = seen.setdefault((kind, number), (name, path))
            if other != name and not (image.is_original(path) and image.is_original(file)):
                yield warns(
                    "sysusers-conflict", path, f"{name} has the number {number} of {other} in /{file}", " ".join(words)
                )


_MODULE_OF_SETTING: Mapping[str, str] = known("module_of_setting")


def _has_module(image: Image, name: str) -> bool | None:
    """Whether the kernel has the module, built in or as a file; None if that is unknown."""
    folder = image.root.resolve(f"lib/modules/{image.manifest.kernel_version}")
    listed = [image.root.text(f"{folder}/{index}") if folder else None for index in ("modules.dep", "modules.builtin")]
    if listed[0] is None:
        return None
    names = (
        re.fullmatch(r"(?:[^:]*/)?([^/:]+)\.ko\b.*", line) for text in listed if text for line in text.splitlines()
    )
    return name.replace("-", "_") in {found[1].replace("-", "_") for found in names if found}


def _loaded_at_boot(image: Image) -> dict[str, str]:
    files = [*effective(image.root, "modules-load.d"), "etc/modules"]
    return {words[0]: path for path in files for words in rows(image.root, path)}


def modules_to_load(image: Image) -> Findings:
    """modules-load.d(5) names modules that are there: systemd-modules-load.service fails otherwise."""
    for name, path in _loaded_at_boot(image).items():
        if _has_module(image, name) is False:
            yield fails("module-to-load-missing", path, f"the kernel has no module {name}", name)


def sysctl(image: Image) -> Findings:
    """Settings of modules that are not there, or that nothing loads before they are set."""
    loaded = {name.replace("-", "_") for name in _loaded_at_boot(image)}
    for path in [*effective(image.root, "sysctl.d"), "etc/sysctl.conf"]:
        if image.is_original(path):
            continue
        for line in (image.root.text(path) or "").splitlines():
            key, equals, _ = line.partition("=")
            key = key.strip().lstrip("-").replace("/", ".")
            if not equals or key.startswith(("#", ";")):
                continue
            module = next((module for pattern, module in _MODULE_OF_SETTING.items() if fnmatchcase(key, pattern)), None)
            if module and _has_module(image, module) is False:
                yield fails(
                    "sysctl-without-module",
                    path,
                    f"{key} is a setting of the module {module}, which the kernel lacks",
                    line,
                )
            elif module and module not in loaded and not _is_built_in(image, module):
                yield warns(
                    "sysctl-without-module",
                    path,
                    f"{key} is a setting of the module {module}, which nothing loads before",
                    line,
                )


def _is_built_in(image: Image, name: str) -> bool:
    text = image.root.text(f"lib/modules/{image.manifest.kernel_version}/modules.builtin") or ""
    return f"/{name}.ko" in text or f"/{name.replace('_', '-')}.ko" in text


BY_NAMES = ()
BY_TEXTS = (tmpfiles, sysusers, modules_to_load, sysctl)
BY_CONTENTS = ()

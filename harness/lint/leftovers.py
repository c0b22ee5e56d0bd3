"""What the builder left behind: identities, names, settings and traces of the machine that built the image."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core import serialization
from harness.lint.finding import LintFinding, fails, warns
from harness.lint.image import Image
from harness.lint.tree import Tree

_FILE = Path(__file__).with_name("leftovers.toml")
_LINE_CHARACTERS = 1000
"""Of longer lines, which no person wrote, the rest is not searched."""
_DEFAULTS = "usr/share/persist/"
_RESOLVERS = {  # the folder in /run of a link from /etc/resolv.conf: the program that fills it
    "run/systemd/resolve": "usr/lib/systemd/systemd-resolved", "run/NetworkManager": "usr/sbin/NetworkManager",
    "run/resolvconf": "usr/sbin/resolvconf", "run/connman": "usr/sbin/connmand", "run/dhcpcd": "usr/sbin/dhcpcd",
}  # fmt: skip
_UTC = re.compile(r".*/(Etc/)?(UTC|UCT|Universal|Zulu|GMT|Greenwich)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row of ``leftovers.toml``, which says what the fields mean."""

    id: str
    path: str
    what: str
    text: str = ""
    warns: bool = False
    original: bool = False
    empty: bool = False
    root: bool = False


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    path: re.Pattern[str]
    text: re.Pattern[str]


@cache
def rules() -> tuple[_Compiled, ...]:
    with _FILE.open("rb") as file:
        rows = [serialization.load(Rule, row) for row in tomllib.load(file)["rule"]]
    return tuple(_Compiled(row, re.compile(row.path, re.DOTALL), re.compile(row.text, re.MULTILINE)) for row in rows)


def files(image: Image) -> Iterator[LintFinding]:
    """The rules of ``leftovers.toml``, over all files."""
    anything = re.compile("|".join(f"(?:{one.rule.path})" for one in rules()), re.DOTALL)
    for tree in image.trees:
        for path, file in tree.files.items():
            name = path.removeprefix(_DEFAULTS)
            if file.kind == "file" and anything.fullmatch(name):
                is_original = tree is image.root and image.may_be_original(path)
                for one in rules():
                    is_exempt = (is_original and not one.rule.original) or (tree.place and one.rule.root)
                    if one.path.fullmatch(name) and not is_exempt:
                        yield from _apply(one, tree, path)


def _apply(one: _Compiled, tree: Tree, path: str) -> Iterator[LintFinding]:
    rule, evidence = one.rule, list[str]()
    if not (tree.files[path].size_bytes or rule.empty):
        return
    if rule.text:
        text = tree.texts.get(path, b"").decode("utf-8", "replace")
        evidence = [line for line in text.splitlines() if one.text.search(line[:_LINE_CHARACTERS])]
        if not evidence:
            return
    hides = rule.id in ("builder-credentials", "builder-identity")
    shown = ["(the line is not shown: it may hold a secret)"] if hides and evidence else evidence
    yield (warns if rule.warns else fails)(rule.id, tree.named(path), rule.what, *shown)


def resolver(image: Image) -> Iterator[LintFinding]:
    """/etc/resolv.conf is a link to the file of a resolver that is in the image."""
    tree, path = image.root, "etc/resolv.conf"
    file = tree.files.get(path)
    if file is None:
        yield warns("builder-dns", path, "it is missing: names are resolved by a server on this machine only")
        return
    target = tree.find(path)
    if target and target.kind == "file":
        if servers := _servers(tree):
            yield fails("builder-dns", path, "it has the servers of the build", *servers)
        if target.mode != 0o644:
            yield fails("builder-dns", path, f"its mode is {target.mode:04o}, with which not every service reads it")
    elif target:
        yield fails("builder-dns", path, f"it is, or leads to, a {target.kind}")
    elif file.kind == "link" and tree.find(path) is None:
        place = re.sub(r"^(\.\./)+|^/", "", file.target)
        program = next((program for folder, program in _RESOLVERS.items() if place.startswith(f"{folder}/")), None)
        if program is None:
            yield fails("builder-dns", path, f"it leads to {file.target}, which nothing makes")
        elif tree.find(program) is None:
            yield fails(
                "builder-dns",
                path,
                f"it leads to {file.target}, and {program.rpartition('/')[2]}, which makes it, is not in the image",
            )


def _servers(tree: Tree) -> list[str]:
    lines = (tree.text("etc/resolv.conf") or "").splitlines()
    return [line for line in lines if re.match(r"\s*(nameserver|search|domain)\s", line)]


def resolver_of_initrd(image: Image) -> Iterator[LintFinding]:
    """The initrd gets its name servers by DHCP."""
    if image.initrd and (servers := _servers(image.initrd)):
        yield fails("builder-dns", image.initrd.named("etc/resolv.conf"), "it has the servers of the build", *servers)


def time_zone(image: Image) -> Iterator[LintFinding]:
    file = image.root.files.get("etc/localtime")
    if file is None:
        return
    if file.kind == "link" and image.root.find("etc/localtime") is None:
        yield fails("clock-not-utc", "etc/localtime", f"it leads to {file.target}, which is not there")
    elif file.kind == "link" and not _UTC.fullmatch(file.target):
        yield warns(
            "clock-not-utc", "etc/localtime", f"the time zone is {file.target.partition('zoneinfo/')[2] or file.target}"
        )


def core_files(image: Image) -> Iterator[LintFinding]:
    """Memory dumps under any name."""
    for tree in image.trees:
        for path, program in tree.programs.items():
            if program.is_core:
                yield fails("core-file", tree.named(path), "a memory dump of a program: it may hold secrets")


def copied_time_zone(image: Image) -> Iterator[LintFinding]:
    """The last line of a file of tzfile(5) is the rule for times to come: "UTC0"."""
    lines = image.root.texts.get("etc/localtime", b"").rstrip(b"\n").rsplit(b"\n", 1)
    rule = lines[-1].decode("ascii", "replace")
    if len(lines) > 1 and rule not in ("UTC0", "GMT0", "<+00>0"):
        yield warns("clock-not-utc", "etc/localtime", "the time zone is not UTC", rule)


BY_NAMES = (time_zone,)
BY_TEXTS = (files, resolver, copied_time_zone)
BY_CONTENTS = (files, resolver_of_initrd, core_files)

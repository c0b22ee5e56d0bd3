"""Reads goss files, as goss 0.4 has them: docs/gossfile.md there. Each mistake is a `DefinitionError`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.config_file import suggestion
from harness.core.errors import DefinitionError, UsageError
from harness.model.goss_matchers import problem_of, problem_of_patterns
from harness.model.rules import GossResource

_MOST_BYTES = 1 << 20
_COMMON = ("title", "meta", "skip")
_MODE = re.compile(r"[0-7]{4}")
_PATH = re.compile(r"/[^\x00-\x1f\x7f]*")
_UNIT = re.compile(r"[\w:.\\@-]+")
_PORT = re.compile(r"((tcp|udp)6?:)?[1-9]\d{0,4}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_SYSCTL = re.compile(r"[\w.:@/-]+")
_ANYTHING = re.compile(r".+", re.DOTALL)
_MOST_TIMEOUT_S = 600.0
_TEXT_KINDS = ("contents", "contains", "stdout", "stderr")
"""Attributes that are a text: a list is of patterns for its lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of resource. ``about`` is the attribute that replaces the key, ``rule`` what it must be, ``example`` one.
    ``first`` says whether the thing exists, and is required if it is not among ``others``."""

    about: str
    rule: re.Pattern[str]
    example: str
    first: str
    others: tuple[str, ...] = ()
    is_required: bool = True
    has_timeout: bool = False


_KINDS = {
    "file": _Kind(
        about="path", rule=_PATH, example="/etc/passwd", first="exists",
        others=("mode", "owner", "uid", "group", "gid", "filetype", "linked-to", "size", "contents", "contains", "md5",
                "sha256", "sha512"),
    ),
    "service": _Kind(about="name", rule=_UNIT, example="ssh", first="enabled", others=("running",), is_required=False),
    "port": _Kind(about="port", rule=_PORT, example="tcp:22", first="listening", others=("ip",)),
    "package": _Kind(about="name", rule=_NAME, example="openssh-server", first="installed", others=("versions",)),
    "command": _Kind(
        about="exec", rule=_ANYTHING, example="uname -r", first="exit-status", others=("stdout", "stderr"),
        has_timeout=True,
    ),
    "user": _Kind(
        about="username", rule=_NAME, example="nova", first="exists", others=("uid", "gid", "groups", "home", "shell")
    ),
    "group": _Kind(about="groupname", rule=_NAME, example="kvm", first="exists", others=("gid",)),
    "mount": _Kind(
        about="mountpoint", rule=_PATH, example="/data", first="exists",
        others=("opts", "vfs-opts", "source", "filesystem", "usage"), has_timeout=True,
    ),
    "kernel-param": _Kind(about="name", rule=_SYSCTL, example="net.ipv4.ip_forward", first="value"),
    "process": _Kind(about="comm", rule=_NAME, example="sshd", first="running"),
    "matching": _Kind(about="", rule=_ANYTHING, example="", first="matches", others=("content", "as-reader")),
}  # fmt: skip
_ELSEWHERE = {
    "gossfile": "name each file in expect.goss",
    "addr": "what a lab's network has says nothing about yours; remove it, or write it as a [[check]]",
    "dns": "what a lab's network has says nothing about yours; remove it, or write it as a [[check]]",
    "http": "ask the service on the host itself with a [[check]], for example by curl",
    "interface": "names and addresses are the lab's; the check host looks at interfaces",
}


def read_goss(file: Path, name: str) -> tuple[GossResource, ...]:
    """The resources in ``file``, which the definition calls ``name``; `DefinitionError` says which key is wrong."""
    top = _parsed(file)
    return tuple(resource for kind, table in top.items() for resource in _resources(file, name, str(kind), table))


def _parsed(file: Path) -> dict[Any, Any]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise _error(file, "syntax", f"it has more than {_MOST_BYTES >> 20} MiB", "a goss file is a list of rules")
    if b"{{" in content:
        line = content[: content.index(b"{{")].count(b"\n") + 1
        remedy = "let goss render it: goss --vars VARS render >goss.yaml"
        raise _error(file, f"line {line}", "is a template, which is not rendered", remedy)
    top = _loaded(file, content)
    if not isinstance(top, dict) or not top:
        raise _error(file, "syntax", "has no resources", "for example file: {/etc/passwd: {exists: true}}")
    return top


def _loaded(file: Path, content: bytes) -> Any:
    import yaml  # takes 50 ms, and most definitions have no goss file

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
        """Refuses a key that is given twice, of which YAML's readers take the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = list[Any]()
            for key, _ in node.value:
                if (name := self.construct_object(key, deep=True)) in seen:
                    line = key.start_mark.line + 1
                    raise _error(file, f"line {line}", f"{name} is given twice", "put both below one of them")
                seen.append(name)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(content, Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _error(file, "syntax", f"{line}{error.problem}", "see yaml.org") from error
    except (yaml.YAMLError, TypeError, RecursionError) as error:  # a list as a key; text that is nested for ever
        raise _error(file, "syntax", " ".join(str(error).split()), "see yaml.org") from error


def _error(file: Path, key: str, problem: str, remedy: str) -> DefinitionError:
    return DefinitionError(str(file), key, problem, remedy)


def _resources(file: Path, name: str, kind: str, table: Any) -> Iterator[GossResource]:
    if kind not in _KINDS:
        remedy = _ELSEWHERE.get(kind) or suggestion(kind, _KINDS)
        raise _error(file, kind, "is not a kind of resource that Bootproof asks a host about", remedy)
    if not isinstance(table, dict):
        raise _error(file, kind, f"{table!r:.80} is not a mapping", f"write {kind}: with names and attributes below")
    for key, attributes in table.items():
        yield _resource(file, name, kind, str(key), attributes)


def _resource(file: Path, name: str, kind: str, key: str, attributes: Any) -> GossResource:
    known, where = _KINDS[kind], f"{kind}.{key}"
    if not isinstance(attributes, dict):
        raise _error(file, where, f"{attributes!r:.80} is not a mapping", f"for example {known.first}: true")
    own = tuple(filter(None, (known.about, known.first, *known.others, *(["timeout"] if known.has_timeout else []))))
    for attribute in attributes:
        if attribute not in (*own, *_COMMON):
            problem = f"is not an attribute of a {kind} that Bootproof has"
            raise _error(file, f"{where}.{attribute}", problem, suggestion(str(attribute), (*own, *_COMMON)))
    if not isinstance(attributes.get("skip", False), bool):
        raise _error(file, f"{where}.skip", f"{attributes['skip']!r:.80} is not valid", "write true or false")
    wanted = _wanted(file, where, known, attributes)
    about = _about(file, where, known, key, attributes)
    return GossResource(
        file=name,
        kind=kind,
        key=key,
        about=about,
        wanted=wanted,
        title=str(attributes.get("title") or ""),
        skip=attributes.get("skip", False),
        timeout_s=_timeout_s(file, where, attributes) if known.has_timeout else 10.0,
    )


def _about(file: Path, where: str, kind: _Kind, key: str, attributes: Mapping[str, Any]) -> str:
    value = attributes.get(kind.about, key) if kind.about else key
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not kind.rule.fullmatch(text):
        raise _error(file, where, f"{text!r} is not valid", f"for example {kind.example}")
    return text


def _timeout_s(file: Path, where: str, attributes: Mapping[str, Any]) -> float:
    """In the file it is in milliseconds; goss's own default is 10 s."""
    value = attributes.get("timeout", 10_000)
    if type(value) is not int or not 0 <= value <= _MOST_TIMEOUT_S * 1000:
        problem = f"{value!r:.80} is not valid"
        raise _error(file, f"{where}.timeout", problem, f"in milliseconds, up to {_MOST_TIMEOUT_S * 1000:.0f}")
    return (value or 10_000) / 1000


def _wanted(file: Path, where: str, kind: _Kind, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The matchers, the first attribute first; those that demand nothing are left out, as goss does."""
    if kind.is_required and attributes.get(kind.first) is None:
        raise _error(file, f"{where}.{kind.first}", "is missing", f"for example {kind.first}: {_example(kind.first)}")
    wanted = dict[str, Any]()
    for attribute in (kind.first, *kind.others):
        value = attributes.get(attribute)
        if value is None or (attribute in _TEXT_KINDS and value == []):
            continue
        if problem := _problem(attribute, value):
            raise _error(file, f"{where}.{attribute}", problem, f"for example {attribute}: {_example(attribute)}")
        wanted[attribute] = value
    if not wanted:
        raise _error(file, where, "demands nothing", f"for example {kind.first}: {_example(kind.first)}")
    return wanted


def _problem(attribute: str, value: Any) -> str:
    if attribute == "mode" and (type(value) is int or (isinstance(value, str) and not _MODE.fullmatch(value))):
        return f"{value!r} is not a mode; write four digits in quotes"
    if attribute == "content":
        return _problem_of_content(value)
    if attribute in _TEXT_KINDS and isinstance(value, list):
        return problem_of_patterns(value)
    return problem_of(value)


def _problem_of_content(value: Any) -> str:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return "has a value that is neither text nor a number, such as a date; write it in quotes"
    return ""


def _example(attribute: str) -> str:
    examples = {
        "mode": '"0644"', "owner": "root", "group": "root", "uid": "0", "gid": "0", "filetype": "file",
        "linked-to": "/usr/bin/vim", "size": "{gt: 0}", "ip": '["0.0.0.0"]', "versions": '["1.2"]', "exit-status": "0",
        "groups": "[kvm]", "home": "/root", "shell": "/bin/sh", "opts": "[rw]", "vfs-opts": "[rw]",
        "source": "/dev/sda2", "filesystem": "ext4", "usage": "{lt: 95}", "value": '"1"', "matches": "{gt: 0}",
        "md5": '"…"', "sha256": '"…"', "sha512": '"…"', **dict.fromkeys(_TEXT_KINDS, '["text", "/regex/", "!not"]'),
    }  # fmt: skip
    return examples.get(attribute, "true")

"""Reads ``[build]`` of an image definition."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from harness.core.config_file import ConfigTable

DISTRIBUTIONS = ("debian", "ubuntu", "fedora", "centos", "opensuse")
"""The files of harness/build/distributions/."""
RPM_FAMILIES = ("fedora", "centos", "opensuse")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?")
"""Debian Policy 5.6.1, and what apt-get(8) takes behind it: an architecture, a version or a suite."""
_RPM_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.~^-]*(-\d+:[A-Za-z0-9_+.~^-]+)?(?<!\.rpm)")
"""A name, perhaps with epoch, version, release and architecture, as dnf(8) and zypper(8) take it; no file, and none of
zypper's kinds (``pattern:base``)."""
_REPOSITORY_URL = re.compile(
    r"(https?://([\w-]{1,63}(\.[\w-]{1,63})*|\[[0-9A-Fa-f:.]+\])(:[1-9]\d{0,4})?|file://(?=/))"
    r"(/+([\w.~!&'()*+;=:@-]|%[0-9A-Fa-f]{2}|\$(releasever|basearch)\b)+)*",
    re.ASCII,
)
"""Without credentials, and without a comma, which separates URLs in dnf's configuration; other variables than the two
have values of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The ``url`` of the folder with ``repodata``, in which the package manager replaces $releasever (the suite) and
    $basearch. ``key`` is the file with the public keys that sign the packages, and the metadata."""

    url: str
    key: Path


def read_suite(build: ConfigTable) -> str:
    return build.matching("suite", _SUITE, "trixie", 'a name, for example "trixie"')


def read_packages(build: ConfigTable) -> tuple[str, ...]:
    names = build.strings("packages", '["openssh-server"]')
    rule = _RPM_PACKAGE if build.content.get("distribution") in RPM_FAMILIES else _PACKAGE
    for name in names:
        if not rule.fullmatch(name):
            remedy = 'one name a string, for example "dracut"'
            raise build.error("packages", f"{name!r} is not a valid package name", remedy)
    return names


def read_repositories(build: ConfigTable) -> tuple[Repository, ...]:
    example = '[{ url = "https://mirror.example/$releasever/os", key = "RPM-GPG-KEY" }]'
    rows = build.tables("repositories", example)
    distribution = build.content.get("distribution")
    if rows and distribution not in RPM_FAMILIES:
        remedy = f"remove this key; bootproof build --mirror URL names another archive ({distribution} has its own)"
        raise build.error("repositories", f"is for {', '.join(RPM_FAMILIES)}", remedy)
    if not rows and distribution in RPM_FAMILIES:
        remedy = f"name at least one, for example repositories = {example}"
        raise build.error("repositories", f"is missing or empty, and {distribution} needs it", remedy)
    if rows and build.content.get("backports"):
        raise build.error("backports", f"does not apply to {distribution}", "name another one in build.repositories")
    repositories = tuple(map(_repository, rows))
    urls = [one.url for one in repositories]
    if twice := next((url for url in urls if urls.count(url) > 1), ""):
        raise build.error("repositories", f"{twice} is listed twice", "list it once")
    return repositories


def _repository(row: ConfigTable) -> Repository:
    example = "https://mirror.example/$releasever/os"
    remedy = (
        "a URL of http, https or file, no slash at its end; ASCII without credentials and commas, no variable but "
        "$releasever and $basearch"
    )
    url = row.matching("url", _REPOSITORY_URL, example, remedy)
    if not _has_valid_address(url):
        raise row.error("url", f"{url!r} is not valid", "correct its host or its port")
    name = str(row.take("key", str, '"RPM-GPG-KEY"'))
    key = row.file.parent / name
    row.finish()
    if "/" in name or not key.is_file():
        problem = f"{name} is not a file's name" if "/" in name else f"{name} does not exist"
        raise row.error("key", problem, f"put the file with the public keys beside {row.file}")
    return Repository(url=url, key=key.resolve())


def _has_valid_address(url: str) -> bool:
    """Whether the port is one, and an IPv6 address too."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.port != 0 and (":" not in (parts.hostname or "") or bool(IPv6Address(parts.hostname)))
    except ValueError:
        return False


def read_kernel_arguments(build: ConfigTable) -> tuple[str, ...]:
    arguments = build.strings("kernel_arguments", '["mitigations=auto"]', ())
    for argument in arguments:
        if argument.split() != [argument]:
            raise build.error("kernel_arguments", f"{argument!r} contains blanks", "write one argument a string")
    return arguments


def read_playbook(build: ConfigTable) -> str:
    name = str(build.take("playbook", str, '"playbook.yml"', "playbook.yml"))
    if not (build.file.parent / name).is_file():
        raise build.error("playbook", f"{name} does not exist", f"put it beside {build.file}")
    return name

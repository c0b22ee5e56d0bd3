"""Fedora and its relatives: trees by dnf."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.build.distributions.distribution import FirstTree
from harness.build.distributions.rpm import RpmFamily, Signs, home, identity, unreachable
from harness.model.definition_build import Repository

_CACHE = "var/cache/dnf"
_CONFIG = f"""\
[main]
cachedir=/{_CACHE}
reposdir=/nonexistent
varsdir=/nonexistent
plugins=0
keepcache=1
install_weak_deps=0
best=1
localpkg_gpgcheck=1
retries=3
"""
_REPOSITORY = """
[{identity}]
name={url}
baseurl={url}
gpgkey={key}
gpgcheck=1
repo_gpgcheck={signed}
"""
_FORGET = 'rm -rf "$1"/*/repodata "$1"/*.solv "$1"/*.solvx'
_ANSWER_S = 20
_GONE = (404, 410)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dnf(RpmFamily):
    program: ClassVar[str] = "dnf"
    trees: ClassVar[str] = "Fedora and CentOS"
    downloads: ClassVar[str] = _CACHE
    signs: ClassVar[Signs] = Signs(
        no_package=re.compile(r"^No match for argument: (\S+)$", re.MULTILINE),
        damaged=re.compile(r"checksum doesn't match"),
        metadata_not_signed=re.compile(r"GPG signature verification error"),
        not_signed=re.compile(
            r"^Package \S+ is not signed|^Problem opening package|^Public key for \S+ is not installed",
            re.MULTILINE,
        ),
        no_repository=re.compile(r"(Status code: 40[34]|Curl error \(37\)).* for \S+/repomd\.xml"),
        no_answer=re.compile(r"Curl error \(\d+\)|Status code: \d+"),
        no_network=re.compile(r"Curl error \((?!37\))\d+\)|Status code: (?!40[034])\d+"),
    )

    def configure(self, first: FirstTree) -> None:
        repositories = (
            _REPOSITORY.format(
                identity=identity(one), url=one.url, key=one.key.as_uri(), signed=int(self._is_signed(first, one))
            )
            for one in first.definition.repositories
        )
        (home(first) / "dnf.conf").write_text("".join([_CONFIG, *repositories]), "utf-8")

    def _is_signed(self, first: FirstTree, repository: Repository) -> bool:
        """Whether the metadata is signed: it is not only if the repository is sure to have no signature."""
        folder = repository.url.replace("$releasever", first.definition.suite).replace("$basearch", "x86_64")
        url = f"{folder}/repodata/repomd.xml.asc"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_S):
                return True
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "code", 0) in _GONE or isinstance(getattr(error, "reason", None), FileNotFoundError):
                return False
            raise unreachable(first.definition, f"({url}: {error})") from error

    def fetching(self, first: FirstTree) -> Iterator[list[str]]:
        """Metadata is always new: dnf would not notice that kept metadata was damaged."""
        yield ["sh", "-c", _FORGET, "forget", str(first.downloads)]
        yield [*self._dnf(first), "makecache"]

    def metadata(self, first: FirstTree, repository: Repository) -> Path:
        (folder,) = first.downloads.glob(f"{identity(repository)}-*/repodata")
        return folder / "repomd.xml"

    def installing(self, first: FirstTree) -> Iterator[list[str]]:
        yield [*self._dnf(first), "install", *sorted(first.definition.packages)]

    def _dnf(self, first: FirstTree) -> list[str]:
        options = ["--config", str(home(first) / "dnf.conf"), "--installroot", str(first.tree)]
        return ["dnf", "--assumeyes", *options, "--releasever", first.definition.suite]

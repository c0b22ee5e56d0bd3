"""The records of one package manager."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a package gave one of its files: ``mode`` without the type, and the names of capabilities, "cap_net_raw"."""

    mode: int
    user: str
    group: str
    capabilities: frozenset[str] = frozenset()


class PackageDatabase(Protocol):
    """Paths are those of a tree, without the first slash; versions are as the package manager prints them."""

    @property
    def manager(self) -> str:
        """The package that holds the package manager, under its own name."""

    @property
    def purl_type(self) -> str:
        """The type of its packages in a package URL."""

    @property
    def list_command(self) -> tuple[str, ...]:
        """The program that lists the installed packages of a guest."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files, and the folders with files, that `read_files` needs; links to them are none."""

    @property
    def owner_files(self) -> str:
        """A regular expression for the files that `owners` needs."""

    @property
    def sum_files(self) -> str:
        """A regular expression for the files that `sums` needs besides; it matches none if there are no sums."""

    @property
    def sum_algorithm(self) -> str:
        """The algorithm of `sums`, by hashlib's name."""

    @property
    def caches(self) -> str:
        """A regular expression for files that change with every installation, though no package did."""

    def vendor(self, installed: Mapping[str, str]) -> str:
        """The namespace of a package URL: the distribution, or empty if the packages do not show it."""

    def purl_version(self, version: str) -> tuple[str, dict[str, str]]:
        """The version and the qualifiers of a package URL."""

    def read_list(self, printed: str) -> dict[str, str]:
        """Name to version, from the output of `list_command`."""

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Name to version, from `files`; empty without them."""

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """The package of each path, from files whose paths match `owner_files`; a path in several packages has none.

        ``links`` maps the links in the tree's first folder to their targets.
        """

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """The digest in hex of each file as its package brought it, from files whose paths match `owner_files` or
        `sum_files`; ``links`` as above. Without those that programs may change or leave out."""

    def rights(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:
        """What each package gave its files, from the same files as `sums`; empty for a database without modes."""


NO_FILES = r"(?!)"
"""A regular expression that matches nothing."""


def merged(name: str, links: Mapping[str, str]) -> str:
    """The path of ``name`` in a tree: usr/bin/sh for /bin/sh if /bin is a link to usr/bin."""
    top, slash, rest = name.strip("/").partition("/")
    return f"{links.get(top, top) if slash else top}{slash}{rest}"


def owned(listed: Iterable[tuple[str, str]], links: Mapping[str, str]) -> dict[str, str]:
    """`PackageDatabase.owners` of pairs of a package and a path; /bin/sh is usr/bin/sh if /bin is a link to usr/bin."""
    owners = dict[str, str]()
    for package, name in listed:
        path = merged(name, links)
        owners[path] = package if owners.get(path, package) == package else ""
    return owners

"""Package databases: what is installed in a tree, in an image and in a guest, by the contents of files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from harness.packages.apk import Apk
from harness.packages.database import PackageDatabase, Rights
from harness.packages.dpkg import Dpkg
from harness.packages.pacman import Pacman
from harness.packages.rpm import Rpm

DATABASES: tuple[PackageDatabase, ...] = (Dpkg(), Rpm(), Pacman(), Apk())


def database_of(installed: Iterable[str]) -> PackageDatabase | None:
    """The database of the package manager that is among the names ``installed``; None for an unknown one.

    Distributions have each other's package managers too: rpm's is that of an image with a release of an RPM family.
    """
    names = dict.fromkeys(installed, "")
    if Rpm.manager in names and Rpm().vendor(names):
        return Rpm()
    return next((database for database in DATABASES if database.manager in names), None)


def installed_by(files: Mapping[str, bytes]) -> dict[str, str]:
    """Name to version of all packages in the databases' own ``files``, which are named by their paths in a tree."""
    return {name: version for database in DATABASES for name, version in database.read_files(files).items()}


def owners(files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
    """The package of each path, by all databases: see `PackageDatabase.owners`."""
    return {path: package for database in DATABASES for path, package in database.owners(files, links).items()}


def sum_algorithm(names: Iterable[str]) -> str:
    """The algorithm of the digests in the package databases of a tree with these ``names``."""
    listed = list(names)
    patterns = ((database, re.compile(database.owner_files)) for database in DATABASES)
    found = (database for database, pattern in patterns if any(map(pattern.fullmatch, listed)))
    return next((database.sum_algorithm for database in found), "md5")


def sums(files: Mapping[str, bytes], links: Mapping[str, str], algorithm: str) -> dict[str, str]:
    """The digest of each file as its package brought it, by all databases with this ``algorithm``: see
    `PackageDatabase.sums`."""
    databases = [database for database in DATABASES if database.sum_algorithm == algorithm]
    return {path: digest for database in databases for path, digest in database.sums(files, links).items()}


def rights(files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:
    """What each package gave its files, by all databases: see `PackageDatabase.rights`."""
    return {path: given for database in DATABASES for path, given in database.rights(files, links).items()}

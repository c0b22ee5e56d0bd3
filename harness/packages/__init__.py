"""Package databases: what is installed in a tree, in an image and in a guest, by the contents of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.packages.apk import Apk
from harness.packages.database import PackageDatabase
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


def sums(files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
    """The MD5 of each file as its package brought it, by all databases: see `PackageDatabase.sums`."""
    return {path: digest for database in DATABASES for path, digest in database.sums(files, links).items()}

"""The records of one package manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


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
        """The program that lists the installed packages, in a guest or in a tree."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that `read_files` needs."""

    @property
    def owner_files(self) -> str:
        """A regular expression for the files that `owners` needs."""

    @property
    def caches(self) -> str:
        """A regular expression for files that change with every installation, though no package did."""

    def vendor(self, installed: Mapping[str, str]) -> str:
        """The namespace of a package URL: the distribution."""

    def read_list(self, printed: str) -> dict[str, str]:
        """Name to version, from the output of `list_command`."""

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Name to version, from `files`; empty without them."""

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        """The package of each path, from files whose paths match `owner_files`; a path in several packages has none.

        ``links`` maps the links in the tree's first folder to their targets.
        """

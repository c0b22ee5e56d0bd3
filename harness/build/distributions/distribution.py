"""What the builder must know of a distribution, and the values that it exchanges with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.errors import BootproofError
from harness.model.definition import ImageDefinition
from harness.packages.database import PackageDatabase

_NO_NETWORK = (
    "Could not resolve",
    "Couldn't resolve host",
    "Temporary failure resolving",
    "Temporary failure in name resolution",
    "Could not connect",
    "Couldn't connect to server",
    "Unable to connect",
    "Connection timed out",
    "Connection failed",
    "Network is unreachable",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The source of a tree's packages.

    ``releases`` maps each signed index of the archive (``trixie-updates/InRelease``) to its SHA-256; ``epoch_s`` is the
    newest date in them, in seconds since 1970, and the build's SOURCE_DATE_EPOCH.
    """

    releases: dict[str, str]
    epoch_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTree:
    """A tree to make: the definition's packages in ``folder/tree``, the archive's indexes in ``folder/releases``.

    ``downloads`` holds the packages that earlier builds have downloaded, and keeps new ones. ``mirror`` is a URL, or
    None for the distribution's own archive.
    """

    definition: ImageDefinition
    folder: Path
    downloads: Path
    mirror: str | None

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def releases(self) -> Path:
        return self.folder / "releases"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNeed:
    """What a build of the distribution needs on its host: ``purpose`` is for the case that it is there.

    ``lack`` is a sentence, empty if nothing is missing; ``package`` is the package of the host that has it.
    ``is_required``: nothing can be built without it.
    """

    name: str
    purpose: str
    lack: str
    package: str
    is_required: bool


class Distribution(Protocol):
    """Everything that differs between distributions while an image is built.

    Paths are those of a tree, without the first slash.
    """

    @property
    def database(self) -> PackageDatabase:
        """Where the packages of a tree are listed."""

    @property
    def downloads(self) -> str:
        """The folder where the package manager keeps what it downloads."""

    @property
    def traces(self) -> tuple[str, ...]:
        """What the package manager leaves of one build; a name that ends with a slash is a folder to empty."""

    @property
    def kernel(self) -> str:
        """The path of the kernel, with ``{}`` for its version."""

    @property
    def kernel_package(self) -> str:
        """The name of a package with a kernel, as a person would look for it."""

    def host_needs(self) -> Iterator[HostNeed]:
        """What `doctor` must look for. Opens files, and runs nothing."""

    def builders(self) -> dict[str, str]:
        """The versions of the host's programs that make the first tree."""

    def commands(self, first: FirstTree) -> Iterator[list[str]]:
        """The programs that make the tree, to be run as root in namespaces of their own, in order.

        Their environment has DOWNLOADS and RELEASES, the two folders. Raises `HostError` if this host lacks something.
        """

    def read_archive(self, releases: Path) -> Archive:
        """The archive's state, by the files that the commands have put into that folder."""

    def remove_damaged(self, log: Path, downloads: Path) -> list[str]:
        """Remove the packages that are damaged by the ``log`` from ``downloads``; their names."""

    def diagnose(self, first: FirstTree, log: Path, *, removed: Sequence[str]) -> BootproofError:
        """The error for commands that failed, by their output in ``log``; ``removed`` were damaged packages.

        `ImageError` for a package or suite that does not exist or does not install, `HostError` for a network that
        fails, `UsageError` for a wrong mirror.
        """

    def needs_network(self, output: str) -> bool:
        """Whether the output of a failed package manager, or of a similar program, is about the network."""


def says_no_network(output: str) -> bool:
    """Whether ``output``, of any program, says that a server could not be reached."""
    return any(text in output for text in _NO_NETWORK)

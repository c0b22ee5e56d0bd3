"""What the RPM families share: repositories of the definition, signed packages, and rpm's database."""

from __future__ import annotations

import re
import shutil
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.build import chroot
from harness.build.distributions.distribution import Archive, FirstTree, HostNeed, says_no_network
from harness.core import digest, process
from harness.core.errors import BootproofError, HostError, ImageError, UsageError
from harness.model.definition import DEFINITION_FILE, ImageDefinition
from harness.model.definition_build import Repository
from harness.packages.rpm import Rpm

_METADATA = "repodata/repomd.xml"
_MOUNTED = ("dev", "proc", "run", "sys")
_MACROS = "%_dbpath /{database}\n%_netsharedpath /dev:/proc:/sys\n"
"""Where rpm keeps the tree's database: the host's own rpm would choose another place. What is mounted over the tree
cannot get the owners of a package's folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What a program prints when it fails, each in one line; the group of ``no_package`` is the package's name.

    They are looked for in this order: a program that gets nothing prints more than one. ``no_network`` is for the
    output of a playbook's task, in which Ansible writes all lines as one.
    """

    no_package: re.Pattern[str]
    damaged: re.Pattern[str]
    metadata_not_signed: re.Pattern[str]
    not_signed: re.Pattern[str]
    no_repository: re.Pattern[str]
    no_answer: re.Pattern[str]
    no_network: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RpmFamily(ABC):
    """A distribution of this family; the subclasses are the two programs that make trees.

    ``first_with_usr`` is the first release whose own rpm has its database in /usr; older ones have it in /var/lib/rpm.
    """

    title: str
    kernel_package: str
    first_with_usr: int = 0

    program: ClassVar[str]
    trees: ClassVar[str]
    """The distributions of which ``program`` makes trees."""
    downloads: ClassVar[str]
    signs: ClassVar[Signs]

    database: ClassVar[Rpm] = Rpm()
    kernel: ClassVar[str] = "usr/lib/modules/{}/vmlinuz"
    traces: ClassVar[tuple[str, ...]] = (
        "var/cache/dnf/", "var/cache/libdnf5/", "var/cache/zypp/", "var/lib/dnf/", "var/lib/zypp/",
        "usr/lib/sysimage/libdnf5/", "usr/lib/sysimage/rpm/*.sqlite-shm", "usr/lib/sysimage/rpm/.rpm.lock",
        "var/lib/rpm/*.sqlite-shm", "var/lib/rpm/.rpm.lock",
    )  # fmt: skip

    def host_needs(self) -> Iterator[HostNeed]:
        for name, purpose in ((self.program, "makes trees"), ("rpm", "verifies and installs packages")):
            lack = "" if shutil.which(name) else "their images cannot be built without it"
            purpose = f"{purpose} of {self.trees if name == self.program else 'RPM families'}"
            yield HostNeed(name=name, purpose=purpose, lack=lack, package=name, is_required=False)

    def builders(self) -> dict[str, str]:
        programs = {name: process.output([name, "--version"]) for name in (self.program, "rpm")}
        return {name: printed.splitlines()[0].split()[-1] for name, printed in programs.items()}

    def commands(self, first: FirstTree) -> Iterator[list[str]]:
        definition = first.definition
        if first.mirror:
            file = definition.folder / DEFINITION_FILE
            raise UsageError(
                f"--mirror does not apply to {self.title}: name the mirror in build.repositories of {file}"
            )
        for name in (self.program, "rpm"):
            process.require(name, name)
        home(first).mkdir()
        (home(first) / ".rpmmacros").write_text(
            _MACROS.format(database=self.database_folder(definition.suite)), "utf-8"
        )
        self.configure(first)
        yield ["mkdir", "-p", *(str(first.tree / name) for name in _MOUNTED)]
        yield ["mkdir", "-m", "1777", str(first.tree / "tmp")]
        yield from (self._in_tree(first, *command) for command in self.fetching(first))
        for repository in definition.repositories:
            name = urllib.parse.quote(f"{repository.url}/{_METADATA}", safe="")
            shutil.copyfile(self.metadata(first, repository), first.releases / name)
        date = f"SOURCE_DATE_EPOCH={self.read_archive(first.releases).epoch_s}"
        yield from (self._in_tree(first, date, *command) for command in self.installing(first))

    def database_folder(self, suite: str) -> str:
        """Where rpm of that release looks for its database; a suite without a number (rawhide) is newer than others."""
        release = re.match(r"\d+", suite)
        is_old = release and int(release[0]) < self.first_with_usr
        return "var/lib/rpm" if is_old else "usr/lib/sysimage/rpm"

    @abstractmethod
    def configure(self, first: FirstTree) -> None:
        """Write the program's configuration, with the repositories, below `home`."""

    @abstractmethod
    def fetching(self, first: FirstTree) -> Iterator[list[str]]:
        """The commands that download the repositories' metadata, and verify it."""

    @abstractmethod
    def metadata(self, first: FirstTree, repository: Repository) -> Path:
        """The repomd.xml that was downloaded."""

    @abstractmethod
    def installing(self, first: FirstTree) -> Iterator[list[str]]:
        """The commands that install the packages."""

    def _in_tree(self, first: FirstTree, *words: str) -> list[str]:
        """Scriptlets of packages need the tree's /dev and /proc, and no TMPDIR of the host. That of a kernel makes no
        initrd (kernel-install(8)): the builder makes it later."""
        command = ["env", "--unset=TMPDIR", f"HOME={home(first)}", "KERNEL_INSTALL_BYPASS=1", *words]
        return chroot.entering(first.tree, command, downloads=(self.downloads, first.downloads))

    def read_archive(self, releases: Path) -> Archive:
        digests, dates = {}, [0]
        for path in sorted(releases.iterdir()):
            digests[urllib.parse.unquote(path.name)] = digest.of_file(path)
            dates += map(int, re.findall(r"<timestamp>(\d+)", path.read_text("utf-8", "replace")))
        return Archive(releases=digests, epoch_s=max(dates))

    def remove_damaged(self, log: Path, downloads: Path) -> list[str]:  # noqa: ARG002  # nothing to do
        """Both programs compare kept packages with the metadata, and download damaged ones again."""
        return []

    def diagnose(
        self,
        first: FirstTree,
        log: Path,
        *,
        removed: Sequence[str],  # noqa: ARG002  # always empty here
    ) -> BootproofError:
        text, definition, signs = log.read_text("utf-8", "replace"), first.definition, self.signs
        file, suite = definition.folder / DEFINITION_FILE, definition.suite
        if missing := sorted(set(signs.no_package.findall(text))):
            names = ", ".join(missing)
            return ImageError(
                f"{file}: build.packages: not in the repositories of {suite}: {names}; correct or remove them ({log})"
            )
        if lines := _lines(signs.damaged, text):
            return HostError(
                "a download does not have its digest: it was damaged on the way or on the mirror, or the mirror is "
                f"being updated; build again, or name another mirror in build.repositories of {file} ({log}):\n{lines}"
            )
        if lines := _lines(signs.metadata_not_signed, text):
            return HostError(
                "the metadata of a repository is not signed by the key that is named there, or was changed afterwards; "
                f"build again, or name another mirror or its key in build.repositories of {file} ({log}):\n{lines}"
            )
        if lines := _lines(signs.not_signed, text):
            return ImageError(
                f"{file}: build.repositories: not signed by the key that is named there, or changed afterwards; "
                f"name the repository's own key, or another mirror ({log}):\n{lines}"
            )
        if lines := _lines(signs.no_repository, text):
            urls = ", ".join(one.url for one in definition.repositories)
            return ImageError(
                f"{file}: build.suite, build.repositories: no repository of {suite!r} at {urls} ({log}):\n{lines}"
            )
        if lines := _lines(signs.no_answer, text):
            return unreachable(definition, f"({log}):\n{lines}")
        return ImageError(f"{definition.name}: {self.program} failed ({log}):\n{text[-2000:]}")

    def needs_network(self, output: str) -> bool:
        return says_no_network(output) or bool(self.signs.no_network.search(output))


def _lines(sign: re.Pattern[str], text: str) -> str:
    """The lines in which ``sign`` occurs, each once, no more than ten."""
    return "\n".join([line for line in dict.fromkeys(text.splitlines()) if sign.search(line)][:10])


def unreachable(definition: ImageDefinition, seen: str) -> HostError:
    file = definition.folder / DEFINITION_FILE
    return HostError(
        f"a repository cannot be reached; fix the network (or http_proxy), or build.repositories of {file} {seen}"
    )


def home(first: FirstTree) -> Path:
    """HOME of the commands: rpm reads its macros there."""
    return first.folder / "home"


def identity(repository: Repository) -> str:
    """A name for the repository, under which the store keeps its packages."""
    return f"repository-{digest.of_value(repository.url)[:12]}"

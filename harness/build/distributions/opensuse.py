"""openSUSE: trees by zypper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.build.distributions.distribution import FirstTree
from harness.build.distributions.rpm import RpmFamily, Signs, home, identity
from harness.model.definition_build import Repository

_REPOSITORY = """\
[{identity}]
name={url}
baseurl={url}
gpgkey={key}
enabled=1
type=rpm-md
keeppackages=1
repo_gpgcheck=1
pkg_gpgcheck=1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zypper(RpmFamily):
    """zypper refuses metadata that is not signed, whatever the packages are."""

    program: ClassVar[str] = "zypper"
    trees: ClassVar[str] = "openSUSE"
    downloads: ClassVar[str] = "var/cache/zypp/packages"
    signs: ClassVar[Signs] = Signs(
        no_package=re.compile(r"^No provider of '([^']+)' found\.$", re.MULTILINE),
        damaged=re.compile(r"has wrong checksum|Payload SHA256 digest: BAD"),
        metadata_not_signed=re.compile(
            r"Signature verification failed for|is signed with an unknown key|^File '.*' from repository .* is unsigned"
        ),
        not_signed=re.compile(r"Signature verification failed"),
        no_repository=re.compile(r"Repository type can't be determined"),
        no_answer=re.compile(r"^Error code: |^Error message: |^File '.*' not found on medium"),
        no_network=re.compile(r"Error code: (Curl error|HTTP response: (?!40[034]))"),
    )

    def configure(self, first: FirstTree) -> None:
        (home(first) / "repos.d").mkdir()
        for one in first.definition.repositories:
            text = _REPOSITORY.format(identity=identity(one), url=one.url, key=one.key.as_uri())
            (home(first) / "repos.d" / f"{identity(one)}.repo").write_text(text, "utf-8")

    def fetching(self, first: FirstTree) -> Iterator[list[str]]:
        """zypper trusts the keys in the tree's database, in which the date of their import must always be the same."""
        for key in dict.fromkeys(one.key for one in first.definition.repositories):
            yield ["SOURCE_DATE_EPOCH=0", "rpm", "--root", str(first.tree), "--import", str(key)]
        yield [*self._zypper(first), "refresh", "--force"]

    def metadata(self, first: FirstTree, repository: Repository) -> Path:
        return first.tree / "var/cache/zypp/raw" / identity(repository) / "repodata" / "repomd.xml"

    def installing(self, first: FirstTree) -> Iterator[list[str]]:
        options = ["--no-recommends", "--auto-agree-with-licenses", "--download-in-advance"]
        yield [*self._zypper(first), "install", *options, *sorted(first.definition.packages)]

    def _zypper(self, first: FirstTree) -> list[str]:
        options = ["--root", str(first.tree), "--reposd-dir", str(home(first) / "repos.d")]
        return ["zypper", "--non-interactive", *options, "--releasever", first.definition.suite]


DISTRIBUTION = Zypper(title="openSUSE", kernel_package="kernel-default")

"""Debian and its relatives: trees by mmdebstrap, packages by apt and dpkg."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build import chroot
from harness.build.distributions.distribution import Archive, FirstTree, HostNeed, says_no_network
from harness.core import digest, process
from harness.core.errors import BootproofError, HostError, ImageError, UsageError
from harness.model.definition import DEFINITION_FILE
from harness.packages.dpkg import Dpkg

_SOURCES, _OPTIONS = "etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """A distribution of this family. ``updates`` are the suffixes of the suites beside a released one, on a mirror;
    suites ``in_development`` have none. ``keyring`` is a file of the host, from its package ``keyring_package``."""

    title: str
    components: tuple[str, ...]
    updates: tuple[str, ...]
    in_development: tuple[str, ...]
    keyring: Path
    keyring_package: str

    database = Dpkg()
    downloads = "var/cache/apt/archives"
    kernel = "boot/vmlinuz-{}"
    kernel_package = "linux-image-…"
    traces = (
        "var/lib/apt/lists/", "var/cache/apt/", "var/cache/debconf/", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*",
        "var/lib/dpkg/triggers/Lock", "var/lib/apt/periodic", "var/lib/ucf/*.[0-9]", "var/lib/command-not-found",
    )  # fmt: skip

    def host_needs(self) -> Iterator[HostNeed]:
        yield HostNeed(
            name="archive keyring",
            purpose=f"verifies {self.title}'s packages",
            lack="" if self.keyring.exists() else "nothing can be built without it",
            package=self.keyring_package,
            is_required=True,
        )

    def builders(self) -> dict[str, str]:
        return {"mmdebstrap": process.output(["mmdebstrap", "--version"]).split()[-1]}

    def commands(self, first: FirstTree) -> Iterator[list[str]]:
        yield from self.make_tree(first)

    def make_tree(self, first: FirstTree, *options: str) -> Iterator[list[str]]:
        """The commands that make the tree; ``options`` are further ones of mmdebstrap(1)."""
        yield self._mmdebstrap(first, *options)
        yield chroot.tree_action(first.tree, "forget", _OPTIONS)
        if first.mirror:
            yield chroot.tree_action(first.tree, "remove_lines", _SOURCES, f" {first.mirror.rstrip('/')} ")

    def _mmdebstrap(self, first: FirstTree, *options: str) -> list[str]:
        """The packages kept between builds are mounted over apt's cache, and unmounted before mmdebstrap cleans it."""
        process.require("mmdebstrap", "mmdebstrap")
        suite = first.definition.suite
        return [
            "mmdebstrap",
            "--variant=apt",
            "--mode=root",
            "--skip=download/empty",
            "--skip=essential/unlink",
            '--aptopt=APT::Sandbox::User "root"',  # the cache belongs to this user; apt's own user cannot write there
            f'--setup-hook=mkdir -p "$1"/{self.downloads}',
            f'--setup-hook=mount --bind "$DOWNLOADS" "$1"/{self.downloads}',
            '--customize-hook=cp "$1"/var/lib/apt/lists/*Release "$RELEASES"',
            f'--customize-hook=umount "$1"/{self.downloads}',
            f"--components={','.join(self.components)}",
            f"--include={','.join(sorted(first.definition.packages))}",
            *(_backports(suite) if first.definition.backports else ()),
            *options,
            suite,
            str(first.tree),
            *self.sources(suite, first.mirror),
        ]

    def sources(self, suite: str, mirror: str | None) -> list[str]:
        """The lines of sources.list(5) for a mirror; none without a mirror: mmdebstrap(1) then chooses the archive."""
        if mirror is None:
            return []
        suites = [suite] if suite in self.in_development else [suite, *(f"{suite}{name}" for name in self.updates)]
        return [f"deb {mirror.rstrip('/')} {name} {' '.join(self.components)}" for name in suites]

    def read_archive(self, releases: Path) -> Archive:
        """The names of apt's Release files begin with the mirror, which is left out."""
        digests, dates = {}, [0]
        for path in sorted(releases.iterdir()):
            digests[path.name.partition("_dists_")[2].replace("_", "/")] = digest.of_file(path)
            date = re.search(r"^Date: (.+)$", path.read_text("utf-8", "replace"), re.MULTILINE)
            if date:
                dates.append(int(email.utils.parsedate_to_datetime(date[1]).timestamp()))
        return Archive(releases=digests, epoch_s=max(dates))

    def remove_damaged(self, log: Path, downloads: Path) -> list[str]:
        """apt does not notice: it compares only the sizes of packages that it has already downloaded."""
        text = log.read_text("utf-8", "replace")
        if "dpkg-deb: error" not in text:
            return []
        found = re.findall(r"^dpkg: error processing archive \S*/(?:\d+-)?([^/\s]+\.deb) ", text, re.MULTILINE)
        damaged = [name for name in dict.fromkeys(found) if (downloads / name).is_file()]
        for name in damaged:
            (downloads / name).unlink()
        return damaged

    def diagnose(self, first: FirstTree, log: Path, *, removed: Sequence[str]) -> BootproofError:
        text, definition, mirror = log.read_text("utf-8", "replace"), first.definition, first.mirror
        file, suite = definition.folder / DEFINITION_FILE, definition.suite
        found = re.findall(r"Unable to locate package (\S+)|Package '([^']+)' has no installation", text)
        missing = sorted({one or other for one, other in found})
        if missing == [self.keyring_package] and self.keyring_package not in definition.packages:
            return HostError(
                f"the archive has no {self.keyring_package}, and this host no {self.keyring}, which verifies "
                f"{self.title}'s packages; copy that file from a host of {self.title}, or name another --mirror ({log})"
            )
        if missing:
            names = ", ".join(missing)
            return ImageError(f"{file}: build.packages: not in {suite}: {names}; correct or remove them ({log})")
        errors = "\n".join(line for line in text.splitlines() if line.startswith(("E:", "Err:", "dpkg: error")))
        errors = errors[-2000:] or text[-2000:]
        if self.needs_network(text):
            return HostError(
                "the package archive cannot be reached; fix the network (or http_proxy), "
                f"or name another archive: bootproof build {definition.name} --mirror URL ({log}):\n{errors}"
            )
        if "is not signed" in text:
            keys = " ".join(dict.fromkeys(re.findall(r"NO_PUBKEY (\w+)", text))) or "none"
            return HostError(
                f"the archive's signature cannot be verified; key missing on this host: {keys} ({log}):\n{errors}",
                remedy=f"apt-get install {self.keyring_package}",
            )
        if removed:
            return HostError(
                f"packages in the store were damaged and are removed: {', '.join(removed)}; build again ({log})"
            )
        if re.search(r"40[034] +(Bad Request|Forbidden|Not Found)", text) and "Release" in errors:
            named = re.search(r"The repository '\S+ (\S+) Release'", errors)
            absent = named[1] if named else suite
            if mirror:
                return UsageError(f"--mirror {mirror} has no {absent}; it must hold dists/{absent}/")
            key = "backports" if absent.endswith("-backports") else "suite"
            return ImageError(f"{file}: build.{key}: the archive has no {absent!r} ({log})")
        return ImageError(f"{definition.name}: mmdebstrap failed ({log}):\n{errors}")

    def needs_network(self, output: str) -> bool:
        return says_no_network(output) or "Hash Sum mismatch" in output


def _backports(suite: str) -> list[str]:
    """The options of mmdebstrap(1) that add the backports of the same archive, and prefer them (apt_preferences(5))."""
    line = f"/ {suite} /{{p;s/ {suite} / {suite}-backports /}}"
    return [f"--setup-hook=sed -i '{line}' \"$1\"/{_SOURCES}", f'--aptopt=APT::Default-Release "{suite}-backports"']

"""Makes the first layer: a minimal Debian with the definition's packages, by mmdebstrap."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build import chroot
from harness.core import digest, process
from harness.core.errors import BootproofError, HostError, ImageError, UsageError
from harness.core.namespaces import environment
from harness.model.definition import DEFINITION_FILE, ImageDefinition
from harness.store.store import Store

_FORMAT = 1
"""A new number makes every store bootstrap again."""

_DEVELOPED = ("sid", "unstable", "testing", "experimental")

_NO_NETWORK = (
    "Could not resolve",
    "Temporary failure resolving",
    "Could not connect",
    "Unable to connect",
    "Connection timed out",
    "Connection failed",
    "Network is unreachable",
    "Hash Sum mismatch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The source of a tree's packages.

    ``releases`` maps each Release file (``trixie-updates/InRelease``) to its SHA-256; ``epoch_s`` is the
    newest ``Date:`` in them, in seconds since 1970, and the build's SOURCE_DATE_EPOCH.
    """

    releases: dict[str, str]
    epoch_s: int


def layer_key(definition: ImageDefinition) -> str:
    """The key of the first layer: the same for all definitions with the same packages, and on every mirror."""
    packages = sorted(definition.packages)
    return digest.of_value([_FORMAT, definition.distribution, definition.suite, packages])


def bootstrap(definition: ImageDefinition, store: Store, folder: Path, *, mirror: str | None, log: Path) -> Archive:
    """Make ``folder/tree``. Downloaded packages are kept in the store's ``debs/<suite>``, which the caller has locked.

    Raises `ImageError` for a package or suite that does not exist or does not install, `HostError` if the archive
    cannot be reached. Damaged packages are removed from the store.
    """
    tree, releases = folder / "tree", folder / "releases"
    releases.mkdir()
    (folder / "tmp").mkdir()
    debs = store.packages(definition.suite)
    env = environment(TMPDIR=str(folder / "tmp"), INITRD="No", DEBS=str(debs), RELEASES=str(releases))
    try:
        chroot.run(_command(definition, tree, mirror), log=log, env=env)
        chroot.run(chroot.tree_action(tree, "bootstrapped", mirror or ""), log=log)
    except process.CommandFailed as error:
        removed = remove_damaged_packages(log, debs)
        raise diagnose(definition, log, mirror=mirror, removed=removed) from error
    return read_archive(releases)


def _command(definition: ImageDefinition, tree: Path, mirror: str | None) -> list[str]:
    """The packages kept between builds are mounted over apt's cache, and unmounted before mmdebstrap cleans it."""
    process.require("mmdebstrap", "mmdebstrap")
    return [
        "mmdebstrap",
        "--variant=apt",
        "--mode=root",
        "--skip=download/empty",
        "--skip=essential/unlink",
        '--aptopt=APT::Sandbox::User "root"',  # the cache belongs to this user; apt's own user cannot write there
        '--setup-hook=mkdir -p "$1"/var/cache/apt/archives',
        '--setup-hook=mount --bind "$DEBS" "$1"/var/cache/apt/archives',
        '--customize-hook=cp "$1"/var/lib/apt/lists/*Release "$RELEASES"',
        '--customize-hook=umount "$1"/var/cache/apt/archives',
        f"--include={','.join(sorted(definition.packages))}",
        definition.suite,
        str(tree),
        *sources(definition.suite, mirror),
    ]


def sources(suite: str, mirror: str | None) -> list[str]:
    """The lines of sources.list(5) for a mirror; none without a mirror: mmdebstrap(1) then chooses the archive.

    A mirror need not have the security archive; suites in development have no updates either.
    """
    if mirror is None:
        return []
    suites = [suite] if suite in _DEVELOPED else [suite, f"{suite}-updates"]
    return [f"deb {mirror.rstrip('/')} {name} main" for name in suites]


def read_archive(folder: Path) -> Archive:
    """The archive by apt's Release files in ``folder``, whose names begin with the mirror, which is left out."""
    releases, dates = {}, [0]
    for path in sorted(folder.iterdir()):
        releases[path.name.partition("_dists_")[2].replace("_", "/")] = digest.of_file(path)
        date = re.search(r"^Date: (.+)$", path.read_text("utf-8", "replace"), re.MULTILINE)
        if date:
            dates.append(int(email.utils.parsedate_to_datetime(date[1]).timestamp()))
    return Archive(releases=releases, epoch_s=max(dates))


def diagnose(definition: ImageDefinition, log: Path, *, mirror: str | None, removed: Sequence[str]) -> BootproofError:
    """The error for a failed mmdebstrap, by its output; ``removed`` are damaged packages, removed from the store."""
    text, file = log.read_text("utf-8", "replace"), definition.folder / DEFINITION_FILE
    missing = re.findall(r"Unable to locate package (\S+)|Package '([^']+)' has no installation", text)
    if missing:
        names = ", ".join(sorted({one or other for one, other in missing}))
        return ImageError(f"{file}: build.packages: not in {definition.suite}: {names}; correct or remove them ({log})")
    errors = "\n".join(line for line in text.splitlines() if line.startswith(("E:", "Err:", "dpkg: error")))
    errors = errors[-2000:] or text[-2000:]
    if needs_network(text):
        return HostError(
            "the package archive cannot be reached; fix the network (or http_proxy), "
            f"or name another archive: bootproof build {definition.name} --mirror URL ({log}):\n{errors}"
        )
    if removed:
        return HostError(
            f"packages in the store were damaged and are removed: {', '.join(removed)}; build again ({log})"
        )
    if re.search(r"40[034] +(Bad Request|Forbidden|Not Found)", text) and "Release" in errors:
        if mirror:
            return UsageError(f"--mirror {mirror} has no {definition.suite}; it must hold dists/{definition.suite}/")
        return ImageError(f"{file}: build.suite: the archive has no {definition.suite!r} ({log})")
    return ImageError(f"{definition.name}: mmdebstrap failed ({log}):\n{errors}")


def needs_network(output: str) -> bool:
    """Whether the output of a failed apt, or of a similar program, is about the network."""
    return any(text in output for text in _NO_NETWORK)


def remove_damaged_packages(log: Path, debs: Path) -> list[str]:
    """Remove the packages that are damaged by dpkg's ``log`` from ``debs``; their names.

    apt does not notice: it compares only the sizes of packages that it has already downloaded.
    """
    text = log.read_text("utf-8", "replace")
    if "dpkg-deb: error" not in text:
        return []
    found = re.findall(r"^dpkg: error processing archive \S*/(?:\d+-)?([^/\s]+\.deb) ", text, re.MULTILINE)
    damaged = [name for name in dict.fromkeys(found) if (debs / name).is_file()]
    for name in damaged:
        (debs / name).unlink()
    return damaged

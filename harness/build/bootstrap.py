"""Makes the first layer: a minimal tree with the definition's packages, as its distribution makes one."""

from __future__ import annotations

from pathlib import Path

from harness.build import chroot, distributions
from harness.build.distributions import Archive, FirstTree
from harness.core import digest, process
from harness.core.namespaces import environment
from harness.model.definition import ImageDefinition
from harness.store.store import Store

_FORMAT = 1
"""A new number makes every store bootstrap again."""


def layer_key(definition: ImageDefinition) -> str:
    """The key of the first layer: the same for all definitions with the same packages, and on every mirror."""
    archive = [definition.distribution, definition.suite, sorted(definition.packages)]
    backports = ["backports"] if definition.backports else []
    repositories = [[one.url, digest.of_file(one.key)] for one in definition.repositories]
    return digest.of_value([_FORMAT, *archive, *backports, *repositories])


def bootstrap(definition: ImageDefinition, store: Store, folder: Path, *, mirror: str | None, log: Path) -> Archive:
    """Make ``folder/tree``. Downloaded packages are kept in the store's ``debs/<suite>``, which the caller has locked.

    Raises `ImageError` for a package or suite that does not exist or does not install, `HostError` if the archive
    cannot be reached, or is not the one that its key signs. Damaged packages are removed from the store.
    """
    distribution = distributions.of(definition.distribution)
    first = FirstTree(definition=definition, folder=folder, downloads=store.packages(definition.suite), mirror=mirror)
    first.releases.mkdir()
    (folder / "tmp").mkdir()
    folders = {"TMPDIR": str(folder / "tmp"), "DOWNLOADS": str(first.downloads), "RELEASES": str(first.releases)}
    env = environment(INITRD="No", **folders)
    try:
        for command in distribution.commands(first):
            chroot.run(command, log=log, env=env)
        chroot.run(chroot.tree_action(first.tree, "bootstrapped"), log=log)
    except process.CommandFailed as error:
        removed = distribution.remove_damaged(log, first.downloads)
        raise distribution.diagnose(first, log, removed=removed) from error
    return distribution.read_archive(first.releases)

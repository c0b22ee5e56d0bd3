"""Sends artifacts to a published tree, without a stream: hosts bring them from there, by digest."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from harness.core import digest
from harness.core.errors import UsageError
from harness.model.artifacts import MANIFEST, Artifacts, difference
from harness.promotion.published_tree import PublishedTree
from harness.promotion.remote import RemoteTree


def push(artifacts: Artifacts, tree: str) -> bool:
    """Send ``artifacts`` to ``tree``, a folder or rclone's REMOTE:PATH; False if they were there.

    `UsageError` if a byte differs from the manifest; `NotVerified` or `HostError` if one of those in the tree does.
    """
    if urlsplit(tree).scheme in ("http", "https"):
        raise UsageError(f"{tree}: a web server cannot be written; name the folder that it serves, or rclone's remote")
    if what := difference(artifacts):
        raise UsageError(f"{what}; build the image again")
    if ":" in tree and not Path(tree).exists():
        return RemoteTree(tree, PublishedTree(Path())).send_artifacts(artifacts)
    local = PublishedTree(Path(tree).absolute())
    files = {name: file.sha256 for name, file in artifacts.manifest.files.items()}
    with local.locked():
        was_there = local.artifacts(artifacts.digest).exists()
        local.put(artifacts, {**files, MANIFEST: digest.of_file(artifacts.folder / MANIFEST)})
    return not was_there

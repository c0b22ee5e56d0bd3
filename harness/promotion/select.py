"""Selects artifacts by IMAGE, IMAGE@VERSION, IMAGE@STREAM, digest or folder."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.core import serialization
from harness.core.errors import BootproofError, HostError, UsageError
from harness.diff import Side
from harness.model.artifacts import Artifacts, load_artifacts
from harness.model.verdict import Verdict
from harness.promotion import attest
from harness.promotion.published_tree import Proof, is_name
from harness.promotion.remote import LocalTree, RemoteTree, open_tree
from harness.promotion.unite import unite
from harness.runs import history
from harness.store.store import Store, find_store

TREE_VARIABLE = "BOOTPROOF_TREE"
"""The environment variable with the published tree that commands use unless --tree names another."""


def tree_name(given: str | None) -> str | None:
    """The published tree that --tree or the environment names; None if neither does."""
    return given or os.environ.get(TREE_VARIABLE)


def open_named_tree(given: str | None, until: ExitStack, image: str = "") -> LocalTree | RemoteTree:
    """The published tree that --tree or the environment names; `UsageError` if neither does."""
    if name := tree_name(given):
        return open_tree(name, image, until)
    raise UsageError(f"no published tree: name one with --tree or ${TREE_VARIABLE}")


def select(name: str, tree: str | None, until: ExitStack) -> Side:
    """The artifacts called ``name``, held until ``until`` closes, and the newest verdict with boots of them.

    ``name`` is a folder, a digest or its beginning (8 digits or more), IMAGE, IMAGE@VERSION or, with a ``tree``,
    IMAGE@STREAM.
    """
    store = find_store()
    image, _, which = name.partition("@")
    if tree_name(tree) and is_name(image) and is_name(which):  # a version may be the name of no stream: 2026.11+next
        opened = open_named_tree(tree, until, image)
        if opened.tree.current(image, which):
            return _of_stream(opened, image, which)
    if Path(name).is_dir():
        artifacts = load_artifacts(Path(name))
    elif re.fullmatch(r"[0-9a-f]{8,64}", name):
        artifacts = _of_digest(name, store, tree, until)
    else:
        artifacts = store.hold(lambda: store.newest(image, which), until)
    return Side(artifacts=artifacts, verdict=_verdict_with(artifacts.digest, store))


def select_promoted(given: str | None, image: str, stream: str, until: ExitStack) -> Side | None:
    """The build that ``stream`` of the named tree points to; None if there is no such tree or stream."""
    if name := tree_name(given):
        with suppress(BootproofError):
            opened = open_tree(name, image, until)
            if opened.tree.current(image, stream):
                return _of_stream(opened, image, stream)
    return None


def artifacts_of_stream(opened: LocalTree | RemoteTree, image: str, stream: str) -> tuple[Artifacts, tuple[Proof, ...]]:
    """The artifacts that ``stream`` points to, fetched, and their proofs; `UsageError` if there is no such stream."""
    tree = opened.tree
    pointer = tree.current(image, stream)
    if pointer is None:
        raise UsageError(f"{tree.root} has no stream {stream} of {image}")
    opened.fetch_artifacts(image, stream)
    return load_artifacts(tree.artifacts(pointer.entry.artifacts)), tree.proofs(pointer.entry)


def _of_stream(opened: LocalTree | RemoteTree, image: str, stream: str) -> Side:
    artifacts, proofs = artifacts_of_stream(opened, image, stream)
    runs = [attest.unverified(proof.attestation, stream).verdict for proof in proofs]
    return Side(artifacts=artifacts, verdict=unite(runs))


def _of_digest(name: str, store: Store, tree: str | None, until: ExitStack) -> Artifacts:
    """The artifacts in the store or, if it has none, in the named tree."""
    try:
        return store.hold(lambda: store.artifacts(name), until)
    except UsageError:
        if not tree_name(tree):
            raise
        opened = open_named_tree(tree, until)
        opened.fetch_digest(name)
        found = sorted(opened.tree.root.glob(f"artifacts/{name}*"))
        if len(found) != 1:
            raise
        return load_artifacts(found[0])


def _verdict_with(digest: str, store: Store) -> Verdict | None:
    with suppress(HostError, OSError, ValueError):
        if folder := history.last_verdict_folder(store, digest):
            return serialization.read(Verdict, folder / "verdict.json")
    return None

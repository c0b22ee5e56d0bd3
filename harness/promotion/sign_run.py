"""Signs a finished run, for example on another host than the one that made it, if nothing in its folder changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core import digest, serialization
from harness.core.errors import UsageError
from harness.model.artifacts import Artifacts
from harness.model.layout import ATTESTATION, EVENTS, SBOM, STATEMENT
from harness.model.verdict import Verdict
from harness.promotion import attest
from harness.promotion.attest import RESTORE, Attestation, NotVerified
from harness.promotion.published_tree import check_files

_VERDICT = "verdict.json"


def sign_run(folder: Path, find_artifacts: Callable[[str], Artifacts | None], signer: Any) -> Path:
    """Sign what the run in ``folder`` attests, and write attestation.json; returns its path.

    ``find_artifacts`` is called with the digest of the artifacts that the run tested; their bytes are compared, if this
    host has them. `UsageError` if the folder cannot be signed, `NotVerified` if anything in it changed.
    """
    statement, attested = _unchanged(folder)
    if artifacts := find_artifacts(attested.verdict.digests.get("artifacts", "none")):
        check_files(artifacts.folder, attested.files)
    serialization.write_text(folder / ATTESTATION, attest.sign(statement, signer).decode())
    return folder / ATTESTATION


def _unchanged(folder: Path) -> tuple[bytes, Attestation]:
    """The statement that the run in ``folder`` wrote, and its content."""
    if not (folder / _VERDICT).is_file():
        raise UsageError(f"{folder} is not the folder of a run: it has no {_VERDICT}")
    if (folder / ATTESTATION).exists():
        remedy = f"check it with bootproof attest verify {folder / ATTESTATION} --key KEY"
        raise UsageError(f"{folder} is signed already", remedy=remedy)
    if not (folder / STATEMENT).is_file():
        why = f"{folder / STATEMENT} is missing: it was removed, the run had nothing to boot, or the extra"
        raise UsageError(f"{why} 'promotion' of Bootproof was not installed", remedy="run the tests again")
    statement = (folder / STATEMENT).read_bytes()
    attested = attest.unsigned(statement, str(folder / STATEMENT))
    try:
        is_same = attest.are_same(serialization.read(Verdict, folder / _VERDICT), attested.verdict)
    except ValueError:
        is_same = False
    if not is_same:
        raise NotVerified(f"{folder / _VERDICT} and {STATEMENT} differ: one was changed after the run", RESTORE)
    for name in (SBOM, EVENTS):
        if name in attested.configuration:  # statements of older runs do not name the events
            _check_unchanged(folder / name, attested.configuration[name])
    for name, sha256 in attested.files.items():
        if attested.verdict.digests.get(name, sha256) != sha256:
            raise NotVerified(f"{folder / STATEMENT} and its verdict name different digests of {name}", RESTORE)
    return statement, attested


def _check_unchanged(path: Path, sha256: str) -> None:
    """`NotVerified` unless the file has that SHA-256."""
    if not path.is_file():
        raise NotVerified(f"{path} is missing: it was removed after the run", RESTORE)
    if digest.of_file(path) != sha256:
        raise NotVerified(f"{path} was changed after the run", RESTORE)

"""The commands promote and rollback."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_command, add_tree
from harness.core.errors import UsageError
from harness.core.terminal import to_stderr

if TYPE_CHECKING:
    from harness.model.artifacts import Artifacts
    from harness.promotion.promote import Promoter
    from harness.promotion.published_tree import Proof

TRUST_VARIABLE = "BOOTPROOF_TRUST"
_PROMOTE = """\
Publish the artifacts that the newest run of IMAGE tested, and point STREAM to them. The run's attestation must be
signed by a key that the policy trusts, be about exactly these bytes, and meet all demands of the policy. Several runs
of the same bytes may meet them together; a part of a run in shards does not count before bootproof merge. A refusal
lists every reason with the command that resolves it, and changes nothing. A stream changes in one atomic step.

The policy itself must be signed (bootproof attest sign) with the private half of the key given by --trust.
"""
_PROMOTE_EPILOG = """\
examples:
  bootproof promote nova-kvm --to candidate                          the newest run of pytest --image nova-kvm
  bootproof promote nova-kvm --to stable --run runs/A --run runs/B   two runs that cover the policy together
  bootproof promote nova-kvm --to stable --from candidate            what candidate points to, by the demands of stable
  bootproof promote nova-kvm --to stable --tree backup:images        to a remote that rclone knows as backup

exit status: 0 promoted, or already there; 1 refused; 4 a wrong option or policy; 75 a problem of this host
"""
_ROLLBACK = """\
Point STREAM back to the build before, or to the one named by --to. Its files and its attestation are verified again.
"""
_ROLLBACK_EPILOG = """\
examples:
  bootproof rollback nova-kvm --stream stable
  bootproof rollback nova-kvm --stream stable --to 3f9a01c2     a digest from `bootproof history nova-kvm stable`

exit status: 0 rolled back; 1 the older build is damaged or its key is not trusted; 4 a wrong option or policy;
75 a problem of this host
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    # fmt: off
    summary = "publish a tested build to a stream"
    promote = add_command(commands, "promote", _promote, summary, _PROMOTE, _PROMOTE_EPILOG)
    promote.add_argument("image", metavar="IMAGE", help="the name of an image")
    promote.add_argument("--to", required=True, metavar="STREAM", help="the stream, such as candidate or stable")
    source = promote.add_mutually_exclusive_group()
    source.add_argument("--run", type=Path, action="append", metavar="DIR", dest="run_folders",
        help="the folder of a run or merged run (repeatable: together they prove it; default: the newest in runs/)")
    source.add_argument("--from", dest="source", metavar="STREAM", help="promote what this stream points to")
    promote.add_argument("--artifacts", type=Path, metavar="DIR",
        help="the artifacts that the run tested (default: from the store)")
    summary = "point a stream back to its previous build"
    rollback = add_command(commands, "rollback", _rollback, summary, _ROLLBACK, _ROLLBACK_EPILOG)
    rollback.add_argument("image", metavar="IMAGE", help="the name of an image")
    rollback.add_argument("--stream", required=True, metavar="STREAM", help="the stream to roll back")
    rollback.add_argument("--to", default="", metavar="DIGEST",
        help="these artifacts, by the beginning of their digest (default: the previous)")
    for parser in (promote, rollback):
        add_tree(parser)
        parser.add_argument("--policy", type=Path, metavar="FILE",
            help="the signed policy (default: images/policy.toml)")
        parser.add_argument("--trust", metavar="KEY",
            help="the public key that verifies the policy: a file, or hexadecimal digits (default: "
            f"${TRUST_VARIABLE})")
    # fmt: on


def _promote(options: argparse.Namespace) -> int:
    from harness.promotion.promote import promote
    from harness.promotion.select import artifacts_of_stream, open_named_tree

    with ExitStack() as stack:
        tree = open_named_tree(options.tree, stack, options.image)
        if options.source:
            artifacts, proofs = artifacts_of_stream(tree, options.image, options.source)
        else:
            folders = options.run_folders or [_newest_run(options.image)]
            proofs = tuple(map(_proof_of, dict.fromkeys(folders)))
            artifacts = _artifacts_of(proofs[0], options.artifacts, stack)
        before = tree.tree.current(options.image, options.to)
        promoter = _promoter(options)
        if before and (before.entry.artifacts == artifacts.digest or promoter.has_fleet(options.to)):
            tree.fetch_artifacts(options.image, options.to)
        pointer = promote(tree.tree, options.image, options.to, artifacts, proofs, promoter, to_stderr)
        tree.publish(pointer)
    verb = "already points" if before == pointer else "now points"
    entry = pointer.entry
    print(f"{options.image} {options.to} {verb} to {entry.version} ({entry.artifacts[:12]}), attested by {entry.by}")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from harness.promotion.promote import roll_back
    from harness.promotion.select import open_named_tree

    with ExitStack() as stack:
        tree = open_named_tree(options.tree, stack, options.image)
        tree.fetch_artifacts(options.image, options.stream)
        pointer = roll_back(tree.tree, options.image, options.stream, _promoter(options), options.to)
        tree.publish(pointer)
    entry = pointer.entry
    print(f"{options.image} {options.stream} points to {entry.version} ({entry.artifacts[:12]}) again")
    return 0


def _promoter(options: argparse.Namespace) -> Promoter:
    from harness.model.definition import find_images
    from harness.promotion.attest import read_public
    from harness.promotion.promote import Promoter

    trust = options.trust or os.environ.get(TRUST_VARIABLE)
    if not trust:
        raise UsageError(f"no key to verify the policy with; give --trust KEY or set ${TRUST_VARIABLE}")
    return Promoter.now(options.policy or find_images(Path.cwd()) / "policy.toml", read_public(trust))


def _proof_of(folder: Path) -> Proof:
    """The proof of a run; `NotVerified` if its verdict.json is not the attested verdict."""
    from harness.core import serialization
    from harness.model.layout import ATTESTATION
    from harness.model.verdict import Verdict
    from harness.promotion import attest
    from harness.promotion.published_tree import read_proof

    proof = read_proof(folder)
    claimed = attest.unverified(proof.attestation, str(folder / ATTESTATION)).verdict
    try:
        is_edited = not attest.are_same(serialization.read(Verdict, folder / "verdict.json"), claimed)
    except (OSError, ValueError):
        is_edited = True
    if is_edited:
        raise attest.NotVerified(
            f"{folder / 'verdict.json'} is not the verdict that was attested",
            "somebody changed the file after the run: run the tests again",
        )
    return proof


def _artifacts_of(proof: Proof, given: Path | None, stack: ExitStack) -> Artifacts:
    """The artifacts that a run tested, in the folder ``given`` or the store."""
    from harness.model.artifacts import load_artifacts
    from harness.promotion import attest
    from harness.store.store import find_store

    if given:
        return load_artifacts(given)
    digest = attest.unverified(proof.attestation, "the attestation").verdict.digests.get("artifacts", "none")
    store = find_store()
    return store.hold(lambda: store.artifacts(digest), stack)


def _newest_run(image: str) -> Path:
    stamp = re.compile(rf"[\d-]+T[\d-]+-{re.escape(image)}(-merged)?(-\d+)?")
    found = sorted(folder for folder in Path("runs").glob("*") if stamp.fullmatch(folder.name))
    if not found:
        raise UsageError(f"no run of {image} in {Path('runs').absolute()}; name its folder with --run")
    return found[-1]

"""The release keeper's commands: attest, promote, rollback, streams."""

from __future__ import annotations

import argparse
import json
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UsageError
from harness.promotion.select import TREE_VARIABLE, artifacts_of_stream, open_named_tree

if TYPE_CHECKING:
    from harness.model.artifacts import Artifacts
    from harness.promotion.promote import Promoter
    from harness.promotion.published_tree import Proof, StreamEntry

Commands = argparse._SubParsersAction  # what argparse has no public name for

TRUST = "BOOTPROOF_TRUST"
_PROMOTE = """\
Let STREAM carry what the newest run has proven of IMAGE: if the run's attestation is signed by a key that the policy
trusts, is about these very bytes, and has all that the policy demands. Every refusal is named, with the command that
would supply what is missing; nothing has changed then. A stream changes in one step, for everybody at once.

The policy must be signed itself (bootproof attest sign), by the key whose public half is given with --trust.
"""
_PROMOTE_EPILOG = """\
examples:
  bootproof promote nova-kvm --to candidate                the last run of pytest --image nova-kvm
  bootproof promote nova-kvm --to stable --from candidate  what the other stream carries, by stable's demands
  bootproof promote nova-kvm --to stable --tree backup:images   a tree that rclone knows by that name

exit status: 0 promoted, or carried already; 1 refused; 4 a wrong option or policy; 75 this host is at fault
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    _add_attest(commands)
    _add_promote(commands)
    _add_rollback(commands)
    _add_streams(commands)


def _add_attest(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "attest",
        help="make keys, sign a policy, verify what a run attests",
        description="A run that is given a key (pytest --sign-key KEY, or $BOOTPROOF_SIGN_KEY) signs its verdict: "
        "attestation.json in its folder is an in-toto statement about the artifacts, in a DSSE envelope.",
    )
    verbs = parser.add_subparsers(required=True, metavar="key|sign|verify")
    key = verbs.add_parser(
        "key", help="make a key", description="Make an Ed25519 key: FILE, and FILE.pub to give away."
    )
    key.add_argument("file", type=Path, metavar="FILE")
    key.set_defaults(run=_key)
    sign = verbs.add_parser("sign", help="sign a file", description="Write FILE.sig, such as a policy's.")
    sign.add_argument("file", type=Path, metavar="FILE")
    sign.add_argument("--key", metavar="KEY", help="a private key (default: $BOOTPROOF_SIGN_KEY)")
    sign.set_defaults(run=_sign)
    verify = verbs.add_parser(
        "verify",
        help="check an attestation, offline",
        description="Check the signature, and print what is attested. With --artifacts also that these are the bytes.",
    )
    verify.add_argument("file", type=Path, metavar="ATTESTATION")
    verify.add_argument("--key", required=True, metavar="KEY", help="a public key: a file, or 64 hexadecimal digits")
    verify.add_argument("--artifacts", type=Path, metavar="DIR", help="a folder to compare, byte for byte")
    verify.add_argument("--json", action="store_true", help="for scripts: all that is attested")
    verify.set_defaults(run=_verify)


def _add_keeper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, metavar="FILE", help="default: images/policy.toml")
    parser.add_argument(
        "--trust", metavar="KEY", help=f"the public key that signs the policy: a file, or hex (default: ${TRUST})"
    )


def add_tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tree",
        metavar="DIR|REMOTE:PATH",
        help=f"what is published: a folder, or rclone's name (default: ${TREE_VARIABLE})",
    )


def _add_promote(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "promote",
        help="let a stream carry what was proven",
        description=_PROMOTE,
        epilog=_PROMOTE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--to", required=True, metavar="STREAM", help="such as candidate or stable")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--run", type=Path, metavar="DIR", dest="run_folder", help="a run's folder (default: the newest)"
    )
    source.add_argument("--from", dest="source", metavar="STREAM", help="what this stream carries, and its attestation")
    parser.add_argument("--artifacts", type=Path, metavar="DIR", help="where the bytes are (default: the store)")
    add_tree(parser)
    _add_keeper(parser)
    parser.set_defaults(run=_promote)


def _add_rollback(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "rollback",
        help="let a stream carry what it carried before",
        description="Let STREAM carry what it carried before. Its bytes and its attestation are looked at again.",
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--stream", required=True, metavar="STREAM")
    parser.add_argument("--to", default="", metavar="DIGEST", help="not the last, but these artifacts")
    add_tree(parser)
    _add_keeper(parser)
    parser.set_defaults(run=_rollback)


def _add_streams(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("streams", help="what each stream carries", description="What each stream carries.")
    add_tree(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_streams)


# What they do


def _key(options: argparse.Namespace) -> int:
    from harness.promotion import attest

    print(f"{options.file}.pub: {attest.make_key(options.file)}")
    return 0


def _sign(options: argparse.Namespace) -> int:
    from harness.promotion import attest

    signer = attest.read_signer(options.key)
    if signer is None:
        raise UsageError(f"no key: --key names one, or ${attest.KEY_VARIABLE}; bootproof attest key FILE makes one")
    print(attest.sign_file(options.file, signer))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from harness.core import serialization
    from harness.promotion import attest
    from harness.promotion.published_tree import check_files

    public = attest.read_public(options.key)
    try:
        envelope = options.file.read_bytes()
    except OSError as error:
        raise UsageError(f"{options.file} cannot be read: {error.strerror}") from None
    attested = attest.verify(envelope, {"the given one": public}, str(options.file))
    if options.artifacts:
        check_files(options.artifacts, attested.files)
    if options.json:
        print(json.dumps(serialization.dump(attested), indent=2))
        return 0
    verdict = attested.verdict
    print(f"{verdict.image} {verdict.version}: {verdict.outcome}, {verdict.started}")
    for name, sha256 in attested.files.items():
        print(f"  {sha256}  {name}")
    coverage = verdict.coverage
    for word, checks in (("passed", coverage.passed), ("failed", coverage.failed), ("not proven", coverage.missing)):
        if checks:
            print(f"  {word}: {', '.join(checks)}")
    return 0


def _promote(options: argparse.Namespace) -> int:
    from harness.promotion.promote import promote

    with ExitStack() as until:
        tree = open_named_tree(options.tree, until, options.image)
        if options.source:
            artifacts, proof = artifacts_of_stream(tree, options.image, options.source)
        else:
            artifacts, proof = _proven(options, until)
        before = tree.tree.current(options.image, options.to)
        if before and before.entry.artifacts == artifacts.digest:
            tree.fetch_artifacts(options.image, options.to)
        pointer = promote(tree.tree, options.image, options.to, artifacts, proof, _keeper(options))
        tree.publish(pointer)
    carries = f"{options.image} {options.to} carries {pointer.entry.version} ({pointer.entry.artifacts[:12]})"
    print(f"{carries}{' already' if before == pointer else ''}, as {pointer.entry.by} attested")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from harness.promotion.promote import roll_back

    with ExitStack() as until:
        tree = open_named_tree(options.tree, until, options.image)
        tree.fetch_artifacts(options.image, options.stream)
        pointer = roll_back(tree.tree, options.image, options.stream, _keeper(options), options.to)
        tree.publish(pointer)
    print(f"{options.image} {options.stream} carries {pointer.entry.version} ({pointer.entry.artifacts[:12]}) again")
    return 0


def _streams(options: argparse.Namespace) -> int:
    from harness.core import serialization

    with ExitStack() as until:
        tree = open_named_tree(options.tree, until).tree
        carried = [pointer for name in tree.streams() if (pointer := tree.current(*name))]
    if options.json:
        print(json.dumps(serialization.dump(carried), indent=2))
        return 0
    rows = [[one.image, one.stream, *told(one.entry)] for one in carried]
    print_table(("image", "stream", *COLUMNS), rows)
    return 0


COLUMNS = ("version", "artifacts", "since", "by", "how")


def told(entry: StreamEntry) -> list[str]:
    return [entry.version, entry.artifacts[:12], entry.at, entry.by, entry.action]


def print_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from harness.core.tables import new_table, show

    table = new_table(*columns)
    for row in rows:
        table.add_row(*row)
    show(table)


# What they are about


def _keeper(options: argparse.Namespace) -> Promoter:
    from harness.model.definition import find_images
    from harness.promotion.attest import read_public
    from harness.promotion.promote import Promoter

    trust = options.trust or os.environ.get(TRUST)
    if not trust:
        raise UsageError(f"no key to trust: --trust names the one that signs the policy, or ${TRUST}")
    policy = options.policy or find_images(Path.cwd()) / "policy.toml"
    return Promoter.now(policy, read_public(trust))


def _proven(options: argparse.Namespace, until: ExitStack) -> tuple[Artifacts, Proof]:
    """The bytes and the proof of a run."""
    from harness.core import serialization
    from harness.model.artifacts import load_artifacts
    from harness.model.layout import ATTESTATION
    from harness.model.verdict import Verdict
    from harness.promotion import attest
    from harness.promotion.published_tree import read_proof
    from harness.store.store import find_store

    folder = options.run_folder or _newest_run(options.image)
    proof = read_proof(folder)
    claimed = attest.unverified(proof.attestation, str(folder / ATTESTATION)).verdict
    try:
        is_edited = serialization.read(Verdict, folder / "verdict.json") != claimed
    except (OSError, ValueError):
        is_edited = True
    if is_edited:
        remedy = "nobody reads it here but you, but somebody changed it: run the tests again"
        raise attest.NotVerified(f"{folder / 'verdict.json'} is not the verdict that was attested", remedy)
    about = claimed.digests.get("artifacts", "none")
    if options.artifacts:
        return load_artifacts(options.artifacts), proof
    store = find_store()
    return store.hold(lambda: store.artifacts(about), until), proof


def _newest_run(image: str) -> Path:
    stamp = re.compile(rf"[\d-]+T[\d-]+-{re.escape(image)}(-\d+)?")
    found = sorted(folder for folder in Path("runs").glob("*") if stamp.fullmatch(folder.name))
    if not found:
        raise UsageError(f"no run of {image} in {Path('runs').absolute()}; --run names the folder of one")
    return found[-1]

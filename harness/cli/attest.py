"""The command attest: keys, signatures, and verifying what a run attests."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import Commands, HelpFormatter, add_command, add_json, print_json

if TYPE_CHECKING:
    from harness.model.artifacts import Artifacts

_DESCRIPTION = """\
Make keys, sign a policy or a finished run, verify an attestation.

A run that has a key (pytest --sign-key KEY, or $BOOTPROOF_SIGN_KEY) signs its verdict: attestation.json in its folder
is an in-toto statement about the artifacts, in a DSSE envelope.
"""
_EPILOG = """\
examples:
  bootproof attest key ci.key                            ci.key is private, ci.key.pub can be published
  bootproof attest sign images/policy.toml --key release.key
  bootproof attest sign runs/latest --key ci.key         a run that had no key, perhaps on another host
  bootproof attest verify runs/latest/attestation.json --key ci.key.pub --artifacts ./nova-kvm

exit status: 0; 1 the attestation is not valid, or the run changed; 4 a wrong option or key, or a file that is not an
attestation
"""
_KEY = "Make an Ed25519 key pair: the private key FILE and the public key FILE.pub. Existing files are not overwritten."
_SIGN = """\
Sign FILE, such as a policy, and write the signature to FILE.sig.

Or sign the finished run in the folder RUN, which had no key: check that its verdict, bill of materials and events are
those of its statement.json, and write attestation.json. The artifacts are compared with the statement too, if this
host has them. A run's folder can be copied to a host with the key first.
"""
_SIGN_EPILOG = """\
examples:
  bootproof attest sign images/policy.toml --key release.key
  bootproof attest sign runs/2026-11-21T12-00-00-nova-kvm --key ci.key

exit status: 0 signed; 1 the run or its artifacts changed; 4 a wrong option or key, or not the folder of a run
"""
_VERIFY = """\
Check the signature of ATTESTATION, and print what it attests. With --artifacts, also check that the files in DIR are
the attested ones.
"""


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    summary = "make keys, sign a policy or a run, verify an attestation"
    parser = commands.add_parser(
        "attest", help=summary, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=HelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="key|sign|verify")
    key = add_command(verbs, "key", _key, "make a key pair", _KEY)
    key.add_argument("file", type=Path, metavar="FILE", help="the private key to write")
    sign = add_command(verbs, "sign", _sign, "sign a file or a run", _SIGN, _SIGN_EPILOG)
    sign.add_argument("file", type=Path, metavar="FILE|RUN", help="the file, or the folder of the run, to sign")
    sign.add_argument("--key", metavar="KEY", help="a private key (default: $BOOTPROOF_SIGN_KEY)")
    sign.add_argument(
        "--artifacts", type=Path, metavar="DIR", help="the artifacts that the run tested (default: from the store)"
    )
    verify = add_command(verbs, "verify", _verify, "verify an attestation, offline", _VERIFY)
    verify.add_argument("file", type=Path, metavar="ATTESTATION", help="attestation.json of a run")
    verify.add_argument("--key", required=True, metavar="KEY", help="a public key: a file, or 64 hexadecimal digits")
    verify.add_argument("--artifacts", type=Path, metavar="DIR", help="a folder of artifacts to compare")
    add_json(verify, "the attested verdict and files")


def _key(options: argparse.Namespace) -> int:
    from harness.promotion import attest

    print(f"{options.file}.pub: {attest.make_key(options.file)}")
    return 0


def _sign(options: argparse.Namespace) -> int:
    from harness.core.errors import UsageError
    from harness.promotion import attest

    signer = attest.read_signer(options.key)
    if signer is None:
        raise UsageError(
            f"no key: give --key FILE or set ${attest.KEY_VARIABLE} (`bootproof attest key FILE` makes one)"
        )
    if options.file.is_dir():
        return _sign_run(options.file, options.artifacts, signer)
    if options.artifacts:
        raise UsageError(f"--artifacts is only for a run, and {options.file} is not a folder")
    print(attest.sign_file(options.file, signer))
    return 0


def _sign_run(folder: Path, given: Path | None, signer: Any) -> int:
    from harness.core.errors import UsageError
    from harness.core.terminal import to_stderr
    from harness.model.artifacts import load_artifacts
    from harness.promotion.sign_run import sign_run
    from harness.store.store import find_store

    def find_artifacts(digest: str) -> Artifacts | None:
        if given:
            return load_artifacts(given)
        store = find_store()
        try:
            return store.hold(lambda: store.artifacts(digest), stack)
        except UsageError:
            to_stderr(
                f"the artifacts {digest[:12]} are not in {store.root} and are not compared; promote compares them"
            )
            return None

    with ExitStack() as stack:
        print(sign_run(folder, find_artifacts, signer))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from harness.core.errors import UsageError
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
        print_json(attested)
        return 0
    verdict, coverage = attested.verdict, attested.verdict.coverage
    print(f"{verdict.image} {verdict.version}: {verdict.outcome}, {verdict.started}")
    for name, sha256 in attested.files.items():
        print(f"  {sha256}  {name}")
    for word, checks in (("passed", coverage.passed), ("failed", coverage.failed), ("not proven", coverage.missing)):
        if checks:
            print(f"  {word}: {', '.join(checks)}")
    for check, reason in coverage.not_applicable.items():
        print(f"  not applicable: {check}: {reason}")
    return 0

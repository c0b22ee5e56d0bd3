"""Attestations: signed verdicts about files that are named by SHA-256, to be verified without the run's folder.

An attestation is an in-toto statement (v1) with a test-result predicate (v0.1) in a DSSE envelope, signed with
Ed25519. All JSON is canonical: a file with the same content in another spelling is refused, so that no byte of it can
change unnoticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from harness.core import digest, serialization
from harness.core.errors import ImageError, UsageError, optional
from harness.core.serialization import Format
from harness.model.artifacts import FILE_NAME, MANIFEST, Artifacts, Manifest
from harness.model.layout import ATTESTATION, EVENTS, PLAN, SBOM, STATEMENT
from harness.model.verdict import Outcome, Verdict
from harness.packages import database_of

KEY_VARIABLE = "BOOTPROOF_SIGN_KEY"
_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_FILE_TYPE = "application/octet-stream"
_NEEDED = "signing and verifying need securesystemslib"
_CONFIGURATION = ("definition", "suite", "harness")
RESTORE = "restore the run's folder from a copy, or run the tests again"


class NotVerified(ImageError):
    """A signature, a digest or a proof is not valid: ``why`` in a sentence, ``remedy`` says how to fix it."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why, remedy)
        self.why, self.remedy = why, remedy

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}" if self.remedy else self.why


class Unreadable(NotVerified):
    """A file is not an attestation or a signature at all."""

    exit_status = UsageError.exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """The content of an attestation: a ``verdict`` about ``files`` (name to SHA-256), signed by the key called ``by``.

    ``configuration`` has the SHA-256 of what else the run depended on or recorded: the definition, the bill of
    materials, the events and others. ``by`` is empty if no signature was verified.
    """

    verdict: Verdict
    files: dict[str, str]
    configuration: dict[str, str]
    by: str

    @property
    def sbom(self) -> str:
        """The SHA-256 of the bill of materials; empty if there is none."""
        return self.configuration.get(SBOM, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a run depended on or recorded, by ``name`` and its ``digest`` ("sha256" → hex)."""

    name: str
    digest: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """The predicate of the statement: in-toto's test-result v0.1, with the whole verdict and the number of its format.

    ``result`` is PASSED or FAILED. A check that is not applicable is in neither list: the verdict has its reason.
    """

    FORMAT: ClassVar[Format] = Format(kind="an attestation", number=2, upgrades={0: dict, 1: dict})

    format: int = 2
    result: str
    configuration: tuple[Configured, ...]
    passedTests: tuple[str, ...]  # noqa: N815  # in-toto's spelling
    failedTests: tuple[str, ...]  # noqa: N815  # in-toto's spelling
    verdict: Verdict


def statement(verdict: Verdict, artifacts: Artifacts, bound: Mapping[str, str]) -> bytes:
    """The in-toto statement to sign; an inconclusive verdict is FAILED.

    ``bound`` maps the names of further files to their SHA-256: the bill of materials, the events, the policy in force.
    """
    with optional("promotion", "an attestation needs in-toto-attestation"):
        from google.protobuf.json_format import MessageToDict
        from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
        from in_toto_attestation.v1.statement import Statement

    files = {name: file.sha256 for name, file in artifacts.manifest.files.items()}
    files[MANIFEST] = digest.of_file(artifacts.folder / MANIFEST)
    settings = {name: verdict.digests[name] for name in _CONFIGURATION} | dict(bound)
    predicate = Predicate(
        configuration=tuple(Configured(name=name, digest={"sha256": sha256}) for name, sha256 in settings.items()),
        verdict=verdict,
        **_summary(verdict),
    )
    subjects = [ResourceDescriptor(name=name, digest={"sha256": files[name]}).pb for name in sorted(files)]
    made = Statement(subjects, _PREDICATE, _plain(predicate))
    made.validate()
    return _canonical(MessageToDict(made.pb))


def _summary(verdict: Verdict) -> dict[str, Any]:
    """The fields of the predicate that repeat the verdict."""
    return {
        "result": "PASSED" if verdict.outcome is Outcome.PASSED else "FAILED",
        "passedTests": verdict.coverage.passed,
        "failedTests": (*verdict.coverage.failed, *verdict.coverage.missing),
    }


def _plain(value: Any) -> Any:
    """``value`` as plain JSON in UTF-8: a quoted line of a console may hold what has no UTF-8."""
    return json.loads(json.dumps(serialization.dump(value), ensure_ascii=False).encode("utf-8", "replace"))


def are_same(one: Verdict, attested: Verdict) -> bool:
    """Whether ``attested`` is what an attestation of ``one`` holds."""
    return bool(_plain(one) == _plain(attested))


def sign(payload: bytes, key: Any, payload_type: str = _STATEMENT_TYPE) -> bytes:
    """A DSSE envelope around ``payload``, signed by ``key``, which `read_signer` returned."""
    with optional("promotion", _NEEDED):
        from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, payload_type, {})
    envelope.sign(key)
    return _canonical(envelope.to_dict())


def sign_file(path: Path, key: Any) -> Path:
    """Sign any file, such as a policy; the signature is put beside it, with the suffix ``.sig``."""
    signature = path.with_name(f"{path.name}.sig")
    try:
        signature.write_bytes(sign(path.read_bytes(), key, _FILE_TYPE))
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    return signature


def verify_file(path: Path, keys: Mapping[str, str]) -> bytes:
    """The bytes of ``path``, which one of ``keys`` has signed; `NotVerified` otherwise."""
    signature = path.with_name(f"{path.name}.sig")
    remedy = f"run bootproof attest sign {path} --key KEY, which writes {signature.name}"
    if not signature.exists():
        raise NotVerified(f"{path} is not signed", remedy)
    content = path.read_bytes()
    payload, _ = _opened(signature.read_bytes(), keys, _FILE_TYPE, str(signature))
    if payload != content:
        raise NotVerified(f"{path} was changed after it was signed", remedy)
    return content


def verify(envelope: bytes, keys: Mapping[str, str], where: str) -> Attestation:
    """The attestation in ``envelope``, signed by one of ``keys`` (name to public key in hex).

    `NotVerified` otherwise; ``where`` names the envelope in its message.
    """
    return _attested(*_opened(envelope, keys, _STATEMENT_TYPE, where), where)


def unverified(envelope: bytes, where: str) -> Attestation:
    """The attestation in ``envelope``; its signature is not verified."""
    return _attested(_envelope(envelope, _STATEMENT_TYPE, where).payload, "", where)


def unsigned(statement: bytes, where: str) -> Attestation:
    """The content of a ``statement`` that a run wrote; `NotVerified` if it is damaged, or its parts do not agree."""
    try:
        attested = _attested(statement, "", where)
    except Unreadable as error:
        raise NotVerified(f"{where} was changed after the run", RESTORE) from error
    content = json.loads(statement)
    summary = _plain(_summary(attested.verdict))
    if _canonical(content) != statement or {name: content["predicate"].get(name) for name in summary} != summary:
        raise NotVerified(f"{where} was changed after the run", RESTORE)
    return attested


def _attested(payload: bytes, by: str, where: str) -> Attestation:
    try:
        content = json.loads(payload)
        if content["predicateType"] != _PREDICATE:
            raise ValueError(f"its predicate is {content['predicateType']}")
        files = {subject["name"]: subject["digest"]["sha256"] for subject in content["subject"]}
        predicate = Predicate.FORMAT.upgrade(content["predicate"], where)
        settings = {one["name"]: one["digest"]["sha256"] for one in predicate["configuration"]}
        verdict = serialization.load(Verdict, predicate["verdict"], where)
        if strange := [name for name in files if not FILE_NAME.fullmatch(name)]:
            raise ValueError(f"it names a file {strange[0]!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        is_sentence = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError | UnicodeError)
        why = str(error) if is_sentence else "it does not hold an in-toto statement with a test result"
        raise Unreadable(f"{where} is not a valid attestation of a verdict: {why}") from error
    return Attestation(verdict=verdict, files=files, configuration=settings, by=by)


def _opened(envelope: bytes, keys: Mapping[str, str], payload_type: str, where: str) -> tuple[bytes, str]:
    """The payload, and the name of the key that signed it."""
    with optional("promotion", _NEEDED):
        from securesystemslib.exceptions import VerificationError

    opened = _envelope(envelope, payload_type, where)
    for name, public in keys.items():
        try:
            opened.verify([_public_key(public)], 1)
        except VerificationError:
            continue
        payload: bytes = opened.payload
        return payload, name
    known = ", ".join(keys) or "none"
    raise NotVerified(f"{where} is not signed by a trusted key ({known}), or was changed", "sign it with a trusted key")


def _envelope(envelope: bytes, payload_type: str, where: str) -> Any:
    with optional("promotion", _NEEDED):
        from securesystemslib.dsse import Envelope

    try:
        opened = Envelope.from_dict(json.loads(envelope))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = "an attestation" if payload_type == _STATEMENT_TYPE else "a signature"
        raise Unreadable(f"{where} is not {what}: it does not hold a DSSE envelope in JSON") from error
    if opened.payload_type != payload_type:
        raise Unreadable(f"{where} is an envelope of {opened.payload_type!r}, not of {payload_type!r}")
    if _canonical(opened.to_dict()) != envelope:
        raise NotVerified(f"{where} was changed, or another program wrote it", "sign it again")
    return opened


def _public_key(public: str) -> Any:
    """Its key id is the one that `read_signer` gives to signatures."""
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # re-exported, but without __all__

    return SSlibKey(public[:16], "ed25519", "ed25519", {"public": public})


# Keys


def make_key(path: Path) -> str:
    """Write a new private key to ``path``, readable by its owner only, and the public key in hex to ``path``.pub.

    Returns the public key in hex; no existing file is overwritten.
    """
    with optional("promotion", _NEEDED):
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # re-exported, without __all__

    signer = CryptoSigner.generate_ed25519()
    public = str(signer.public_key.keyval["public"])
    half = path.with_name(f"{path.name}.pub")
    for file, content, mode in ((half, f"{public}\n".encode(), 0o644), (path, signer.private_bytes, 0o600)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise UsageError(f"{file} exists; keys are never overwritten") from None
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
    return public


def read_signer(given: str | None, environ: Mapping[str, str] = os.environ) -> Any | None:
    """The signer for the key in the file ``given``, or in $BOOTPROOF_SIGN_KEY (a file's name, or the key itself).

    None if there is neither; `UsageError` if it is not an Ed25519 key.
    """
    text = given or environ.get(KEY_VARIABLE, "").strip()
    if not text:
        return None
    with optional("promotion", _NEEDED):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # re-exported, without __all__
    where = given or f"${KEY_VARIABLE}"  # never its value, which may be the key itself
    try:
        pem = text.encode() if text.startswith("-----BEGIN") else Path(text).read_bytes()
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("it is not an Ed25519 key")
    except OSError as error:
        raise UsageError(f"the key {where} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        remedy = "run bootproof attest key FILE to make one"
        raise UsageError(f"{where} does not hold a private Ed25519 key in PEM: {error}; {remedy}") from error
    signer = CryptoSigner(key)
    return CryptoSigner(key, _public_key(str(signer.public_key.keyval["public"])))


def read_public(given: str) -> str:
    """A public key in hex: ``given`` itself, or read from the file ``given`` (hex or PEM); `UsageError` otherwise."""
    with optional("promotion", _NEEDED):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        text = given if _is_public(given) else Path(given).read_text("ascii").strip()
        if _is_public(text):
            return text
        key = load_pem_public_key(text.encode())
    except OSError as error:
        raise UsageError(f"the public key {given} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{given} does not hold a public Ed25519 key, in hex or PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{given} holds a key of another kind; only Ed25519 is supported")
    return key.public_bytes_raw().hex()


def _is_public(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def sbom(manifest: Manifest) -> bytes:
    """The packages as a CycloneDX document; the same artifacts give the same bytes."""
    import uuid

    with optional("promotion", "a bill of materials needs cyclonedx-python-lib"):
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot5
        from packageurl import PackageURL

    database = database_of(manifest.packages)
    kind, vendor = (database.purl_type, database.vendor(manifest.packages)) if database else ("generic", "")

    def package(name: str, version: str) -> Component:
        number, qualifiers = database.purl_version(version) if database else (version, {})
        purl = PackageURL(kind, vendor, name, number, qualifiers)
        return Component(name=name, version=version, purl=purl, bom_ref=name)

    image = Component(
        name=manifest.image, version=manifest.version, type=ComponentType.OPERATING_SYSTEM, bom_ref="image"
    )
    packages = [package(*item) for item in sorted(manifest.packages.items())]
    serial = uuid.uuid5(uuid.NAMESPACE_OID, manifest.digest)
    bom = Bom(components=packages, metadata=BomMetaData(component=image), serial_number=serial)
    bom.register_dependency(image, packages)
    document = json.loads(JsonV1Dot5(bom).output_as_string())
    document.get("metadata", {}).pop("timestamp", None)
    return _canonical(document)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def write_all(
    folder: Path,
    verdict: Verdict,
    artifacts: Artifacts,
    signer: Any | None,
    policy: str = "",
    parts: Mapping[str, str] = MappingProxyType({}),
) -> Sequence[Path]:
    """Write the bill of materials and the attestation, or without a ``signer`` the statement, to a run's ``folder``.

    ``parts`` maps each part of a merged run to the SHA-256 of its own attestation.
    """
    bill = sbom(artifacts.manifest)
    bound = {SBOM: digest.of_bytes(bill), **({"policy": policy} if policy else {}), **parts}
    bound |= {name: digest.of_file(folder / name) for name in (EVENTS, PLAN) if (folder / name).exists()}
    content = statement(verdict, artifacts, bound)
    written = {SBOM: bill, **({ATTESTATION: sign(content, signer)} if signer else {STATEMENT: content})}
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in written]

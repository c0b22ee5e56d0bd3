"""Attestations: a verdict about named bytes, signed, for whoever cannot look into the folder of the run.

An in-toto statement (v1) with a test-result predicate (v0.1) in a DSSE envelope, signed with Ed25519. Files have one
spelling: one that reads the same but is written differently is refused, so that no byte of it can change unseen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.core import digest, serialization
from harness.core.errors import ImageError, UsageError, optional
from harness.core.serialization import Format
from harness.model.artifacts import FILE_NAME, MANIFEST, Artifacts, Manifest
from harness.model.layout import ATTESTATION, SBOM, STATEMENT
from harness.model.verdict import Outcome, Verdict

KEY_VARIABLE = "BOOTPROOF_SIGN_KEY"
_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_FILE_TYPE = "application/octet-stream"
_NEEDED = "signing and verifying need securesystemslib"
_CONFIGURATION = ("definition", "suite", "harness")


class Refused(ImageError):
    """What claims to be proven is not: ``why`` in a sentence, ``remedy`` what would mend it."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why, remedy)
        self.why, self.remedy = why, remedy

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}" if self.remedy else self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a signature vouches for: a ``verdict`` about files by SHA-256, said by the key called ``by``."""

    verdict: Verdict
    files: dict[str, str]
    sbom: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a run depended on, by ``name`` and its ``digest`` ("sha256" → hex)."""

    name: str
    digest: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """The predicate of the statement: in-toto's test-result v0.1, with the whole verdict and the number of its format.

    ``result`` is PASSED or FAILED.
    """

    FORMAT: ClassVar[Format] = Format(kind="an attestation", number=1, upgrades={0: dict})

    format: int = 1
    result: str
    configuration: tuple[Configured, ...]
    passedTests: tuple[str, ...]  # noqa: N815  # in-toto's spelling
    failedTests: tuple[str, ...]  # noqa: N815  # in-toto's spelling
    verdict: Verdict


def statement(verdict: Verdict, artifacts: Artifacts, sbom: bytes, policy: str = "") -> bytes:
    """What is signed; ``policy`` is the SHA-256 of that which was in force. Inconclusive is no success."""
    with optional("promotion", "an attestation needs in-toto-attestation"):
        from google.protobuf.json_format import MessageToDict
        from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
        from in_toto_attestation.v1.statement import Statement

    def described(name: str, sha256: str) -> Any:
        return ResourceDescriptor(name=name, digest={"sha256": sha256}).pb

    files = {name: file.sha256 for name, file in artifacts.manifest.files.items()}
    files[MANIFEST] = digest.of_file(artifacts.folder / MANIFEST)
    settings = {name: verdict.digests[name] for name in _CONFIGURATION} | {SBOM: digest.of_bytes(sbom)}
    settings |= {"policy": policy} if policy else {}
    predicate = Predicate(
        result="PASSED" if verdict.outcome is Outcome.PASSED else "FAILED",
        configuration=tuple(Configured(name=name, digest={"sha256": sha256}) for name, sha256 in settings.items()),
        passedTests=verdict.coverage.passed,
        failedTests=(*verdict.coverage.failed, *verdict.coverage.missing),
        verdict=verdict,
    )
    plain = json.loads(_text(json.dumps(serialization.dump(predicate), ensure_ascii=False)))
    made = Statement([described(*item) for item in sorted(files.items())], _PREDICATE, plain)
    made.validate()
    return _spelt(MessageToDict(made.pb))


def sign(payload: bytes, key: Any, payload_type: str = _STATEMENT_TYPE) -> bytes:
    """A DSSE envelope around ``payload``, by a signer of `read_signer`."""
    with optional("promotion", _NEEDED):
        from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, payload_type, {})
    envelope.sign(key)
    return _spelt(envelope.to_dict())


def sign_file(path: Path, key: Any) -> Path:
    """A signature of any file, such as a policy, beside it."""
    signature = path.with_name(f"{path.name}.sig")
    try:
        signature.write_bytes(sign(path.read_bytes(), key, _FILE_TYPE))
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    return signature


def verify_file(path: Path, keys: Mapping[str, str]) -> bytes:
    """The bytes of ``path``, which one of ``keys`` has signed; `Refused` otherwise."""
    signature = path.with_name(f"{path.name}.sig")
    remedy = f"bootproof attest sign {path} --key KEY makes {signature.name}"
    if not signature.exists():
        raise Refused(f"{path} is not signed", remedy)
    content = path.read_bytes()
    payload, _ = _opened(signature.read_bytes(), keys, _FILE_TYPE, str(signature))
    if payload != content:
        raise Refused(f"{path} is not what was signed", remedy)
    return content


def verify(envelope: bytes, keys: Mapping[str, str], where: str) -> Attested:
    """What the envelope attests, if one of ``keys`` (name → public key in hex) signed it; `Refused` otherwise."""
    return _attested(*_opened(envelope, keys, _STATEMENT_TYPE, where), where)


def unverified(envelope: bytes, where: str) -> Attested:
    """What the envelope claims, whoever wrote it."""
    return _attested(_envelope(envelope, _STATEMENT_TYPE, where).payload, "", where)


def _attested(payload: bytes, by: str, where: str) -> Attested:
    try:
        said = json.loads(payload)
        if said["predicateType"] != _PREDICATE:
            raise ValueError(f"its predicate is {said['predicateType']}")
        files = {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]}
        predicate = Predicate.FORMAT.upgrade(said["predicate"], where)
        settings = {one["name"]: one["digest"]["sha256"] for one in predicate["configuration"]}
        verdict = serialization.load(Verdict, predicate["verdict"], where)
        if strange := [name for name in files if not FILE_NAME.fullmatch(name)]:
            raise ValueError(f"it is about a file called {strange[0]!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{where} is no attestation of a verdict: {error}") from error
    return Attested(verdict=verdict, files=files, sbom=settings.get(SBOM, ""), by=by)


def _opened(envelope: bytes, keys: Mapping[str, str], payload_type: str, where: str) -> tuple[bytes, str]:
    """What is inside, and the name of the key that signed it."""
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
    raise Refused(f"{where} is not signed by a key that is trusted here ({known}), or was changed", "sign it with one")


def _envelope(envelope: bytes, payload_type: str, where: str) -> Any:
    with optional("promotion", _NEEDED):
        from securesystemslib.dsse import Envelope

    try:
        opened = Envelope.from_dict(json.loads(envelope))
        if _spelt(opened.to_dict()) != envelope or opened.payload_type != payload_type:
            raise ValueError("it was written by something else, or changed since")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"{where} is no envelope of ours: {error}", "run the tests again") from error
    return opened


def _public_key(public: str) -> Any:
    """Its id is what `read_signer` gives its signatures."""
    from securesystemslib.signer._key import SSlibKey  # signer/__init__ re-exports it, but not for mypy

    return SSlibKey(public[:16], "ed25519", "ed25519", {"public": public})


# Keys


def make_key(path: Path) -> str:
    """A new private key at ``path``, for its owner alone to read; the public one in hex, kept in ``path``.pub too."""
    with optional("promotion", _NEEDED):
        from securesystemslib.signer._crypto_signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    public = str(signer.public_key.keyval["public"])
    half = path.with_name(f"{path.name}.pub")
    for file, content, mode in ((half, f"{public}\n".encode(), 0o644), (path, signer.private_bytes, 0o600)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise UsageError(f"{file} is there already; no key is ever overwritten") from None
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
    return public


def read_signer(given: str | None, environ: Mapping[str, str] = os.environ) -> Any | None:
    """The signer of the key in the file ``given``, else in $BOOTPROOF_SIGN_KEY (a file's name, or the key itself).

    None if there is neither; `UsageError` for what is no Ed25519 key.
    """
    text = given or environ.get(KEY_VARIABLE, "").strip()
    if not text:
        return None
    with optional("promotion", _NEEDED):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer._crypto_signer import CryptoSigner
    where = given or f"${KEY_VARIABLE}"  # whose value may be the key itself, and is never shown
    try:
        pem = text.encode() if text.startswith("-----BEGIN") else Path(text).read_bytes()
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("it is no Ed25519 key")
    except OSError as error:
        raise UsageError(f"the key {where} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        remedy = "bootproof attest key FILE makes one"
        raise UsageError(f"{where} holds no private Ed25519 key in PEM: {error}; {remedy}") from error
    signer = CryptoSigner(key)
    return CryptoSigner(key, _public_key(str(signer.public_key.keyval["public"])))


def read_public(given: str) -> str:
    """A public key in hex: ``given`` itself, or what a file holds (hex, or PEM); `UsageError` for anything else."""
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
        raise UsageError(f"{given} holds no public Ed25519 key, in hex or PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{given} holds a key of another kind; Ed25519 it must be")
    return key.public_bytes_raw().hex()


def _is_public(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def sbom(manifest: Manifest) -> bytes:
    """The packages as a CycloneDX document, the same for the same artifacts."""
    import uuid

    with optional("promotion", "a bill of materials needs cyclonedx-python-lib"):
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot5
        from packageurl import PackageURL

    def package(name: str, version: str) -> Component:
        return Component(name=name, version=version, purl=PackageURL("deb", "debian", name, version), bom_ref=name)

    image = Component(
        name=manifest.image, version=manifest.version, type=ComponentType.OPERATING_SYSTEM, bom_ref="image"
    )
    packages = [package(*item) for item in sorted(manifest.packages.items())]
    serial = uuid.uuid5(uuid.NAMESPACE_OID, manifest.digest)
    bom = Bom(components=packages, metadata=BomMetaData(component=image), serial_number=serial)
    bom.register_dependency(image, packages)
    document = json.loads(JsonV1Dot5(bom).output_as_string())
    document.get("metadata", {}).pop("timestamp", None)
    return _spelt(document)


def _text(text: str) -> str:
    """What has no UTF-8 (a console may say anything) as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _spelt(value: Any) -> bytes:
    """JSON as it is always spelt here."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def write_all(
    folder: Path, verdict: Verdict, artifacts: Artifacts, signer: Any | None, policy: str = ""
) -> Sequence[Path]:
    """The bill of materials, the statement and, with a ``signer``, the attestation of a run in its folder."""
    bill = sbom(artifacts.manifest)
    said = statement(verdict, artifacts, bill, policy)
    written = {SBOM: bill, **({ATTESTATION: sign(said, signer)} if signer else {STATEMENT: said})}
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in written]

"""Promotion: a stream carries other artifacts from now on, if all that its policy demands was proven of these bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.core import digest, serialization
from harness.core.errors import ImageError, UsageError
from harness.model.artifacts import MANIFEST, Artifacts, Manifest, load_artifacts
from harness.model.verdict import Verdict
from harness.promotion import attest, policy
from harness.promotion.attest import Attested, Refused
from harness.promotion.policy import Budget, Carried, Demands, Policy, Refusal
from harness.promotion.published_tree import Pointer, Proof, PublishedTree, StreamEntry, boot_script, check_files

_BACKWARDS = timedelta(minutes=5)


class NotPromoted(ImageError):
    """The policy refuses, for these ``refusals``."""

    def __init__(self, what: str, refusals: Sequence[Refusal]) -> None:
        super().__init__(what, refusals)
        self.what, self.refusals = what, refusals

    def __str__(self) -> str:
        lines = [f"{self.what} is not promoted:"]
        for refusal in self.refusals:
            lines += [f"  - {refusal.why}", f"      {refusal.remedy}"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoter:
    """Who promotes: by the policy in a file, which the key ``trust`` (public, in hex) has signed; ``at`` this time."""

    policy: Path
    trust: str
    at: datetime

    @classmethod
    def now(cls, policy: Path, trust: str) -> Promoter:
        return cls(policy=policy, trust=trust, at=datetime.now(UTC))

    def rules(self) -> tuple[Policy, str]:
        """The policy and its SHA-256."""
        if not self.policy.is_file():
            raise UsageError(f"there is no policy {self.policy}; --policy names another")
        content = attest.verify_file(self.policy, {"that of --trust": self.trust})
        return policy.load_policy(self.policy, content), digest.of_bytes(content)


def promote(
    tree: PublishedTree, image: str, stream: str, artifacts: Artifacts, proof: Proof, keeper: Promoter
) -> Pointer:
    """Let ``stream`` carry ``artifacts``; `NotPromoted` or `Refused` say why not, and nothing has changed then."""
    rules, rules_digest = keeper.rules()
    demands = _demands(rules, stream, keeper.policy)
    attested = _attested(image, artifacts, proof, rules)
    with tree.locked():
        pointer = tree.current(image, stream)
        _check_clock(pointer, keeper.at)
        needs_now = pointer is not None and demands.budget != Budget()
        now = _carried(tree, pointer, rules) if pointer and needs_now else None
        new = _described(attested.verdict, artifacts.manifest)
        if refusals := list(policy.refusals(demands, new, now, keeper.at)):
            raise NotPromoted(f"{image} {artifacts.manifest.version} ({artifacts.digest[:12]})", refusals)
        if pointer and pointer.entry.artifacts == artifacts.digest:
            check_files(tree.artifacts(artifacts.digest), attested.files)
            return pointer
        tree.put(artifacts, attested.files)
        tree.put_proof(proof)
        entry = _entry(keeper.at, "promote", artifacts.manifest, proof, rules_digest, attested.by)
        return tree.move(image, stream, entry, boot_script(artifacts, image, stream))


def roll_back(tree: PublishedTree, image: str, stream: str, keeper: Promoter, to: str = "") -> Pointer:
    """Let ``stream`` carry what it carried before, or the artifacts whose digest begins with ``to``.

    Its bytes, its attestation and the key are looked at again; what the policy demands was proven then.
    """
    rules, rules_digest = keeper.rules()
    _demands(rules, stream, keeper.policy)
    with tree.locked():
        history = tree.history(image, stream)
        _check_clock(tree.current(image, stream), keeper.at)
        entry = _earlier(history, to, f"{image} {stream}")
        artifacts, proof = load_artifacts(tree.artifacts(entry.artifacts)), tree.proof(entry.attestation)
        attested = _attested(image, artifacts, proof, rules)
        check_files(artifacts.folder, attested.files)
        back = _entry(keeper.at, "rollback", artifacts.manifest, proof, rules_digest, attested.by)
        return tree.move(image, stream, back, boot_script(artifacts, image, stream))


def _earlier(history: Sequence[StreamEntry], to: str, where: str) -> StreamEntry:
    """The last promotion before that of what the stream carries now, to other artifacts."""
    current = history[-1].artifacts
    promotions = [entry for entry in history if entry.action == "promote"]
    last = max((place for place, entry in enumerate(promotions) if entry.artifacts == current), default=len(promotions))
    before = promotions if to else promotions[:last]
    found = [entry for entry in before if entry.artifacts != current and entry.artifacts.startswith(to)]
    if not found:
        there = ", ".join(dict.fromkeys(entry.artifacts[:12] for entry in history if entry.artifacts != current))
        wanted = f"{to!r}" if to else "anything else"
        raise UsageError(f"{where} never carried {wanted}; before {current[:12]} it carried {there or 'nothing'}")
    return found[-1]


def _demands(rules: Policy, stream: str, file: Path) -> Demands:
    if stream not in rules.streams:
        raise UsageError(f"{file} has no stream {stream!r}; it has {', '.join(rules.streams) or 'none'}")
    return rules.streams[stream]


def _attested(image: str, artifacts: Artifacts, proof: Proof, rules: Policy) -> Attested:
    """What the proof says, if it is about this image, these bytes and this bill of materials."""
    attested = attest.verify(proof.attestation, rules.keys, "the attestation")
    verdict, remedy = attested.verdict, f"run pytest --image {image} on these artifacts"
    about = verdict.digests.get("artifacts", "none")
    if verdict.image != image:
        raise Refused(f"the verdict is about the image {verdict.image}, not {image}", remedy)
    if about != artifacts.digest or set(attested.files) != {*artifacts.manifest.files, MANIFEST}:
        raise Refused(f"the verdict is about the artifacts {about[:12]}, not {artifacts.digest[:12]}", remedy)
    if artifacts.manifest.is_ours and verdict.digests.get("definition") != artifacts.manifest.definition:
        raise Refused("the verdict is by another definition than the artifacts were built from", remedy)
    if attested.sbom != digest.of_bytes(proof.sbom):
        raise Refused("the bill of materials is not that of the attestation", remedy)
    return attested


def _check_clock(pointer: Pointer | None, at: datetime) -> None:
    if pointer and datetime.fromisoformat(pointer.entry.at) > at + _BACKWARDS:
        raise Refused(
            f"the stream last changed on {pointer.entry.at}, and here it is {at.isoformat(timespec='seconds')}",
            "set this host's clock",
        )


def _carried(tree: PublishedTree, pointer: Pointer, rules: Policy) -> Carried:
    """What the stream carries now."""
    proof = tree.proof(pointer.entry.attestation)
    attested = attest.verify(proof.attestation, rules.keys, "the attestation of what the stream carries now")
    file = tree.manifest(pointer.entry.artifacts)
    check_files(file.parent, {MANIFEST: attested.files[MANIFEST]})
    manifest = serialization.read(Manifest, file)
    return _described(attested.verdict, manifest)


def _described(verdict: Verdict, manifest: Manifest) -> Carried:
    sizes = {name: file.size_bytes for name, file in manifest.files.items()}
    return Carried(verdict=verdict, sizes=sizes, packages=len(manifest.packages))


def _entry(at: datetime, action: str, manifest: Manifest, proof: Proof, rules_digest: str, by: str) -> StreamEntry:
    return StreamEntry(
        at=at.isoformat(timespec="seconds"),
        action=action,
        artifacts=manifest.digest,
        version=manifest.version,
        attestation=proof.name,
        policy=rules_digest,
        by=by,
        script="",
        previous="",
    )

"""Promotion: point a stream to other artifacts, if everything that its policy requires was proven of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

from harness.core import digest, serialization
from harness.core.errors import BootproofError, ImageError, UsageError
from harness.fleet import FleetChange, ImageDrivers, compare, read_drivers
from harness.model.artifacts import MANIFEST, Artifacts, Manifest, load_artifacts
from harness.model.verdict import Part, Verdict
from harness.promotion import attest
from harness.promotion.attest import Attestation, NotVerified
from harness.promotion.policy import Budget, Policy, ProvenBuild, Refusal, StreamRules, refusals
from harness.promotion.policy_file import load_policy
from harness.promotion.published_tree import Pointer, Proof, PublishedTree, StreamEntry, boot_script, check_files
from harness.promotion.unite import unite
from harness.store.store import find_store

_BACKWARDS = timedelta(minutes=5)
_DRIVERS_NAMED = 8


class NotPromoted(ImageError):
    """The policy refuses the promotion of ``what``, for these ``refusals``."""

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
    """The policy file, the public key in hex that must have signed it (``trust``), and the time of the promotion."""

    policy: Path
    trust: str
    at: datetime

    @classmethod
    def now(cls, policy: Path, trust: str) -> Promoter:
        return cls(policy=policy, trust=trust, at=datetime.now(UTC))

    def read_policy(self) -> tuple[Policy, str]:
        """The policy and its SHA-256."""
        if not self.policy.is_file():
            raise UsageError(f"the policy {self.policy} does not exist; name another with --policy")
        content = attest.verify_file(self.policy, {"that of --trust": self.trust})
        return load_policy(self.policy, content), digest.of_bytes(content)

    def has_fleet(self, stream: str) -> bool:
        """Whether the policy names a fleet for ``stream``, so that the published build is needed."""
        rules = self.read_policy()[0].streams.get(stream)
        return rules is not None and bool(rules.fleet)


def promote(
    tree: PublishedTree,
    image: str,
    stream: str,
    artifacts: Artifacts,
    proofs: Sequence[Proof],
    promoter: Promoter,
    note: Callable[[str], None] = lambda _: None,
) -> Pointer:
    """Point ``stream`` to ``artifacts``, if the runs of ``proofs`` together prove what its policy requires.

    `NotPromoted` or `NotVerified` say why not, and nothing changes then. ``note`` gets sentences that refuse nothing.
    """
    policy, policy_digest = promoter.read_policy()
    rules = _stream_rules(policy, stream, promoter.policy)
    attested = _all_verified(image, artifacts, proofs, policy)
    with tree.locked():
        pointer = tree.current(image, stream)
        _check_clock(pointer, promoter.at)
        needs_now = pointer is not None and (rules.budget != Budget() or bool(rules.fleet))
        now = _published(tree, pointer, policy) if pointer and needs_now else None
        new = _described(attested, artifacts.manifest)
        folder = promoter.policy.parent / rules.fleet
        fleet = _fleet_change(tree, pointer, artifacts, folder, new, now) if rules.fleet else None
        if reasons := list(dict.fromkeys(refusals(rules, new, now, promoter.at, fleet))):
            raise NotPromoted(f"{image} {artifacts.manifest.version} ({artifacts.digest[:12]})", reasons)
        if fleet and fleet.unused:
            note(_dropped(fleet.unused))
        if pointer and pointer.entry.artifacts == artifacts.digest:
            check_files(tree.artifacts(artifacts.digest), attested[0].files)
            return pointer
        tree.put(artifacts, attested[0].files)
        for proof in proofs:
            tree.put_proof(proof)
        entry = _entry(promoter.at, "promote", artifacts.manifest, proofs, policy_digest, attested)
        return tree.move(image, stream, entry, boot_script(artifacts, image, stream))


def _fleet_change(
    tree: PublishedTree, pointer: Pointer | None, artifacts: Artifacts, folder: Path, new: ProvenBuild,
    now: ProvenBuild | None,
) -> FleetChange:  # fmt: skip
    """What the hosts of the fleet in ``folder`` lose relative to the published build, which ``now`` describes."""

    def drivers(artifacts: Artifacts, about: ProvenBuild | None) -> ImageDrivers:
        return replace(read_drivers(artifacts, find_store()), guests=about.verdict.guests if about else None)

    try:
        old = drivers(load_artifacts(tree.artifacts(pointer.entry.artifacts)), now) if pointer else None
        return compare(folder, drivers(artifacts, new), old)
    except BootproofError as error:
        return FleetChange(problem=f"the fleet cannot be judged: {error}")


def _dropped(drivers: Sequence[str]) -> str:
    more = f" and {len(drivers) - _DRIVERS_NAMED} more" if len(drivers) > _DRIVERS_NAMED else ""
    return f"dropped, and used by no host of the fleet: {', '.join(drivers[:_DRIVERS_NAMED])}{more}"


def roll_back(tree: PublishedTree, image: str, stream: str, promoter: Promoter, to: str = "") -> Pointer:
    """Point ``stream`` back to its previous artifacts, or to those whose digest begins with ``to``.

    The files, the attestation and its key are verified again; the policy's requirements were checked at the promotion.
    """
    policy, policy_digest = promoter.read_policy()
    _stream_rules(policy, stream, promoter.policy)
    with tree.locked():
        history = tree.history(image, stream)
        _check_clock(tree.current(image, stream), promoter.at)
        entry = _earlier(history, to, f"{image} {stream}")
        artifacts, proofs = load_artifacts(tree.artifacts(entry.artifacts)), tree.proofs(entry)
        attested = _all_verified(image, artifacts, proofs, policy)
        check_files(artifacts.folder, attested[0].files)
        back = _entry(promoter.at, "rollback", artifacts.manifest, proofs, policy_digest, attested)
        return tree.move(image, stream, back, boot_script(artifacts, image, stream))


def _earlier(history: Sequence[StreamEntry], to: str, where: str) -> StreamEntry:
    """The last promotion to other artifacts, before that of the current ones."""
    current = history[-1].artifacts
    promotions = [entry for entry in history if entry.action == "promote"]
    last = max((place for place, entry in enumerate(promotions) if entry.artifacts == current), default=len(promotions))
    before = promotions if to else promotions[:last]
    found = [entry for entry in before if entry.artifacts != current and entry.artifacts.startswith(to)]
    if not found:
        there = ", ".join(dict.fromkeys(entry.artifacts[:12] for entry in history if entry.artifacts != current))
        wanted = f"{to!r}" if to else "anything else"
        raise UsageError(f"{where} never pointed to {wanted}; before {current[:12]} it pointed to {there or 'nothing'}")
    return found[-1]


def _stream_rules(policy: Policy, stream: str, file: Path) -> StreamRules:
    if stream not in policy.streams:
        raise UsageError(f"{file} has no stream {stream!r}; it has {', '.join(policy.streams) or 'none'}")
    return policy.streams[stream]


def _all_verified(image: str, artifacts: Artifacts, proofs: Sequence[Proof], policy: Policy) -> list[Attestation]:
    """The attestations, each as `_verified`, of runs with the same inputs, none of which repeats another."""
    attested = [_verified(image, artifacts, proof, policy) for proof in proofs]
    for one, other in combinations(attested, 2):
        if one.files != other.files:
            raise NotVerified("the runs attest other bytes of one file", "run both from one copy of the artifacts")
        _check_together(one.verdict, other.verdict)
    return attested


def _check_together(one: Verdict, other: Verdict) -> None:
    both = f"the runs of {one.started} and {other.started}"
    for what in ("definition", "suite", "harness"):
        if one.digests.get(what) != other.digests.get(what):
            raise NotVerified(f"{both} do not count together: the {what} differs", "promote runs of one commit")
    if attest.are_same(one, other):
        raise NotVerified(f"{both} are one run, and count once", "give each run once")
    if shared := {_identity(part) for part in one.parts} & {_identity(part) for part in other.parts}:
        number = min(shared)[0]
        raise NotVerified(f"{both} have part {number} of one plan in common", "give a run that has each part once")


def _identity(part: Part) -> tuple[int, str, str, str]:
    return part.number, part.plan, part.host, part.started


def _verified(image: str, artifacts: Artifacts, proof: Proof, policy: Policy) -> Attestation:
    """The attestation in ``proof``, if it is about this image, these artifacts and this bill of materials."""
    attested = attest.verify(proof.attestation, policy.keys, "the attestation")
    verdict, remedy = attested.verdict, f"run pytest --image {image} on these artifacts"
    about = verdict.digests.get("artifacts", "none")
    if verdict.image != image:
        raise NotVerified(f"the verdict is about the image {verdict.image}, not {image}", remedy)
    if about != artifacts.digest or set(attested.files) != {*artifacts.manifest.files, MANIFEST}:
        raise NotVerified(f"the verdict is about the artifacts {about[:12]}, not {artifacts.digest[:12]}", remedy)
    if artifacts.manifest.is_ours and verdict.digests.get("definition") != artifacts.manifest.definition:
        raise NotVerified("the artifacts were built from another image definition than the verdict names", remedy)
    if attested.sbom != digest.of_bytes(proof.sbom):
        raise NotVerified("the bill of materials is not that of the attestation", remedy)
    return attested


def _check_clock(pointer: Pointer | None, at: datetime) -> None:
    if pointer and datetime.fromisoformat(pointer.entry.at) > at + _BACKWARDS:
        raise NotVerified(
            f"the stream last changed on {pointer.entry.at}, but here it is {at.isoformat(timespec='seconds')}",
            "set this host's clock",
        )


def _published(tree: PublishedTree, pointer: Pointer, policy: Policy) -> ProvenBuild:
    where = "the attestation of the published build"
    attested = [attest.verify(proof.attestation, policy.keys, where) for proof in tree.proofs(pointer.entry)]
    file = tree.manifest(pointer.entry.artifacts)
    check_files(file.parent, {MANIFEST: attested[0].files[MANIFEST]})
    return _described(attested, serialization.read(Manifest, file))


def _described(attested: Sequence[Attestation], manifest: Manifest) -> ProvenBuild:
    sizes = {name: file.size_bytes for name, file in manifest.files.items()}
    runs = tuple(one.verdict for one in attested)
    return ProvenBuild(verdict=unite(runs), runs=runs, sizes=sizes, packages=len(manifest.packages))


def _entry(
    at: datetime,
    action: str,
    manifest: Manifest,
    proofs: Sequence[Proof],
    policy_digest: str,
    attested: Sequence[Attestation],
) -> StreamEntry:
    first, *further = (proof.name for proof in proofs)
    return StreamEntry(
        at=at.isoformat(timespec="seconds"),
        action=action,
        artifacts=manifest.digest,
        version=manifest.version,
        attestation=first,
        policy=policy_digest,
        by=", ".join(dict.fromkeys(one.by for one in attested)),
        script="",
        previous="",
        further=tuple(further),
    )

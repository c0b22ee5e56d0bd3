"""A small proven image: artifacts, a verdict that passed, keys, a signed policy and a tree, in one folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.core import digest, serialization
from harness.model.artifacts import KERNEL, MANIFEST, Artifacts, Manifest, describe, load_artifacts
from harness.model.layout import SBOM
from harness.model.verdict import BootResult, Coverage, Outcome, RuntimeProfile, Verdict
from harness.promotion import attest
from harness.promotion.promote import Promoter, promote
from harness.promotion.published_tree import Pointer, Proof, PublishedTree

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PHASES = {"firmware": 1.0, "kernel": 3.0, "initrd": 20.0, "userspace": 30.0}
TRAITS = RuntimeProfile(memory_mib=300, sockets=("tcp 0.0.0.0:22 sshd",), users={}, groups={}, links={}, units={})
POLICY = """
[keys]
ci = "{ci}"

[streams.stable]
"""


@dataclass(frozen=True, slots=True)
class Proven:
    """All files are in ``folder``."""

    folder: Path

    @property
    def tree(self) -> PublishedTree:
        return PublishedTree(self.folder / "tree")

    @property
    def policy(self) -> Path:
        return self.folder / "policy.toml"

    def key(self, name: str) -> Path:
        path = self.folder / f"{name}.key"
        if not path.exists():
            attest.make_key(path)
        return path

    def public(self, name: str) -> str:
        return attest.read_public(f"{self.key(name)}.pub")

    def promoter(self, at: datetime = NOW) -> Promoter:
        return Promoter(policy=self.policy, trust=self.public("keeper"), at=at)

    def demand(self, text: str = "") -> None:
        """Write and sign a policy with ``text`` as the rules of the stream stable."""
        self.policy.write_text(POLICY.format(ci=self.public("ci")) + text)
        attest.sign_file(self.policy, attest.read_signer(str(self.key("keeper"))))

    def artifacts(self, version: str = "1", *, rootfs: bytes = b"root" * 1000, packages: int = 3) -> Artifacts:
        folder = self.folder / f"artifacts-{version}"
        if not folder.exists():
            folder.mkdir()
            for name, content in ((KERNEL, b"kernel"), ("initrd.img", b"initrd"), ("rootfs.squashfs", rootfs)):
                (folder / name).write_bytes(content + version.encode())
            manifest = Manifest(
                image="site", version=version, kernel_version="6.12", kernel_arguments=("quiet",),
                files={name: describe(folder / name) for name in (KERNEL, "initrd.img", "rootfs.squashfs")},
                packages={f"package{number}": "1" for number in range(packages)}, dracut_modules=(),
                initrd_drivers=(), definition="", sources={}, builder={},
            )  # fmt: skip
            serialization.write(folder / MANIFEST, manifest)
        return load_artifacts(folder)

    def verdict(self, artifacts: Artifacts, *, boots: int = 3, slower: float = 1.0) -> Verdict:
        made = tuple(
            BootResult(
                machine=f"m{number}", number=1, boot_path="direct", artifacts=artifacts.digest, ready_s=54.0 * slower,
                phases={phase: (seconds + number / 10) * slower for phase, seconds in PHASES.items()},
                console="", added_arguments=(), memory_mib=300, idle_s=1.5,
            )
            for number in range(boots)
        )  # fmt: skip
        coverage = Coverage(boot_paths=("direct",), passed=("image", "boot:direct"), failed=(), missing=())
        digests = dict.fromkeys(("definition", "suite", "harness"), "0" * 64)
        return Verdict(
            outcome=Outcome.PASSED, image="site", version=artifacts.manifest.version, findings=(), coverage=coverage,
            digests={"artifacts": artifacts.digest, **digests}, boots=made, host={"accelerator": "tcg: x"},
            started=(NOW - timedelta(hours=1)).isoformat(), elapsed_s=60.0, runtime_profile=TRAITS,
        )  # fmt: skip

    def proof(self, artifacts: Artifacts, verdict: Verdict, key: str = "ci") -> Proof:
        bill = attest.sbom(artifacts.manifest)
        statement = attest.statement(verdict, artifacts, {SBOM: digest.of_bytes(bill)})
        return Proof(attestation=attest.sign(statement, attest.read_signer(str(self.key(key)))), sbom=bill)

    def promote(self, version: str = "1", verdict: Verdict | None = None, at: datetime = NOW) -> Pointer:
        artifacts = self.artifacts(version)
        proof = self.proof(artifacts, verdict or self.verdict(artifacts))
        return promote(self.tree, "site", "stable", artifacts, [proof], self.promoter(at))


def with_coverage(verdict: Verdict, **changes: object) -> Verdict:
    return replace(verdict, coverage=replace(verdict.coverage, **changes))  # type: ignore[arg-type]

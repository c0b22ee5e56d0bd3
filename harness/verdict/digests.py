"""The digests that a verdict is bound to, and facts about its host."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from harness.core import digest
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, sources_digest
from harness.model.prepared import PreparedImage


def digests(definition: ImageDefinition, artifacts: Artifacts, tests: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each input that a verdict is bound to; ``tests`` are folders and files."""
    return {
        "artifacts": artifacts.digest,
        **{name: file.sha256 for name, file in artifacts.manifest.files.items()},
        "definition": sources_digest(definition),
        "suite": digest.of_value([digest.of_folder(path) if path.is_dir() else digest.of_file(path) for path in tests]),
        "harness": digest.of_package(Path(__file__).parents[1], without="suite"),
    }


def host_facts(prepared: PreparedImage) -> dict[str, str]:
    """Facts about the host for readers of the verdict."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "accelerator": f"{prepared.accelerator}: {prepared.accelerator_reason}",
        **({"slowness": f"{prepared.slowness:g} times the reference machine's"} if prepared.slowness > 1 else {}),
        "network": f"{prepared.network}: {prepared.network_reason}",
        **({"network faults": ", ".join(prepared.network_faults)} if prepared.network_faults else {}),
        **({"hardware": prepared.hardware} if prepared.hardware else {}),
    }

"""Writes docs/schemas/ anew: ``python -m tests.schemas`` (``make schemas``). `test_formats` compares."""

from __future__ import annotations

import json
from pathlib import Path

from harness.core.json_schema import schema
from harness.model.artifacts import Manifest
from harness.model.verdict import Verdict
from harness.promotion.attest import Predicate
from harness.replay.bundle import Bundle

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
FORMATS: dict[str, tuple[type, str]] = {
    "verdict": (Verdict, "verdict.json in the folder of a run"),
    "manifest": (Manifest, "manifest.json in a folder of artifacts"),
    "attestation": (Predicate, "The predicate of attestation.json, in the in-toto statement inside the DSSE envelope"),
    "bundle": (Bundle, "bundle.json, the first file in a bundle"),
}


def text(name: str) -> str:
    """The content of ``name``.schema.json."""
    return json.dumps(schema(*FORMATS[name]), indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in FORMATS:
        (FOLDER / f"{name}.schema.json").write_text(text(name))

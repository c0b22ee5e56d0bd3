"""The features of the file system that holds a persistent path: the guest's program, run here on an image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import process
from harness.persistence import file_systems
from harness.persistence.databases import changed_formats


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("^orphan_file,^metadata_csum_seed", "ext4 with common features"),
        ("orphan_file,metadata_csum_seed", "ext4 with orphan_file, metadata_csum_seed"),
    ],
)
def test_what_not_every_release_has_is_named(tmp_path: Path, features: str, expected: str) -> None:
    image, text = tmp_path / "image", tmp_path / "text"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    process.output([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-O", features, str(image)])
    text.write_bytes(bytes(4096))

    done = subprocess.run(
        [sys.executable, "-", str(image), str(text)],
        input=file_systems._LOOK,
        text=True,
        capture_output=True,
        check=True,
    )

    found = json.loads(done.stdout)
    assert {path: file_systems.describe(*masks) for path, masks in found.items()} == {str(image): expected}


def test_a_feature_that_came_with_an_upgrade_is_a_changed_format() -> None:
    (sentence,) = changed_formats(
        {"the file system of /srv": file_systems.describe(0x3C, 0x2C2, 0x46B)},
        {"the file system of /srv": file_systems.describe(0x103C, 0x2C2, 0x46B)},
    )
    assert sentence == "the file system of /srv: ext4 with common features → ext4 with orphan_file"

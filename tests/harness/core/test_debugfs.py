"""debugfs ends with status 0 when a request fails; the harness notices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.core import process
from harness.core.debugfs import NOT_FOUND, debugfs
from harness.core.process import CommandFailed


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "ext4"
    subprocess.run([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", str(image), "4M"], check=True)
    return image


def test_requests_read_and_change_a_file_system(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")

    debugfs(image, "mkdir /folder", f"write {tmp_path}/file /folder/file", writes=True)

    assert debugfs(image, "cat /folder/file") == "content"


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        (["cat /nowhere"], "File not found"),
        (["mkdir a", "mkdir a", "mkdir b"], "already exists"),
        (["mkdri a"], "Command not found"),
        (["write /dev/null y", "fallocate y 0 100000"], "Could not allocate block"),
    ],
)
def test_a_request_that_fails_is_an_error_with_its_words(image: Path, requests: list[str], words: str) -> None:
    with pytest.raises(CommandFailed, match=words):
        debugfs(image, *requests, writes=True)


def test_a_file_that_is_no_file_system_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")

    with pytest.raises(CommandFailed, match="Filesystem not open"):
        debugfs(tmp_path / "text", "ls")


def test_what_a_caller_expects_to_fail_is_ignored(image: Path) -> None:
    assert debugfs(image, "cat /nowhere", ignored=NOT_FOUND) == ""

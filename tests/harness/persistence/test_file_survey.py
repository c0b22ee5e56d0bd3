"""File surveys see every attribute that a file system has: the guest's program, run on this host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.machine.verbs import GuestVerbs
from harness.persistence.file_survey import FOLDER, FileSurvey, differences


class Here(GuestVerbs):
    """A machine whose shell is this host's."""

    name = "here"

    @property
    def channel(self) -> Channel:
        raise NotImplementedError

    def run(self, command: str, _: Deadline | None = None) -> Completed:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env={"PATH": path})
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """A link to a folder, as a persistent path is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "location").symlink_to(tmp_path / "data")
    return tmp_path / "location"


def test_nothing_differs_where_nothing_was_done(location: Path) -> None:
    survey = FileSurvey((str(location),))

    survey.make(Here())
    survey.record(Here())
    survey.compare(Here(), "now")

    assert survey.losses == []
    assert {Path(path).name for path in survey.recorded} >= {"file", "hard-link", "link", "fifo", "sparse", "sticky"}


def replace_hard_link(folder: Path) -> None:
    content = (folder / "file").read_bytes()
    (folder / "hard-link").unlink()
    (folder / "hard-link").write_bytes(content)


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "content": ("file: content was", lambda folder: (folder / "file").write_bytes(b"x")),
    "mode": ("setuid: mode was -rwsr-xr-x", lambda folder: (folder / "setuid").chmod(0o755)),
    "owner": ("sparse: owner was", lambda folder: os.chown(folder / "sparse", 12345, -1)),
    "group": ("sparse: group was", lambda folder: os.chown(folder / "sparse", -1, 12345)),
    "attribute": ("file: attributes was", lambda folder: os.removexattr(folder / "file", "user.bootproof")),
    "acl": ("file: attributes was", lambda folder: os.removexattr(folder / "file", "system.posix_acl_access")),
    "hard link": ("hard-link: inode was", replace_hard_link),
    "hole": ("sparse: blocks was", lambda folder: (folder / "sparse").write_bytes((folder / "sparse").read_bytes())),
    "time": ("setuid: modified_ns was 1234567890123456789", lambda folder: os.utime(folder / "setuid")),
    "link": ("/link is gone", lambda folder: (folder / "link").unlink()),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_named(location: Path, change: str) -> None:
    sentence, do = CHANGES[change]
    survey = FileSurvey((str(location),))
    survey.make(Here())
    survey.record(Here())

    do(location / FOLDER)
    survey.compare(Here(), "later")

    assert any(sentence in loss and loss.startswith("later: ") for loss in survey.losses), survey.losses


def test_a_guest_without_the_means_says_so(location: Path) -> None:
    location.unlink()

    with pytest.raises(ImageError, match="No such file"):
        FileSurvey((str(location),)).make(Here())


def test_a_path_that_is_gone_is_one_sentence() -> None:
    assert list(differences({"/a": {"mode": "x", "links": 1}}, {})) == ["/a is gone"]

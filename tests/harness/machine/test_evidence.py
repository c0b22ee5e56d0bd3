"""What is kept of a boot, with a guest whose commands fail."""

from __future__ import annotations

from pathlib import Path

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.machine.evidence import keep_journal


class Failing(Channel):
    """A guest in which every command prints half an answer and fails."""

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        return Completed(command=command, status=1, stdout=b"half\n", stderr=b"no bus\n")


def test_half_a_journal_is_kept_with_the_reason_that_there_is_no_more(tmp_path: Path) -> None:
    keep_journal(Failing(), tmp_path)

    assert (tmp_path / "journal.log").read_text() == "half\n\njournalctl ended with status 1: no bus\n"

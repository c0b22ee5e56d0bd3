"""SSH to a guest: who is to blame when ssh itself fails."""

from __future__ import annotations

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError
from harness.guest.ssh import SshChannel


@pytest.mark.parametrize(
    ("reason", "blame"),
    [("No user exists for uid 12345", Blame.HOST), ("Connection refused", Blame.IMAGE)],
)
def test_a_user_without_a_name_is_not_the_images_fault(reason: str, blame: Blame) -> None:
    def run_ssh(_argv: list[str], _deadline: Deadline) -> tuple[int, bytes, bytes]:
        return 255, b"", reason.encode()

    with pytest.raises(BootproofError, match=reason) as failed:
        SshChannel("machine", ["ssh"], run_ssh).run("true")

    assert failed.value.blame is blame

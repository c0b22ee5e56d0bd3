"""What a kernel no longer does about a flaw is told; what it does otherwise is not."""

from __future__ import annotations

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.examine.defences import defences, weakened
from harness.guest.channel import Channel, Completed

BEFORE = {
    "flaw mds": "Mitigation: Clear CPU buffers; SMT disabled",
    "flaw meltdown": "Not affected",
    "flaw itlb_multihit": "KVM: Vulnerable",
    "lockdown": "integrity",
    "security modules": "lockdown,capability,apparmor",
    "microcode": "0xd6",
}


class Answers(Channel):
    """Gives one answer to whatever is asked."""

    def __init__(self, *answers: str) -> None:
        names = ("flaws of the CPU", "lockdown", "security modules", "CPU")
        texts = (f"{text}\n\n\x1e{name} 0\n" for name, text in zip(names, answers, strict=True))
        self.stdout = "".join(texts).encode()

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        return Completed(command=command, status=0, stdout=self.stdout, stderr=b"")


def test_defences_are_read() -> None:
    flaws = "/sys/devices/system/cpu/vulnerabilities/mds:Not affected"
    read = defences(Answers(flaws, "none [integrity] confidentiality", "lockdown,apparmor", "microcode\t: 0xd6"))

    assert read == {
        "flaw mds": "Not affected",
        "lockdown": "integrity",
        "security modules": "lockdown,apparmor",
        "microcode": "0xd6",
    }
    assert defences(Answers(flaws, "absent", "absent", "processor: 0")) == {"flaw mds": "Not affected"}
    with pytest.raises(ImageError, match="flaws"):
        defences(Answers("sorry", "absent", "absent", "x"))


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        {**BEFORE, "flaw mds": "Mitigation: other"},
        {**BEFORE, "lockdown": "confidentiality", "microcode": "0xd7"},
        {key: value for key, value in BEFORE.items() if not key.startswith("flaw")},
    ],
    ids=["same", "other", "better", "untold"],
)
def test_what_is_as_good_is_in_order(after: dict[str, str]) -> None:
    assert list(weakened(BEFORE, after)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flaw mds", "Vulnerable"),
        ("flaw meltdown", "Vulnerable: no microcode"),
        ("lockdown", "none"),
        ("security modules", "lockdown,capability"),
        ("microcode", "0xd5"),
    ],
)
def test_what_is_lost_is_told(name: str, value: str) -> None:
    assert len(list(weakened(BEFORE, {**BEFORE, name: value}))) == 1

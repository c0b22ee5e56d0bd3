"""What a host is used for follows from its image, and a use that fails is a finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.examine.soak.use import Action, actions_of, unchecked, use_once
from harness.guest.channel import Channel, ChannelTimeout, Completed
from harness.model.definition import ImageDefinition, load_definition

from .hosts import GROUND

ROOT = Path(__file__).parents[4]
ALL = frozenset({"networkctl", "logrotate", "udevadm", "virsh"})
LOGIN = Action(name="login", command="true", is_login=True)


class Ends(Channel):
    """Ends each command with ``status``; none within the time, if that is None."""

    def __init__(self, status: int | None = 0) -> None:
        self.status = status

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        if self.status is None:
            raise ChannelTimeout("machine", command, 60.0, "Is sshd there?")
        return Completed(command=command, status=self.status, stdout=b"", stderr=b"no lease\n")


@pytest.fixture(scope="module")
def definition() -> ImageDefinition:
    return replace(load_definition(ROOT / "images" / "base"), sockets=())


def names(programs: frozenset[str], definition: ImageDefinition) -> list[str]:
    return [action.name for action in actions_of(replace(GROUND, programs=programs), definition)]


def test_a_host_is_used_for_what_its_image_has(definition: ImageDefinition) -> None:
    hypervisor = replace(definition, sockets=("libvirtd.socket",))

    assert names(frozenset(), definition) == ["login", "journal-rotation"]
    assert "guest" not in names(ALL, definition)
    assert names(ALL, hypervisor) == [
        "login", "dhcp-renewal", "journal-rotation", "log-rotation", "udev-events", "guest",
    ]  # fmt: skip


def test_what_it_cannot_be_used_for_is_told(definition: ImageDefinition) -> None:
    assert list(unchecked(replace(GROUND, programs=ALL), definition)) == []
    assert len(list(unchecked(GROUND, definition))) == 2


def test_a_use_that_works_is_no_finding() -> None:
    assert use_once(LOGIN, Ends(1), Ends(0), 1) is None
    assert use_once(replace(LOGIN, is_login=False), Ends(0), Ends(1), 1) is None


@pytest.mark.parametrize(
    ("status", "text"), [(1, "round 7: it ended with status 1"), (None, "round 7: machine: timed out")]
)
def test_a_use_that_fails_or_hangs_is_a_finding_with_its_round(status: int | None, text: str) -> None:
    finding = use_once(LOGIN, Ends(), Ends(status), 7)

    assert finding is not None
    assert (finding.id, finding.path) == ("use-fails", "use:login")
    assert finding.what.startswith(text)

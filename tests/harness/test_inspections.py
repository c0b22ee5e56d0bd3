"""Every inspection notices each of its programs when it is broken; a stub answers for programs that need a guest.

``make bench ROWS=inspections`` does the same in a real guest.
"""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.guests.domains import Domain
from harness.guests.ground import Ground
from harness.guests.offer import read_offer
from harness.guests.survey import survey
from harness.model.definition import load_definition
from harness.persistence.locations import Location, serials

from ..broken_commands import BREAKS, BreakableChannel, break_each
from ..inspections import inspections

ROOT = Path(__file__).parents[2]
RECORDED = tomllib.loads((Path(__file__).parent / "guest" / "recorded.toml").read_text("utf-8"))
"""What commands printed in a guest of base, shortened: by program and arguments."""
GUEST = Domain(name="one", uuid=UUID(int=7), mac="52:54:00:00:00:01", disk="/one.qcow2", network="guests")
STUB = """\
#!/bin/sh
case "$*" in
{cases}
    *) exec {program} "$@" ;;
esac
"""


class Here(Channel):
    """This host's shell, with ``folder`` first in PATH."""

    def __init__(self, folder: Path) -> None:
        self._environment = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=self._environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def channel(tmp_path: Path) -> BreakableChannel:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for program, answers in RECORDED.items():
        cases = ""
        for number, (arguments, output) in enumerate(answers.items()):
            (tmp_path / f"{program}-{number}").write_text(output, "utf-8")
            cases += f"    '{arguments}') exec /bin/cat {tmp_path}/{program}-{number} ;;\n"
        (stubs / program).write_text(STUB.format(cases=cases.rstrip(), program=f"/usr/bin/{program}"), "utf-8")
        (stubs / program).chmod(0o755)
    return BreakableChannel(Here(stubs), str(tmp_path / "broken"))


@pytest.fixture
def machine(channel: BreakableChannel, tmp_path: Path) -> SimpleNamespace:
    """What stands for a machine of base, with one persistent path."""
    (tmp_path / "kept").mkdir()
    definition = load_definition(ROOT / "images" / "base")
    paths = SimpleNamespace(persistent_paths=(str(tmp_path / "kept"),), services=definition.services)
    return SimpleNamespace(name="machine", definition=paths, channel=channel, run=channel.run)


def test_each_inspection_notices_each_broken_program_and_names_it(
    machine: SimpleNamespace, channel: BreakableChannel
) -> None:
    on_disk = Location(path="/data", device="/dev/sda2", mount="/data", root="/", inner="/")
    all_of_them = {
        **inspections(machine),
        "serial numbers": lambda: serials(channel, on_disk),
        "what guests may have": lambda: read_offer(channel),
        "guests after a boot": lambda: survey(channel, [GUEST], Ground.NETWORKD),
    }
    for name in ("host", "soak"):  # they look at all processes and mounts, which must be a guest's
        del all_of_them[name]

    tried = list(break_each(channel, all_of_them))

    assert [one for one in tried if one.problem] == []
    assert set(all_of_them) - {one.inspection for one in tried} <= {"partition number"}, "there is no such partition"
    assert {one.how for one in tried} == set(BREAKS)
    assert {"systemctl", "uname", "od", "ss", "cat", "find", "diff", "lsblk", "python3"} <= {
        one.program for one in tried
    }


def test_an_inspection_that_does_not_look_at_a_status_is_found(channel: BreakableChannel) -> None:
    careless = {"careless": lambda: channel.run("uname -r | tr -d x").text}

    assert {one.how for one in break_each(channel, careless) if one.problem} == set(BREAKS)

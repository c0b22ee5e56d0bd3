"""What the OOM killer chose is read from the kernel's own line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.examine.soak import pressure
from harness.examine.soak.pressure import HOG, Pressure, judge, victims
from harness.model.definition import ImageDefinition, load_definition

ROOT = Path(__file__).parents[4]
LINE = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/system.slice/{unit},task={task},pid=812,uid=0"
)


@pytest.fixture(scope="module")
def definition() -> ImageDefinition:
    base = load_definition(ROOT / "images" / "base")
    return replace(base, services=("ssh.service",), sockets=("libvirtd.socket",), waiting=())


def killed(*units: str) -> Pressure:
    begin = "systemd-journald invoked oom-killer: gfp_mask=0x140cca"
    lines = [begin, *(LINE.format(unit=one, task="x y") for one in units)]
    return Pressure(victims=tuple(victims(lines)))


def test_the_process_that_took_the_memory_is_the_right_victim(definition: ImageDefinition) -> None:
    assert killed(HOG).victims[0][0] == HOG
    assert list(judge(killed(HOG), definition)) == []
    assert list(pressure.unchecked(killed(HOG))) == []


@pytest.mark.parametrize("unit", ["ssh.service", "libvirtd.service"])
def test_a_service_of_the_definition_is_never_to_be_chosen(definition: ImageDefinition, unit: str) -> None:
    (finding,) = judge(killed(unit, HOG, unit), definition)

    assert (finding.id, finding.path, finding.does_fail) == ("oom-kills-service", f"unit:{unit}", True)
    assert finding.evidence[0].startswith("oom-kill:")


def test_another_victim_is_a_warning(definition: ImageDefinition) -> None:
    (finding,) = judge(killed("agent.service"), definition)

    assert not finding.does_fail


def test_a_service_that_ends_for_another_reason_is_found(definition: ImageDefinition) -> None:
    (finding,) = judge(Pressure(victims=((HOG, LINE),), ended={"ssh.service": "failed"}), definition)

    assert (finding.id, finding.path) == ("oom-kills-service", "unit:ssh.service")


def test_that_the_oom_killer_did_nothing_is_said(definition: ImageDefinition) -> None:
    assert list(judge(Pressure(), definition)) == []
    assert any("did not act" in sentence for sentence in pressure.unchecked(Pressure()))

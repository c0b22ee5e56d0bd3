"""Rules of udev that are not in force."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import udev
from harness.examine.settings import FileState, Texts
from harness.examine.udev import UdevReading


def texts(files: dict[str, str]) -> Texts:
    return Texts(files={path: text.splitlines() for path, text in files.items()})


def found(of: Texts, reading: UdevReading, cards: dict[str, str] | None = None) -> list[str]:
    judged = list(udev.judge(of, reading, cards or {}))
    assert {one.id for one in judged} <= {"setting-not-in-force"}
    return [one.what for one in judged]


RULES = texts(
    {
        "/etc/udev/rules.d/70.rules": 'KERNEL=="kvm", GROUP="kvm", MODE="0660"\n'
        'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="52:54:00:00:00:01", NAME="uplink"\n'
        'KERNEL=="sdb", ENV{X}=="1", MODE="0600"\n# KERNEL=="null", MODE="0600"\n'
        'KERNEL=="ttyS1", SYMLINK+="shell"'
    }
)
DEVICES = {
    "/dev/kvm": FileState(kind="character special file", mode=0o660, user="root", group="kvm"),
    "/dev/sdb": FileState(kind="block special file", mode=0o660, user="root", group="disk"),
    "/dev/ttyS1": FileState(kind="character special file", mode=0o660, user="root", group="tty"),
    "/dev/shell": FileState(kind="symbolic link", mode=0o777, user="root", group="root"),
}


def test_rules_that_were_applied_are_in_order() -> None:
    assert found(RULES, UdevReading(devices=DEVICES), {"52:54:00:00:00:01": "uplink"}) == []


def test_rules_that_were_not_applied_are_found() -> None:
    kvm = FileState(kind="character special file", mode=0o600, user="root", group="root")
    devices = {path: state for path, state in {**DEVICES, "/dev/kvm": kvm}.items() if path != "/dev/shell"}

    assert found(RULES, UdevReading(devices=devices), {"52:54:00:00:00:01": "ens3"}) == [
        "the network card 52:54:00:00:00:01 is called ens3, not uplink",
        "/dev/shell is missing, and a rule makes it",
        "/dev/kvm belongs to root, and by its rule to kvm (GROUP)",
        "/dev/kvm has mode 0600, and by its rule 0660",
    ]


@pytest.mark.parametrize(("operator", "mode"), [("=", 0o666), (":=", 0o660)])
def test_the_last_rule_counts_unless_one_before_is_final(operator: str, mode: int) -> None:
    files = texts(
        {
            "/etc/udev/rules.d/70.rules": f'KERNEL=="kvm|null", MODE{operator}"0660"',
            "/run/udev/rules.d/80.rules": 'KERNEL=="kvm", MODE="0666"',
        }
    )
    kvm = FileState(kind="character special file", mode=mode, user="root", group="kvm")

    assert found(files, UdevReading(devices={"/dev/kvm": kvm})) == []
    assert found(files, UdevReading(devices={"/dev/null": kvm})) == (
        [] if mode == 0o660 else ["/dev/null has mode 0666, and by its rule 0660"]
    )


ATTRIBUTES = texts(
    {
        "/etc/udev/rules.d/60.rules": 'ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="vd[a-z]", '
        'ATTR{queue/scheduler}="mq-deadline"\nKERNEL!="sda", SUBSYSTEM=="block", ATTR{queue/rotational}="0"'
    }
)


def test_attributes_that_rules_set_are_compared() -> None:
    path = "/sys/class/block/vda/queue/scheduler"
    (probe,) = udev.state_probes(ATTRIBUTES)[1:]

    assert "/sys/class/block/vd[a-z]/queue/scheduler" in probe.command
    assert "rotational" not in probe.command
    assert found(ATTRIBUTES, UdevReading(attributes={path: "none [mq-deadline]"})) == []
    assert found(ATTRIBUTES, UdevReading(attributes={path: "[none] mq-deadline"})) == [
        f"{path} is [none] mq-deadline, and its rule sets it to mq-deadline"
    ]


def test_the_state_is_read() -> None:
    read = udev.parse(
        {
            "devices of udev": "look\ncharacter special file|660|root|kvm|/dev/kvm",
            "attributes of devices": "look\n/sys/class/block/vda/queue/scheduler:[none]  mq-deadline",
        }
    )

    assert read.devices["/dev/kvm"].group == "kvm"
    assert read.attributes == {"/sys/class/block/vda/queue/scheduler": "[none] mq-deadline"}
    assert udev.parse({}) == UdevReading()
    with pytest.raises(ImageError, match="devices"):
        udev.parse({"devices of udev": "sorry"})

"""Rules of a definition on a real machine: of each kind of goss resource what is right holds, and what is wrong is
found and named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.examine.rules import Survey, survey
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts
from harness.model.definition import DEFINITION_FILE, ImageDefinition
from harness.model.goss_file import read_goss
from harness.model.rules import OwnCheck
from harness.model.verdict import Outcome
from harness.packages import database_of

from .conftest import Judge
from .ready import Counting, ready_machine

RIGHT = r"""
file:
  /etc/passwd: {exists: true, mode: "0644", owner: root, group: root, uid: 0, gid: 0, filetype: file, size: {gt: 100},
                contents: ["/^root:x:0:0:/", "!toor"]}
  /etc/systemd/network: {exists: true, filetype: symlink, linked-to: /data/etc/systemd/network}
  /tmp: {exists: true, filetype: directory, mode: "1777"}
  /dev/null: {exists: true, filetype: character-device}
  /proc/sys/kernel/ostype: {exists: true, contents: "Linux\n"}
  /etc/none: {exists: false}
  /usr/bin/true: {exists: true, md5: {have-len: 32}, sha256: {match-regexp: "^[0-9a-f]{64}$"}, sha512: {have-len: 128}}
service:
  ssh: {enabled: true, running: true}
  systemd-networkd: {enabled: true, running: true}
  telnetd: {enabled: false, running: false}
port:
  tcp:22: {listening: true, ip: ["0.0.0.0"]}
  tcp6:22: {listening: true, ip: ["::"]}
  tcp:23: {listening: false}
package:
  openssh-server: {installed: true, versions: {contain-element: {match-regexp: '^1:\d'}}}
  telnetd: {installed: false}
command:
  uname -s: {exit-status: 0, stdout: ["Linux"], stderr: ""}
  "echo out; echo err >&2; exit 3": {exit-status: 3, stdout: ["/^out$/"], stderr: ["err", "!out"]}
  no-such-program: {exit-status: 127, stderr: [not found]}
user:
  root: {exists: true, uid: 0, gid: 0, groups: [root], home: /root, shell: {have-prefix: /bin/}}
  nobody: {exists: true, uid: {gt: 65000}}
  toor: {exists: false}
group:
  root: {exists: true, gid: 0}
  wheel: {exists: false}
mount:
  /: {exists: true, filesystem: overlay}
  /data: {exists: true, opts: [rw], vfs-opts: [rw], source: {have-prefix: /dev/}, filesystem: ext4, usage: {lt: 95}}
  /srv: {exists: false}
kernel-param:
  kernel.ostype: {value: Linux}
  net.ipv4.tcp_rmem: {value: {match-regexp: '^\d+\t'}}
process:
  systemd: {running: true}
  sshd: {running: true}
  telnetd: {running: false}
matching:
  enough: {content: [1, 2], matches: {have-len: 2}}
"""
WRONG = {
    "file:/etc/passwd": ("{exists: true, mode: '0600'}", 'mode is "0644"; it must be "0600"'),
    "file:/etc/group": ("{exists: true, owner: nobody}", 'owner is "root"; it must be "nobody"'),
    "file:/etc/hosts": ("{exists: false}", "exists is true; it must be false"),
    "file:/etc/shadow": ("{exists: true, contents: ['!root']}", 'contents does not meet "!root"'),
    "file:/usr/bin/true": ("{exists: true, sha256: '00'}", 'it must be "00"'),
    "file:/etc/none": ("{exists: true, mode: '0644'}", "exists is false; it must be true"),
    "service:ssh": ("{enabled: false}", "enabled is true; it must be false"),
    "service:telnetd": ("{running: true}", "running is false; it must be true"),
    "port:tcp:22": ("{listening: true, ip: [127.0.0.1]}", 'ip is ["0.0.0.0"]; it must be ["127.0.0.1"]'),
    "port:tcp:23": ("{listening: true}", "listening is false; it must be true"),
    "package:openssh-server": ("{installed: true, versions: ['0']}", 'it must be ["0"]'),
    "package:dpkg": ("{installed: false}", "installed is true; it must be false"),
    "command:uname -s": ("{exit-status: 0, stdout: [BSD]}", 'stdout does not meet "BSD"'),
    "command:exit 4": ("{exit-status: 0}", "exit-status is 4; it must be 0"),
    "user:root": ("{exists: true, shell: /bin/zsh}", 'it must be "/bin/zsh"'),
    "user:toor": ("{exists: true}", "exists is false; it must be true"),
    "group:root": ("{exists: true, gid: 1}", "gid is 0; it must be 1"),
    "mount:/data": ("{exists: true, filesystem: xfs}", 'filesystem is "ext4"; it must be "xfs"'),
    "mount:/": ("{exists: true, usage: {gt: 100}}", 'it must be {"gt": 100}'),
    "kernel-param:kernel.ostype": ("{value: BSD}", 'value is "Linux"; it must be "BSD"'),
    "kernel-param:kernel.none": ("{value: '1'}", "the kernel has no such parameter"),
    "process:sshd": ("{running: false}", "running is true; it must be false"),
    "matching:enough": ("{content: [1], matches: {have-len: 2}}", 'matches is [1]; it must be {"have-len": 2}'),
}
NOT_ASKED = {"command:no-such-program": "{exit-status: {not: 0}}"}
CHECKS = (
    OwnCheck(name="it is Linux", command="uname -s", expect="^Linux$"),
    OwnCheck(name="it is BSD", command="uname -s", expect="^BSD$", cause="another kernel"),
    OwnCheck(name="it fails", command="echo so >&2; exit 3"),
    OwnCheck(name="it is missing", command="no-such-program"),
)
MOST_ROUND_TRIPS = 2


def wrong_file() -> str:
    kinds = dict[str, list[str]]()
    for name, attributes in (*((name, row[0]) for name, row in WRONG.items()), *NOT_ASKED.items()):
        kind, _, key = name.partition(":")
        kinds.setdefault(kind, []).append(f'  "{key}": {attributes}')
    return "\n".join(line for kind, rows in kinds.items() for line in (f"{kind}:", *rows)) + "\n"


@pytest.fixture(scope="module")
def machine(base: ImageDefinition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("rules")
    with ready_machine(base, folder) as machine:
        yield machine


@pytest.fixture(scope="module")
def surveyed(machine: Machine, base: ImageDefinition, tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, int]:
    """The answers to all rules, and how many round trips they took."""
    folder = tmp_path_factory.mktemp("goss")
    (folder / "right.yaml").write_text(RIGHT, "utf-8")
    (folder / "wrong.yaml").write_text(wrong_file(), "utf-8")
    goss = tuple(one for name in ("right.yaml", "wrong.yaml") for one in read_goss(folder / name, name))
    channel = Counting(machine.channel)
    found = survey(channel, replace(base, goss=goss, checks=CHECKS), database_of(machine.artifacts.manifest.packages))
    return found, channel.count


def test_what_is_right_holds_in_two_round_trips(surveyed: tuple[Survey, int]) -> None:
    found, round_trips = surveyed
    right = [one for one in found.definition.goss if one.file == "right.yaml"]

    assert {one.name: finding for one in right if (finding := found.judge(one.name))} == {}
    assert {one.kind for one in right} == {name.partition(":")[0] for name in WRONG}
    assert found.judge("it is Linux") is None
    assert round_trips <= MOST_ROUND_TRIPS


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_what_it_is_and_must_be(surveyed: tuple[Survey, int], name: str) -> None:
    finding = surveyed[0].judge(f"wrong.yaml {name}")

    assert finding is not None
    assert finding.id == "rule-broken"
    assert WRONG[name][1] in finding.what
    assert finding.where == f"wrong.yaml: {name.replace(':', ': ', 1)}"


@pytest.mark.parametrize("name", [*(f"wrong.yaml {name}" for name in NOT_ASKED), "it is missing"])
def test_a_missing_program_is_named_and_does_not_pass(surveyed: tuple[Survey, int], name: str) -> None:
    finding = surveyed[0].judge(name)

    assert finding is not None
    assert finding.id == "rule-not-asked"
    assert "no-such-program" in finding.what


def test_a_check_that_fails_has_its_cause(surveyed: tuple[Survey, int]) -> None:
    bsd, fails = surveyed[0].judge("it is BSD"), surveyed[0].judge("it fails")

    assert bsd is not None
    assert fails is not None
    assert (bsd.what, bsd.cause) == ("it is BSD: nothing in the output matches '^BSD$'", "another kernel")
    assert (fails.what, fails.evidence[1:]) == ("it fails: the command ended with status 3", ("so",))


def test_asking_leaves_nothing_behind(surveyed: tuple[Survey, int], machine: Machine) -> None:
    assert surveyed[0].answers.texts
    assert machine.check("ls -A /run | grep bootproof-rules || echo nothing") == "nothing"


def test_a_run_with_rules_fails_with_one_finding_a_rule(
    judge: Judge, artifacts: Artifacts, base: ImageDefinition, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(base.folder, images / base.name)
    (images / "roles").symlink_to(base.roles)
    file = images / base.name / DEFINITION_FILE
    text = file.read_text("utf-8").replace("[expect]\n", '[expect]\ngoss = ["goss.yaml"]\n')
    rules = '[[check]]\nname = "it is Linux"\ncommand = "uname -s"\nexpect = "^Linux$"\n'
    rules += '[[check]]\nname = "it is BSD"\ncommand = "uname -s"\nexpect = "^BSD$"\ncause = "another kernel"\n'
    file.write_text(f"{text}\n{rules}", "utf-8")
    goss = "process:\n  sshd: {running: true}\n  telnetd: {running: true}\n  later: {running: true, skip: true}\n"
    (images / base.name / "goss.yaml").write_text(goss, "utf-8")

    status, verdict = judge(
        base.name, "--artifacts", str(artifacts.folder), "tests/image/test_own_checks.py", images=images
    )

    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert "rules" in verdict.coverage.failed
    found = {(finding.id, finding.evidence[0], finding.cause) for finding in verdict.findings}
    assert found == {
        ("rule-broken", "image.toml: check: it is BSD", "another kernel"),
        ("rule-broken", "goss.yaml: process: telnetd", ""),
    }
    assert {finding.where for finding in verdict.findings} == {*verdict.coverage.failed_tests["rules"]}
    assert len(verdict.coverage.failed_tests["rules"]) == 2
    assert any("the goss file skips it" in sentence for sentence in verdict.coverage.unchecked)

"""Rules of a definition: what a host shows is compared with what it must be, and what it does not say never passes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.deadline import Deadline
from harness.examine.goss_facts import Answers, NotAsked, Unreadable, facts_of, probes_of
from harness.examine.rules import RuleFailed, Survey, judge_check, judge_resource, problems, survey
from harness.guest.channel import Channel, Completed
from harness.model.definition import ImageDefinition, load_definition
from harness.model.rules import GossResource, OwnCheck
from harness.model.verdict import Finding
from harness.packages import database_of

ROOT = Path(__file__).parents[3]
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnova:x:64060:64061::/var/lib/nova:/bin/sh"
GROUP = "root:x:0:\nnova:x:64061:\nkvm:x:107:nova,libvirt-qemu"
MOUNTS = (
    "22 1 0:20 / / rw,relatime - overlay LiveOS_rootfs rw,upperdir=/run/overlayfs\n"
    "30 22 8:2 / /data ro,nosuid - ext4 /dev/sda2 rw,errors=remount-ro"
)
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
ANSWERS = {
    "files of rules": (
        "look\n755\td\troot\troot\t0\t0\t4096\t/\t\n644\tf\troot\tshadow\t0\t42\t7\t/etc/site\t\n"
        "777\tl\troot\troot\t0\t0\t5\t/etc/link\tsite"
    ),
    "contents of /etc/site": "present\nfirst\nsecond\n.",
    "contents of /etc/link": "absent",
    "sha256 of files": "look\ne3b0  /dev/null\nabcd  /etc/site",
    "services of rules": (
        "Id=ssh.service\nActiveState=active\nUnitFileState=enabled\n\n"
        "Id=gone.service\nActiveState=inactive\nUnitFileState="
    ),
    "sockets of the network": "\n".join([
        "look", f"/proc/net/tcp:{TCP}", "/proc/net/tcp:   0: 00000000:0016 00000000:0000 0A 0 0 0 0 0 7 1",
        f"/proc/net/tcp6:{TCP}", f"/proc/net/tcp6:   0: {'0' * 32}:0050 {'0' * 32}:0000 0A 0 0 0 0 0 8 1",
        f"/proc/net/udp:{TCP}",
    ]),
    "packages of rules": "installed openssh-server 1:10.0p1-7\ninstalled dpkg 1.22",
    "users of rules": PASSWD,
    "groups of rules": GROUP,
    "mounts": MOUNTS,
    "usage of mounts": (
        "look\nFilesystem 1024-blocks Used Available Capacity Mounted on\noverlay 100 9 91 9% /\n"
        "/dev/sda2 100 10 90 10% /data"
    ),
    "kernel parameters": "look\n/proc/sys/kernel/ostype:Linux\n/proc/sys/net/ipv4/tcp_rmem:4096\t131072\t6291456",
    "names of programs that run": "systemd\nsshd",
}  # fmt: skip
DPKG = database_of({"dpkg": "1"})


def resource(kind: str, about: str, **wanted: Any) -> GossResource:
    """An attribute such as ``linked_to`` stands for "linked-to"."""
    named = {name.replace("_", "-"): value for name, value in wanted.items()}
    return GossResource(file="goss.yaml", kind=kind, key=about, about=about, wanted=named)


def judged(
    one: GossResource, *others: GossResource, texts: dict[str, str] | None = None, **refused: str
) -> Finding | None:
    answers = Answers(texts={**ANSWERS, **(texts or {})}, refused={k.replace("_", " "): v for k, v in refused.items()})
    return judge_resource(one, [one, *others], answers, DPKG)


GOOD = (
    resource("file", "/etc/site", exists=True, mode="0644", owner="root", group="shadow", uid=0, gid=42, size={"lt": 8},
             filetype="file", contents=["first", "!third", "/^sec/"], sha256="abcd"),
    resource("file", "/etc/site", exists=True, contents="first\nsecond\n"),
    resource("file", "/etc/link", exists=True, filetype="symlink", linked_to="site"),
    resource("file", "/etc/none", exists=False),
    resource("port", "tcp:22", listening=True, ip=["0.0.0.0"]),
    resource("port", "22", listening=True),
    resource("port", "tcp6:80", listening=True, ip=["::"]),
    resource("port", "tcp:80", listening=False),
    resource("package", "openssh-server", installed=True, versions=["1:10.0p1-7"]),
    resource("package", "telnetd", installed=False),
    resource("user", "nova", exists=True, uid=64060, gid={"gt": 64000}, groups=["kvm", "nova"], home="/var/lib/nova",
             shell="/bin/sh"),
    resource("user", "toor", exists=False),
    resource("group", "kvm", exists=True, gid=107),
    resource("mount", "/data", exists=True, opts=["ro", "nosuid"], vfs_opts=["rw"], source="/dev/sda2",
             filesystem="ext4", usage={"lt": 95}),
    resource("mount", "/srv", exists=False),
    resource("kernel-param", "net.ipv4.tcp_rmem", value="4096 131072 6291456"),
    resource("kernel-param", "net.ipv4.tcp_rmem", value={"match-regexp": r"^4096\t"}),
    resource("process", "sshd", running=True),
    resource("process", "telnetd", running=False),
    resource("matching", "enough", matches={"have-len": 2}, content=[1, 2]),
    resource("matching", "lines", matches=["foo", "!bar"], content="a foo\nb", as_reader=True),
)  # fmt: skip


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one.name)
def test_what_is_as_it_must_be_holds(one: GossResource) -> None:
    assert judged(one) is None


@pytest.mark.parametrize(
    ("one", "what", "more"),
    [
        (resource("file", "/etc/none", exists=True, mode="0644"), "exists is false; it must be true", 0),
        (resource("file", "/etc/site", exists=False, mode="1"), "exists is true; it must be false", 0),
        (
            resource("file", "/etc/site", exists=True, mode="0600", owner="nova"),
            'mode is "0644"; it must be "0600"',
            1,
        ),
        (resource("file", "/etc/site", exists=True, gid=0), "gid is 42; it must be 0", 0),
        (resource("file", "/etc/site", exists=True, linked_to="x"), 'linked-to is no link; it must be "x"', 0),
        (
            resource("file", "/etc/site", exists=True, contents=["third", "!first", "/^second/"]),
            'contents does not meet "third", "!first"',
            0,
        ),
        (
            resource("file", "/etc/link", exists=True, contents=["x"]),
            'contents is no regular file; it must be ["x"]',
            0,
        ),
        (resource("file", "/etc/site", exists=True, sha256="ef"), 'sha256 is "abcd"; it must be "ef"', 0),
        (resource("port", "udp:22", listening=True), "listening is false; it must be true", 0),
        (
            resource("port", "tcp:22", listening=True, ip=["127.0.0.1"]),
            'ip is ["0.0.0.0"]; it must be ["127.0.0.1"]',
            0,
        ),
        (resource("package", "dpkg", installed=False), "installed is true; it must be false", 0),
        (resource("package", "dpkg", installed=True, versions=["1"]), 'versions is ["1.22"]; it must be ["1"]', 0),
        (resource("user", "nova", exists=True, groups=["root"]), 'groups is ["nova", "kvm"]; it must be ["root"]', 0),
        (resource("user", "nova", exists=True, uid={"lt": 1000}), 'uid is 64060; it must be {"lt": 1000}', 0),
        (resource("group", "kvm", exists=True, gid=1), "gid is 107; it must be 1", 0),
        (resource("mount", "/data", exists=True, opts=["rw"]), 'opts is ["ro", "nosuid"]; it must be ["rw"]', 0),
        (resource("mount", "/data", exists=True, usage={"lt": 5}), 'usage is 10; it must be {"lt": 5}', 0),
        (resource("kernel-param", "kernel.none", value="1"), "value the kernel has no such parameter", 0),
        (resource("kernel-param", "net.ipv4.tcp_rmem", value={"gt": 1}), "is not a number; it must be", 0),
        (resource("process", "sshd", running=False), "running is true; it must be false", 0),
        (resource("matching", "enough", matches={"have-len": 3}, content=[1]), "matches is [1]", 0),
        (resource("matching", "lines", matches=["bar"], content="foo", as_reader=True), 'does not meet "bar"', 0),
    ],
)
def test_what_is_not_says_what_it_is_and_must_be(one: GossResource, what: str, more: int) -> None:
    finding = judged(one)

    assert finding is not None
    assert (finding.id, finding.where) == ("rule-broken", f"goss.yaml: {one.kind}: {one.key}")
    assert finding.what.startswith(f"{one.kind} {one.key}: ")
    assert what in finding.what
    assert len(finding.evidence) == more


def test_services_are_told_apart_by_their_order() -> None:
    ssh, gone = resource("service", "ssh", enabled=True, running=True), resource("service", "gone", running=True)

    assert judged(ssh, gone) is None
    finding = judge_resource(gone, [ssh, gone], Answers(texts=ANSWERS), DPKG)
    assert finding is not None
    assert finding.what == "service gone: running is false; it must be true"
    one = Answers(texts={"services of rules": "Id=ssh.service\nActiveState=active\nUnitFileState=enabled"})
    refused = judge_resource(gone, [ssh, gone], one, DPKG)
    assert refused is not None
    assert refused.id == "rule-not-asked"


def test_a_title_is_shown() -> None:
    finding = judged(replace(resource("process", "x", running=True), title="our agent"))

    assert finding is not None
    assert finding.evidence == ("title: our agent",)


@pytest.mark.parametrize(
    ("one", "refused", "texts"),
    [
        (resource("file", "/x", exists=False), {"files_of_rules": "the guest did not answer: find"}, {}),
        (resource("file", "/x", exists=False), {}, {"files of rules": "look"}),
        (resource("file", "/etc/site", exists=True, sha256={"not": "x"}), {}, {"sha256 of files": "look"}),
        (resource("file", "/etc/site", exists=True, contents=["!x"]), {}, {"contents of /etc/site": "present\nx"}),
        (resource("package", "x", installed=False), {"packages_of_rules": "dpkg-query: not found"}, {}),
        (resource("port", "tcp:1", listening=False), {"sockets_of_the_network": "grep"}, {}),
        (resource("port", "tcp:1", listening=False), {}, {"sockets of the network": "look"}),
        (resource("mount", "/x", exists=False), {}, {"mounts": "sorry"}),
        (resource("mount", "/", exists=True, usage={"not": 1}), {}, {"usage of mounts": "look"}),
        (resource("kernel-param", "a", value={"not": "1"}), {}, {"kernel parameters": "look"}),
        (resource("user", "nova", exists=True, uid={"not": 0}), {}, {"users of rules": "nova:x:1"}),
        (resource("process", "x", running=False), {"names_of_programs_that_run": "grep"}, {}),
    ],
)
def test_what_a_host_does_not_say_never_passes(
    one: GossResource, refused: dict[str, str], texts: dict[str, str]
) -> None:
    finding = judged(one, texts=texts, **refused)

    assert finding is not None
    assert finding.id == "rule-not-asked"


def test_without_a_known_package_manager_no_package_is_absent() -> None:
    finding = judge_resource(resource("package", "x", installed=False), [], Answers(texts=ANSWERS), None)

    assert finding is not None
    assert finding.what == "package x: the manifest lists no packages of a known package manager"


def test_what_is_read_is_asked() -> None:
    kinds = [*GOOD, resource("service", "ssh", running=True), resource("service", "gone", running=False)]

    names = {probe.name for probe in probes_of(kinds, DPKG)}
    assert names - {"swaps"} == set(ANSWERS) - {"contents of /etc/link"}
    for one in kinds:
        facts_of(one, kinds, Answers(texts=ANSWERS), DPKG)
    with pytest.raises(NotAsked):
        facts_of(GOOD[0], kinds, Answers(texts={}), DPKG)


def test_a_value_that_a_thing_does_not_have_is_a_problem_whatever_is_wanted() -> None:
    one = resource("file", "/x", exists=True, linked_to={"not": "y"})

    assert list(problems(one, {"exists": True, "linked-to": Unreadable(why="is no link")}))


# With a real shell: this host's


class Here(Channel):
    """This host's shell; ``folder`` comes first in PATH."""

    def __init__(self, folder: Path) -> None:
        self._environment = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        self.count = 0

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.count += 1
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=self._environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    (tmp_path / "first").mkdir()
    return Here(tmp_path / "first")


def surveyed(channel: Channel, tmp_path: Path, *rules: GossResource | OwnCheck) -> Survey:
    base: ImageDefinition = load_definition(ROOT / "images" / "base")
    checks = tuple(one for one in rules if isinstance(one, OwnCheck))
    goss = tuple(one for one in rules if isinstance(one, GossResource))
    return survey(channel, replace(base, checks=checks, goss=goss), None, str(tmp_path / "scratch"))


def test_files_are_asked_of_a_real_shell(here: Here, tmp_path: Path) -> None:
    file, link = tmp_path / "it's a file", tmp_path / "link"
    file.write_text("one\ntwo\n\n", "utf-8")
    file.chmod(0o1640)
    link.symlink_to("it's a file")
    good = [
        resource("file", str(file), exists=True, mode="1640", uid=os.getuid(), filetype="file", size=9,
                 contents="one\ntwo\n\n", sha256={"have-len": 64}, md5={"have-len": 32}, sha512={"have-len": 128}),
        resource("file", str(link), exists=True, filetype="symlink", linked_to="it's a file"),
        resource("file", str(tmp_path), exists=True, filetype="directory"),
        resource("file", str(tmp_path / "none"), exists=False),
        resource("user", "root", exists=True, uid=0, home="/root"),
        resource("kernel-param", "kernel.ostype", value="Linux"),
        resource("kernel-param", "kernel.pid_max", value={"gt": 300}),
        resource("mount", "/", exists=True, usage={"ge": 0}),
        resource("process", "bash", running=True),
    ]  # fmt: skip
    bad = resource("file", str(tmp_path / "first"), exists=True, contents=["!x"])

    found = surveyed(here, tmp_path, *good, bad)

    assert [found.judge(one.name) for one in good] == [None] * len(good)
    assert (finding := found.judge(bad.name)) is not None
    assert "contents is no regular file" in finding.what
    assert here.count == 1


def test_commands_have_their_status_and_both_outputs(here: Here, tmp_path: Path) -> None:
    command = "echo 'it is'; echo wrong >&2; exit 3"
    loud = resource("command", command, exit_status=3, stdout=["it is"], stderr=["/^wrong$/"])
    exact = resource("command", "printf 'a\\n\\n'", exit_status=0, stdout="a\n\n", stderr="")
    bad = resource("command", "echo é", exit_status=0, stdout=["e"])
    utc = OwnCheck(name="utc", command="date -u +%Z", expect="^UTC$")
    quiet = OwnCheck(name="quiet", command="true")

    found = surveyed(here, tmp_path, loud, exact, bad, utc, quiet)

    assert [found.judge(name) for name in (loud.name, exact.name, "utc", "quiet")] == [None] * 4
    assert (finding := found.judge(bad.name)) is not None
    assert (finding.what, finding.evidence) == ('command echo é: stdout does not meet "e"', ("é",))
    assert not (tmp_path / "scratch").exists()
    assert here.count == 1


def test_a_check_that_fails_says_how_and_why(here: Here, tmp_path: Path) -> None:
    cause = "tzdata is missing"
    found = surveyed(
        here,
        tmp_path,
        OwnCheck(name="status", command="echo so; exit 4", expect="so", cause=cause),
        OwnCheck(name="output", command="echo one; echo two", expect="^three$"),
        OwnCheck(name="silent", command="false"),
        OwnCheck(name="error only", command="echo three >&2", expect="three"),
    )

    status, output, silent, error_only = map(found.judge, ("status", "output", "silent", "error only"))
    assert status is not None
    assert (status.id, status.what, status.cause) == (
        "rule-broken", "status: the command ended with status 4", cause
    )  # fmt: skip
    assert (status.where, status.evidence) == ("image.toml: check: status", ("command: echo so; exit 4", "so"))
    assert output is not None
    assert output.what == "output: nothing in the output matches '^three$'"
    assert output.evidence[1:] == ("one", "two")
    assert silent is not None
    assert silent.evidence[1:] == ("it printed nothing",)
    assert error_only is not None
    assert str(RuleFailed(status)).splitlines()[:2] == [f"{status.what} [rule-broken]", f"    {status.where}"]


def test_a_program_that_is_missing_is_named_and_nothing_passes(here: Here, tmp_path: Path) -> None:
    rules = (
        OwnCheck(name="own", command="no-such-program --version"),
        resource("command", "no-such-program", exit_status={"not": 0}),
    )
    expected = resource("command", "no-such-other", exit_status=127, stderr=["not found"])

    found = surveyed(here, tmp_path, *rules, expected)

    for rule in rules:
        assert (finding := found.judge(rule.name)) is not None
        assert finding.id == "rule-not-asked"
        assert "no-such-program" in finding.what
    assert found.judge(expected.name) is None


def test_a_command_that_does_not_end_is_ended(here: Here, tmp_path: Path) -> None:
    slow = replace(resource("command", "sleep 99", exit_status={"not": 0}), timeout_s=0.1)

    finding = surveyed(here, tmp_path, slow).judge(slow.name)

    assert finding is not None
    assert (finding.id, finding.what) == ("rule-not-asked", "command sleep 99: the command did not end in time")


def test_one_broken_program_keeps_no_other_rule_from_being_asked(here: Here, tmp_path: Path) -> None:
    broken = tmp_path / "first" / "find"
    broken.write_text("#!/bin/sh\nkill -9 $$\n", "utf-8")
    broken.chmod(0o755)
    file, user = resource("file", "/none", exists=False), resource("user", "root", exists=True)

    found = surveyed(here, tmp_path, file, user)

    assert found.judge(user.name) is None
    assert (finding := found.judge(file.name)) is not None
    assert finding.id == "rule-not-asked"
    assert "find" in finding.what


def test_without_timeout_no_command_is_run(here: Here, tmp_path: Path) -> None:
    shutil.copy("/bin/false", tmp_path / "first" / "timeout")
    check = OwnCheck(name="own", command=f"touch {tmp_path}/ran")

    finding = surveyed(here, tmp_path, check).judge("own")

    assert finding is not None
    assert finding.id == "rule-not-asked"
    assert not (tmp_path / "ran").exists()


def test_a_resource_that_the_file_skips_is_not_asked(here: Here, tmp_path: Path) -> None:
    skipped = replace(resource("command", f"touch {tmp_path}/ran", exit_status=0), skip=True)

    found = surveyed(here, tmp_path, skipped)

    assert found.is_skipped(skipped.name)
    assert not (tmp_path / "ran").exists()


def test_an_unanswered_check_is_not_passed() -> None:
    finding = judge_check(OwnCheck(name="own", command="true"), Answers(texts={}, refused={"exit-status of own": "no"}))

    assert finding is not None
    assert finding.what == "own: no"

"""What the image's own programs print becomes findings; they run where they reach nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import HostError
from harness.core.namespaces import prefix
from harness.lint import own_programs, sandbox
from harness.lint.finding import LintFinding, fails
from harness.lint.own_programs import checks, judge, why_not_run
from harness.lint.sandbox import Ended, SmallTree

from ...small_image import Content, image

UNITS = "etc/systemd/system"
OWN: dict[str, Content] = {
    f"{UNITS}/a.service": "[Service]\nExecStart=/bin/true\nFoo=1\n",
    f"{UNITS}/multi-user.target.wants/a.service": ("->", "../a.service"),
    f"{UNITS}/ssh.service.d/x.conf": "[Service]\nFoo=1\n",
    "etc/sudoers.d/x": "x\n",
    "etc/ssh/sshd_config": "Foo yes\n",
}
CHECKS = {check.program: check for check in checks()}


def judged(program: str, printed: str, *found: LintFinding, status: int = 1) -> list[tuple[str, str]]:
    findings = judge(image(OWN), CHECKS[program], Ended(status, printed), found)
    return [(finding.path, finding.what.partition(" of the image: ")[2]) for finding in findings]


def test_a_line_about_a_unit_of_no_package_is_a_finding_about_its_file() -> None:
    printed = (
        f"/{UNITS}/a.service:3: Unknown key name 'Foo' in section 'Service', ignoring.\n"
        "/usr/lib/systemd/system/systemd-timesyncd.service:1: Unknown key name 'X', ignoring.\n"
        "ssh.service: something is wrong\nFailed to connect to bus: no medium\n\n"
    )

    assert judged("systemd-analyze", printed, status=0) == [
        (f"/{UNITS}/a.service", f"/{UNITS}/a.service:3: Unknown key name 'Foo' in section 'Service', ignoring."),
        (f"/{UNITS}/ssh.service.d/x.conf", "ssh.service: something is wrong"),
    ]


def test_what_lint_says_itself_about_a_file_is_not_repeated() -> None:
    printed = f"/{UNITS}/a.service:3: Unknown key name 'Foo' in section 'Service', ignoring.\n"

    assert judged("systemd-analyze", printed, fails("unit-malformed", f"{UNITS}/a.service", "x")) == []
    assert len(judged("systemd-analyze", printed, fails("unit-malformed", f"{UNITS}/b.service", "x"))) == 1


def test_settings_that_a_program_refuses_are_a_finding_about_the_file_that_it_names() -> None:
    sshd = (
        "/etc/ssh/sshd_config: line 1: Bad configuration option: Foo\n"
        "/etc/ssh/sshd_config: terminating, 1 bad configuration options\n"
    )

    assert judged("sshd", sshd, status=255) == [
        ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config: line 1: Bad configuration option: Foo")
    ]
    assert judged("visudo", "/etc/sudoers.d/x:1:2: syntax error\nx\n^~\n")[0][0] == "/etc/sudoers.d/x"
    assert judged("sshd", "something\n", status=0) == [], "it succeeded"


def test_known_noise_is_no_finding_and_has_a_reason() -> None:
    assert judged("sshd", "sshd: no hostkeys available -- exiting.\n") == []
    assert judged("visudo", "/etc/sudoers: parsed OK\n") == []
    assert all(noise.reason for check in checks() for noise in check.noise)


def test_the_tables_name_findings_that_are_explained() -> None:
    from harness.model.finding_catalog import explanations

    for check in checks():
        assert {check.id, *check.covered.values()} <= set(explanations())
        assert [
            re.compile(pattern) for pattern in (*check.covered, *(noise.line for noise in check.noise), check.absent)
        ]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended(137, ""), "it did not end in time"),
        (Ended(126, "Exec format error"), "it does not start"),
        (Ended(127, "x: error while loading shared libraries: y"), "it does not start"),
        (Ended(139, ""), "it crashed"),
        (Ended(1, "Unknown command verb verify."), "this release of it cannot"),
        (Ended(1, "Failed to create directory"), "it failed before"),
        (Ended(1, "x.service: wrong"), ""),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Ended) else "",
)
def test_a_program_that_says_nothing_about_the_image_is_a_sentence(ended: Ended, said: str) -> None:
    why = why_not_run(CHECKS["systemd-analyze"], ended)

    assert why.startswith(said)
    assert bool(why) == bool(said)


def test_units_of_packages_are_not_asked_about() -> None:
    assert own_programs._own_units(image()) == []
    assert own_programs._own_units(image(OWN)) == ["a.service", "ssh.service"]


def shell() -> SmallTree:
    """This host's shell and some programs, with their libraries."""
    files, links = dict[str, bytes](), dict[str, str]()
    for program in ("sh", "cat", "id", "sleep", "ls", "head", "yes"):
        path = Path(process.require(program, "coreutils"))
        files[f"usr/bin/{program}"] = path.read_bytes()
        for library in re.findall(r"(/\S+) \(0x", process.output(["ldd", str(path)])):
            files[library.lstrip("/").removeprefix("usr/")] = Path(library).read_bytes()
    links["bin"] = "usr/bin"
    return SmallTree(files=files, programs=frozenset(files), empty=frozenset({"usr/bin/true"}), links=links)


def run(*scripts: str, **more: str) -> list[Ended]:
    try:
        prefix()
    except HostError as error:
        pytest.skip(str(error))
    tree = shell()
    tree = SmallTree(
        files={**tree.files, "etc/x": b"here"}, programs=tree.programs, empty=tree.empty, links={**tree.links, **more}
    )
    return sandbox.run(tree, [["/usr/bin/sh", "-c", script] for script in scripts])


def test_a_program_sees_its_tree_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")

    seen, outside, user, network, written, empty = run(
        "cat /etc/x; exit 3",
        f"cat {tmp_path}/secret; ls /home /root",
        "id -u; cat /proc/self/status",
        "cat /proc/net/dev",
        "echo x > /etc/x; echo x > /etc/y; echo x > /proc/sys/kernel/core_pattern",
        "ls -l /usr/bin/true",
    )

    assert seen == Ended(3, "here")
    assert "secret\n" not in outside.printed
    assert "No such file" in outside.printed
    assert user.printed.startswith("65534\n")
    assert re.search(r"(?m)^CapEff:\s+0+$", user.printed)
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", user.printed)
    assert not re.search(r"(?m)^\s*(?!lo:)\w+:", network.printed)
    assert written.status != 0
    assert "-rwxr-xr-x" in empty.printed


def test_a_tree_that_leads_out_is_unpacked_inside(tmp_path: Path) -> None:
    """Links that the sandbox or the shell could follow while it is set up."""
    before = os.listdir(tmp_path)

    (ended,) = run(
        "cat /etc/x",
        **{
            "proc": str(tmp_path),
            "dev": str(tmp_path),
            "run": str(tmp_path),
            "lib/up": "../../../../.." + str(tmp_path),
            "../out": "x",
        },
    )

    assert ended == Ended(0, "here")
    assert os.listdir(tmp_path) == before


def test_what_has_no_end_is_ended() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_EACH_S", 1)
        asleep, talks, last = run("sleep 100", "yes", "cat /etc/x")

    assert asleep.status == 137
    assert len(talks.printed) <= 1 << 18
    assert last == Ended(0, "here")

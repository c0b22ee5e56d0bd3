"""A run on many hosts: GNU parallel over real SSH to three hosts in namespaces, and what may happen to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.model.verdict import Verdict
from harness.store.store import find_store

from .pool_faults import FAULTS, Pooled, inject, judge, start
from .pool_hosts import Hosts, open_hosts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an sshd for root, in namespaces of its own, needs root")

ROOT = Path(__file__).parents[2]
OTHER_QEMU = Path("/usr/bin/qemu-system-x86_64-microvm")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """The clock of the second is an hour ahead; the third has another QEMU."""
    folder = tmp_path_factory.mktemp("hosts")
    other = {3: f"BOOTPROOF_QEMU={OTHER_QEMU}"} if OTHER_QEMU.exists() else None
    with open_hosts(folder / "net", clocks={2: 3600}, env=other) as hosts:
        problem, run, _ = inject(hosts, folder / "first", "none")
        assert not problem, run.printed
        shutil.copytree(run.part(), hosts.folder / "other-part")
        yield hosts


@pytest.mark.parametrize("failing", [(), (4,)], ids=["good", "failing"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_verdict_is_right_and_nothing_is_left_whatever_happens(
    fault: str, failing: tuple[int, ...], hosts: Hosts, tmp_path: Path
) -> None:
    problem, run, _ = inject(hosts, tmp_path, fault, failing)

    assert not problem, run.printed


@pytest.mark.skipif(not OTHER_QEMU.exists(), reason="this host has one QEMU only")
def test_the_verdict_says_which_part_ran_with_which_qemu(hosts: Hosts, tmp_path: Path) -> None:
    run = start(hosts, tmp_path)

    _, verdict = run.end()

    assert verdict, run.printed
    assert verdict.host["qemu"].startswith("mixed: ")
    assert verdict.host["qemu"].count(str(OTHER_QEMU)) == 1
    assert verdict.host["hosts"].startswith("3 (host")


def _ours(run: Pooled) -> list[str]:
    """Processes of the run on this side."""
    found = list[str]()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(place / "cwd").startswith(str(run.repository)):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing_and_can_be_continued(
    number: signal.Signals, hosts: Hosts, tmp_path: Path
) -> None:
    run = start(hosts, tmp_path, takes_s=4.0)
    run.victim()

    run.process.send_signal(number)
    run.process.communicate(timeout=60)
    status = run.process.returncode
    at_once = [] if number == signal.SIGKILL else hosts.left(0)
    left = hosts.left(45)
    poll(lambda: not _ours(run), Deadline(30, scaled=False), every_s=0.2)

    assert status == (-9 if number == signal.SIGKILL else 130)
    assert (at_once, left, _ours(run)) == ([], [], [])
    assert run.folder
    run.process = subprocess.Popen(
        hosts.here("env", f"BOOTPROOF_STORE={tmp_path / 'own-store'}", sys.executable, "-P", "-m", "harness", "run",
                   "--hosts", str(hosts.file), "--resume", str(run.folder)),
        cwd=run.repository, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert judge(run, "none", ()) == "", run.printed


def test_the_doctor_tells_the_state_of_each_host(hosts: Hosts, tmp_path: Path) -> None:
    file = tmp_path / "hosts.txt"
    file.write_text(hosts.file.read_text("utf-8") + hosts.hosts[0].line().replace("10.77.0.2", "10.77.0.99"))
    argv = [sys.executable, "-P", "-m", "harness", "doctor", "--hosts", str(file)]

    done = subprocess.run(hosts.here(*argv), cwd=tmp_path, check=False, capture_output=True, text=True)

    lines = done.stdout.splitlines()
    assert done.returncode == 75, done.stdout + done.stderr
    assert ["60 min ahead" in line for line in lines] == [False, False, True, False, False]
    assert ["not reachable" in line for line in lines] == [False, False, False, False, True]
    assert hosts.left(10) == []


def test_hosts_with_another_bootproof_are_left_out(hosts: Hosts, tmp_path: Path) -> None:
    """The command of the first host finds another package in place of Bootproof."""
    run = start(
        hosts, tmp_path, "--bootproof", 'sh -c \'test "$(hostname)" = host1 && exit 127; exec bootproof "$@"\' sh'
    )

    assert judge(run, "none", ()) == "", run.printed
    assert "root@10.77.0.2:22 is left out: no Bootproof there" in run.printed


def test_base_boots_on_two_hosts_that_get_its_artifacts(tmp_path: Path) -> None:
    """Nothing is built there."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "images", repository / "images")
    (repository / "pytest.ini").write_text("[pytest]\n", "utf-8")
    suite = ["harness/suite/test_links.py", "harness/suite/test_ssh.py"]
    with open_hosts(tmp_path / "net", count=2, disk_mib=4000, slots=find_store().folder("slots")) as hosts:
        argv = [sys.executable, "-P", "-m", "harness", "run", "--hosts", str(hosts.file), "-n", "1"]
        options = ["--image", "base", "--boot-path", "direct", *suite]

        done = subprocess.run(
            hosts.here(*argv, "--", *options), cwd=repository, check=False, capture_output=True, text=True
        )

        merged = next(repository.glob("runs/*-base-merged/verdict.json"), None)
        assert merged, done.stdout + done.stderr
        verdict = serialization.read(Verdict, merged)
        assert verdict.findings == (), done.stdout + done.stderr
        assert {"links", "ssh", "boot:direct"} <= set(verdict.coverage.passed), done.stdout
        assert {part.host for part in verdict.parts} == {"host1", "host2"}
        assert [tar for host in hosts.hosts for tar in (host.store / "layers").glob("*.tar")] == []
        assert hosts.left(30) == []

"""Hosts with less than the reference machine, simulated by namespaces; tests without a boot are in test_lab."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.core import serialization
from harness.lab import UNPROVEN, Lab, open_lab
from harness.machine.machine import Machine
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Outcome, Verdict

from .conftest import ROOT

_POOR_HOST = """
mount -t tmpfs tmpfs /dev/net
echo 1 > /proc/sys/user/max_user_namespaces
exec unshare --user --map-user=1000 --map-group=1000 taskset -c "$@"
"""
"""No /dev/net/tun, and no user namespace except the one in which the run has an ordinary user; $1 is its CPU core."""


def test_an_ordinary_user_with_one_core_and_no_namespaces_gets_a_verdict_that_names_what_it_lacks(
    tmp_path: Path,
) -> None:
    tests = ["tests/image/test_services.py", "tests/image/test_ssh.py"]
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--image=base", f"--run-dir={tmp_path}", *tests]
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", _POOR_HOST, "sh", "0"]

    done = subprocess.run([*enter, *argv], cwd=ROOT, check=False, capture_output=True, text=True)

    print(done.stdout, done.stderr)
    verdict = serialization.read(Verdict, tmp_path / "latest" / "verdict.json")
    assert verdict.findings == ()
    assert verdict.host["network"].startswith("user: no lab without /dev/net/tun, which user 1000 cannot open")
    assert verdict.coverage.unchecked == UNPROVEN
    assert {"services", "ssh"} <= set(verdict.coverage.passed)
    assert [boot.boot_path for boot in verdict.boots if boot.ready_s] == ["ipxe-bios"]
    assert (done.returncode, verdict.outcome) == (75, Outcome.INCONCLUSIVE), "part of the suite is not the whole of it"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path, "user") as lab:
        yield lab


def test_a_guest_on_the_user_network_reaches_the_lab_and_nothing_of_the_host(
    booting: Callable[..., AbstractContextManager[Machine]], spec: MachineSpec, lab: Lab
) -> None:
    lab.http.serve("/greeting", b"hello")
    with socket.create_server(("127.0.0.1", 0)) as on_the_host, booting(spec) as machine:
        get = r"exec 3<>/dev/tcp/10.77.0.1/80; printf 'GET /greeting HTTP/1.0\r\n\r\n' >&3; cat <&3"
        assert machine.check(get).endswith("\r\n\r\nhello")
        assert machine.ssh.run("echo hello").text == "hello"
        for address in ("10.77.0.1", "10.77.0.2"):  # without restrict, the second is the host itself
            connect = f"exec 3<>/dev/tcp/{address}/{on_the_host.getsockname()[1]}"
            assert machine.run(f"timeout 10 bash -c '{connect}'").status != 0

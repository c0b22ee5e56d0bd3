"""A machine boots the published build over HTTP; a tree behind SSH is promoted to."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.lab import Lab
from harness.model.artifacts import Artifacts
from harness.model.machine_spec import GATEWAY, BootPath, MachineSpec
from harness.model.verdict import Verdict
from harness.promotion.attest import NotVerified
from harness.promotion.promote import promote
from harness.promotion.remote import RemoteTree, open_tree
from harness.qemu import command_line, program
from harness.qemu.command_line import QemuSockets

from ..harness.proven import Proven


def _proven(folder: Path, artifacts: Artifacts) -> tuple[Proven, Verdict]:
    made = Proven(folder)
    made.demand()
    verdict = replace(made.verdict(artifacts), started=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    digests = verdict.digests | {"definition": artifacts.manifest.definition}
    return made, replace(verdict, image=artifacts.manifest.image, digests=digests)


def test_a_machine_boots_the_published_build(tmp_path: Path, artifacts: Artifacts, spec: MachineSpec, lab: Lab) -> None:
    proven, verdict = _proven(tmp_path, artifacts)
    proof = proven.proof(artifacts, verdict)
    promote(proven.tree, "base", "stable", artifacts, [proof], proven.promoter(datetime.now(UTC)))
    for folder, _, names in os.walk(proven.tree.root, followlinks=True):  # as a server does
        for file in (Path(folder) / name for name in names):
            lab.http.serve(f"/images/{file.relative_to(proven.tree.root)}", file)
    chain = "chain ${images}/streams/base/stable/boot.ipxe"
    lab.http.serve("/boot.ipxe", f"#!ipxe\nset images http://{GATEWAY}/images\n{chain}\n".encode())
    console = tmp_path / "console.log"
    spec = replace(spec, boot_path=BootPath.IPXE_BIOS)
    argv = [
        *command_line.command(spec, qemu=program.in_use(), sockets=QemuSockets(netdevs=lab.netdevs(spec))),
        "-serial",
        f"file:{console}",
    ]

    child = lab.spawn(argv)
    try:
        deadline = Deadline(240)
        while "login:" not in (text := console.read_text("utf-8", "replace") if console.exists() else ""):
            assert child.status is None and not deadline.is_over, text[-2000:]  # noqa: PT018
            time.sleep(1)
    finally:
        child.end(0.0)

    fetched = {row.path.rpartition("/")[2] for row in lab.http.log if row.path.startswith("/images/artifacts/")}
    assert fetched == set(artifacts.manifest.files)
    assert "is on /data" in text


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """rclone's name for a folder behind a real sshd."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "user.pub").rename(tmp_path / "authorized_keys")
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized_keys\n"
        f"PidFile {tmp_path}/pid\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    child = subprocess.Popen(["/usr/sbin/sshd", "-D", "-E", str(tmp_path / "log"), "-f", str(config)])
    try:
        for _ in range(100):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        remote = {"TYPE": "sftp", "HOST": "127.0.0.1", "PORT": str(port), "USER": "root",
                  "KEY_FILE": str(tmp_path / "user"), "SHELL_TYPE": "unix"}  # fmt: skip
        for name, value in remote.items():
            monkeypatch.setenv(f"RCLONE_CONFIG_THERE_{name}", value)
        yield f"there:{tmp_path}/published"
    finally:
        child.terminate()
        child.wait()


@contextmanager
def _open(place: str) -> Iterator[RemoteTree]:
    with ExitStack() as until:
        opened = open_tree(place, "site", until)
        assert isinstance(opened, RemoteTree)
        yield opened


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets only root log in as root")
def test_a_tree_behind_ssh_is_promoted_to_with_the_pointer_last(tmp_path: Path, sshd: str) -> None:
    made = Proven(tmp_path / "here")
    made.folder.mkdir()
    made.demand()
    for version in ("1", "2"):
        artifacts = made.artifacts(version)
        with _open(sshd) as opened:
            proof = made.proof(artifacts, made.verdict(artifacts))
            opened.publish(promote(opened.tree, "site", "stable", artifacts, [proof], made.promoter()))

    published = tmp_path / "published"
    with _open(sshd) as opened:
        assert [entry.version for entry in opened.tree.history("site", "stable")] == ["1", "2"]
        opened.fetch_artifacts("site", "stable")
        assert (opened.tree.artifacts(made.artifacts("1").digest) / "vmlinuz").read_bytes() == b"kernel1"
    assert made.artifacts("2").digest in (published / "streams/site/stable/boot.ipxe").read_text()
    assert not list(published.rglob("*.new"))

    newest = published / "streams" / "site" / "stable.json"
    newest.write_text(newest.read_text().replace('"2"', '"3"'))
    with pytest.raises(NotVerified, match="changed by hand, or sent in part"), _open(sshd):
        pass

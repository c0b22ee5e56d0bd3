"""Whether a template of another host is quicker to bring than to make: its files over SSH and HTTP, and its boot.

Over the loopback interface, so the network costs nothing: no real one is quicker. Both ends share this host's cores.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core import digest
from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.machine.states import BOOTED
from harness.model.definition import load_definition
from harness.store.store import find_store
from harness.store.template_record import size_bytes

from .clones import make_templates
from .start import ROOT
from .table import Figure, compared

sys.path.insert(0, str(ROOT))
from tests.harness.web_server import serving

_IMAGE = "nova-kvm"
_FILES = ("memory", "state", "disk0.raw")


def measure(*, quick: bool) -> list[Figure]:
    definition = load_definition(ROOT / "images" / _IMAGE)
    artifacts = build(definition, find_store())
    with TemporaryDirectory(dir=find_store().folder("bench")) as name, ExitStack() as stack:
        templates = make_templates(definition, artifacts, Path(name))
        template = templates.hold(BOOTED, stack)
        (cold,) = (boot.ready_s for boot in templates.store.run.boots())
        assert cold
        mib = size_bytes(template.folder) >> 20
        samples = list(_samples(template.folder, Path(name), 2 if quick else 5))
    ways = ("over SSH", "over HTTP, packed with zstd before")
    return [
        compared("template-transport", f"bring a template of {mib} MiB {way}", list(took_s), "its cold boot",
                 [cold] * len(took_s), unit="s", limit=None)
        for way, took_s in zip(ways, zip(*samples, strict=True), strict=True)
    ]  # fmt: skip


def _samples(template: Path, folder: Path, count: int) -> Iterator[tuple[float, float]]:
    """Seconds over SSH and over HTTP. All bytes are compared with those of the template."""
    packed = folder / "served" / "template.tar.zst"
    packed.parent.mkdir()
    subprocess.run(f"tar -cSf - -C {template} . | zstd -q -1 -o {packed}", shell=True, check=True)
    wanted = [digest.of_file(template / name) for name in _FILES[:2]]
    with _sshd(folder) as ssh, serving(packed.parent) as web:
        for _ in range(count):
            took_s = []
            for there in (f"{ssh} 'tar -cSf - -C {template} .'", f"curl -fsS {web.url}/{packed.name} | zstd -d"):
                with TemporaryDirectory(dir=folder) as target:
                    began_s = time.perf_counter()
                    subprocess.run(f"{there} | tar -xSf - -C {target}", shell=True, check=True)
                    took_s.append(time.perf_counter() - began_s)
                    assert [digest.of_file(Path(target, name)) for name in _FILES[:2]] == wanted
            print(f"    {took_s[0]:.1f} s over SSH, {took_s[1]:.1f} s over HTTP", file=sys.stderr)
            yield took_s[0], took_s[1]


@contextmanager
def _sshd(folder: Path) -> Iterator[str]:
    """A command that runs another one by way of a real sshd on the loopback interface; only root can start it."""
    if os.geteuid():
        raise HostError("sshd lets only root log in as root: run this row as root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-E", str(folder / "sshd.log"), "-f", str(config)]) as child:
        try:
            options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
            ssh = f"ssh {options} -i {folder}/user -p {port} root@127.0.0.1"
            if not poll(lambda: not subprocess.call(f"{ssh} true", shell=True), Deadline(10.0), every_s=0.2):
                raise HostError(f"sshd does not answer: see {folder}/sshd.log")
            yield ssh
        finally:
            child.terminate()

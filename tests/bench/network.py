"""The memory of an idle lab, and how fast it serves a root file system to several machines at once.

nginx serves the same file on the same bridge, on another port. It runs as one process, because its workers drop
privileges, which fails in a namespace with one user; the lab's own server is one thread. Clients are curl(1), each in
its own network namespace, connected to the bridge by a veth pair. A sample is the time until all have the whole file.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.lab import Lab, open_lab
from harness.model.artifacts import Artifacts
from harness.model.definition import load_definition
from harness.store.store import find_store

from .start import ROOT
from .table import Figure, Limit, alternate, compared

_CLIENTS = 4
_PORT = 8080
_PACKAGES = {"nginx": "nginx-light", "curl": "curl"}
_CABLES = """
for client in $(seq {clients}); do
    unshare --net sleep infinity &
    pids="$pids $!"
done
sleep 1
client=20
for pid in $pids; do
    client=$((client + 1))
    ip link add c$client type veth peer name eth0 netns $pid
    ip link set c$client master br0 up
    nsenter --target $pid --net ip address add 10.77.0.1$client/24 dev eth0
    nsenter --target $pid --net ip link set eth0 up
done
echo $pids >{file}.new
mv {file}.new {file}
wait
"""
_FETCH = """
for pid in $(cat {file}); do
    nsenter --target $pid --net curl --silent --fail --output /dev/null {url} & pids="$pids $!"
done
for pid in $pids; do wait $pid || exit 1; done
"""
_NGINX = """
user root;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{ listen 10.77.0.1:{port}; root {root}; }}
}}
"""


def measure_idle(*, quick: bool) -> list[Figure]:
    """Memory of all processes of a lab (proc(5), VmRSS): shared pages count for each process."""
    sizes = []
    for _ in range(2 if quick else 5):
        with TemporaryDirectory() as folder, open_lab(Path(folder), "lab"):
            time.sleep(1)
            sizes.append(sum(map(_resident_mb, descendants(os.getpid()))))
    limit = Limit(most=60.0, unit="MB")
    return [Figure(row="idle", what="idle lab, resident", value=max(sizes), unit="MB", limit=limit,
                   samples={"idle lab": sizes})]  # fmt: skip


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text("ascii").split()):
            yield child
            yield from descendants(child)


def _resident_mb(pid: int) -> float:
    rows = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    return int(rows["VmRSS"].split()[0]) * 1024 / 1e6


def measure_http(*, quick: bool) -> list[Figure]:
    artifacts = build(load_definition(ROOT / "images" / "base"), find_store())
    install_packages()
    with TemporaryDirectory() as name, open_lab(Path(name) / "lab", "lab") as lab:
        folder = Path(name)
        with _clients(lab, folder), _nginx(lab, artifacts, folder):
            lab.http.serve("/rootfs", artifacts.rootfs)
            ours = "http://10.77.0.1/rootfs"
            theirs = f"http://10.77.0.1:{_PORT}/{artifacts.rootfs.name}"
            for url in (ours, theirs):
                fetch_s(lab, folder, url)
            times = alternate(
                2 if quick else 9, lambda: fetch_s(lab, folder, ours), lambda: fetch_s(lab, folder, theirs)
            )
    what = f"rootfs over the lab's HTTP to {_CLIENTS} at once"
    return [compared("http", what, times[0], "nginx", times[1], unit="s", limit=Limit(most=1 / 0.8))]


def install_packages() -> None:
    missing = [package for program, package in _PACKAGES.items() if process.find(program) is None]
    if missing:
        subprocess.run(["make", "packages", f"NAMES={' '.join(missing)}"], cwd=ROOT, check=True, capture_output=True)


def fetch_s(lab: Lab, folder: Path, url: str) -> float:
    started_s = time.monotonic()
    status = lab.spawn(["sh", "-c", _FETCH.format(file=folder / "pids", url=url)]).wait(Deadline(120))
    if status != 0:
        raise RuntimeError(f"{url} was not fetched: status {status}")
    return time.monotonic() - started_s


@contextmanager
def _clients(lab: Lab, folder: Path) -> Iterator[None]:
    pids = folder / "pids"
    with (folder / "cables.log").open("wb") as log:
        child = lab.spawn(["sh", "-c", _CABLES.format(clients=_CLIENTS, file=pids)], stderr=log.fileno())
    if not poll(pids.exists, Deadline(20), every_s=0.05):
        raise RuntimeError((folder / "cables.log").read_text("utf-8"))
    yield
    child.end(0.0)


@contextmanager
def _nginx(lab: Lab, artifacts: Artifacts, folder: Path) -> Iterator[None]:
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=_PORT, root=artifacts.folder), "utf-8")
    with (folder / "nginx.out").open("wb") as log:
        child = lab.spawn([process.require("nginx", "nginx-light"), "-c", str(config)], stderr=log.fileno())
    poll((folder / "nginx.pid").exists, Deadline(20), every_s=0.05)
    if child.status is not None:
        raise RuntimeError((folder / "nginx.out").read_text("utf-8"))
    yield
    child.end(0.0)

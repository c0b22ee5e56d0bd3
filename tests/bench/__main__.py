"""``make bench``: what people wait for, as ratios within one run where there is something to compare with."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness import accelerator
from harness.build import build
from harness.definition import load_definition
from harness.fixtures.disk import make_disk
from harness.guest import open_guest
from harness.lab import open_lab
from harness.machine import Site, boot
from harness.run import Run, make_key
from harness.session import by_hand
from harness.spec import BootPath, MachineSpec
from harness.store import find_store

IMAGES = Path(__file__).parents[2] / "images"
Rows = dict[str, float]


def seconds(work: Callable[[], object], times: int) -> float:
    """The median of ``times`` runs."""
    taken = []
    for _ in range(times):
        started_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started_s)
    return median(taken)


def measure_lab(folder: Path) -> Rows:
    def up_and_down() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as work, open_lab(Path(work)):
            pass

    plain = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--fork", "true"]
    lab_s = seconds(up_and_down, 11)
    unshare_s = seconds(lambda: subprocess.run(plain, check=True), 11)
    return {"lab up and down, s": lab_s, "lab up and down / unshare true": lab_s / unshare_s}


def measure_build() -> Rows:
    definition = load_definition(IMAGES / "base")
    build(definition, find_store())
    return {"build of base, nothing changed, s": seconds(lambda: build(definition, find_store()), 5)}


def measure_start() -> Rows:
    help_argv = [sys.executable, "-m", "harness", "--help"]
    collect_argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--image", "base"]
    return {
        "bootproof --help, s": seconds(lambda: subprocess.run(help_argv, check=True, capture_output=True), 5),
        "collect base, s": seconds(lambda: subprocess.run(collect_argv, check=True, capture_output=True), 5),
    }


def measure_channels(folder: Path) -> Rows:
    definition = load_definition(IMAGES / "base")
    artifacts = build(definition, find_store())
    run = Run(folder, "main")
    make_key(run)
    (folder / "lab").mkdir()
    spec = MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        accelerator=accelerator.choose("auto", artifacts.kernel, find_store().folder("accelerators")).accelerator,
        disks=(make_disk(folder / "data.raw"),),
    )
    with open_lab(folder / "lab") as lab:
        site = Site(lab=lab, run=run, slots=find_store().folder("slots"), by_hand=by_hand)
        with boot(spec, artifacts, definition, site=site) as machine:
            over_ssh = open_guest("ssh", machine.ssh)
            serial_s = seconds(lambda: machine.guest.file("/etc/os-release").exists, 11)
            ssh_s = seconds(lambda: over_ssh.file("/etc/os-release").exists, 5)
            true_s = seconds(lambda: machine.run("true"), 21)
            ready_s = run.boots()[-1].ready_s or 0.0
    return {
        "boot of base to ready, s": ready_s,
        "true over the serial channel, s": true_s,
        "a testinfra property over the serial channel, s": serial_s,
        "a testinfra property over ssh, s": ssh_s,
        "serial channel / ssh": serial_s / ssh_s,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = measure_start() | measure_build() | measure_lab(folder) | measure_channels(folder)
    for what, figure in rows.items():
        print(f"{what:50} {figure:8.3f}")
    Path("runs").mkdir(exist_ok=True)
    Path("runs/bench.json").write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""``bootproof fits`` of a fleet of 5,000 hosts in 40 models, with 80 devices each: seconds, and MiB at its peak.

The image is ``base``, or what BOOTPROOF_BENCH_BUILD names; it is read once before.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from .start import ROOT
from .table import Figure, Limit

_HOSTS, _MODELS, _DEVICES = 5000, 40, 80
_DRIVERS = ("ixgbe", "i40e", "megaraid_sas", "nvme", "ahci", "xhci_hcd", "igb", "mlx5_core", "bnxt_en", "ioatdma")


def measure(*, quick: bool) -> list[Figure]:
    build = os.environ.get("BOOTPROOF_BENCH_BUILD", "base")
    with TemporaryDirectory() as folder:
        write_fleet(Path(folder), 500 if quick else _HOSTS)
        one = next(iter(sorted(Path(folder).iterdir())))
        first_s, _ = _fits(build, one)
        alone_s, _ = _fits(build, one)
        samples = [_fits(build, Path(folder)) for _ in range(1 if quick else 3)]
    taken_s, memory_mib = ([sample[place] for sample in samples] for place in (0, 1))
    return [
        Figure(row="fits", what="fits of one host, the first", value=first_s, unit="s"),
        Figure(row="fits", what="fits of one host, again", value=alone_s, unit="s"),
        Figure(row="fits", what="fits of 5,000 hosts", value=median(taken_s), unit="s",
               limit=Limit(most=10.0, unit="s"), samples={"seconds": taken_s}),
        Figure(row="fits", what="memory", value=median(memory_mib), unit="MiB",
               limit=Limit(most=400.0, unit="MiB"), samples={"memory": memory_mib}),
    ]  # fmt: skip


def write_fleet(folder: Path, hosts: int) -> None:
    """Hosts of a model have the same devices at their own places, and differ in memory, names and kernel arguments."""
    chance = random.Random(23)
    models = [list(_devices(chance)) for _ in range(_MODELS)]
    for number in range(hosts):
        model = number % _MODELS
        rows = "\n".join(models[model])
        disks = "\n".join(
            '\n# sda: a disk, megaraid_sas\n[[disk]]\nbus = "megasas"\nsize_gib = 4000\nrole = "blank"'
            for _ in range(8)
        )
        (folder / f"host{number:05}.toml").write_text(
            f'schema = 2\ndescription = "Vendor Model {model}"\nfirmware = "uefi"\ncpus = 64\n'
            f'memory_mib = {257_000 + number}\n{disks}\n\n# eno1: ixgbe\n[[nic]]\nmodel = "e1000e"\ndhcp = true\n\n'
            f'[seen]\nbios = "2.{model}"\ncpu = "A CPU of 64 cores at 2.10GHz"\ncpu_signature = "GenuineIntel 6-85-7"\n'
            f'cpu_level = 4\nmicrocode = "0x5003604"\nkernel = "6.1.0-30-amd64"\n'
            f'kernel_arguments = "BOOT_IMAGE=/vmlinuz root=live:http://10.0.0.1/x console=ttyS0 host={number}"\n'
            f"kernel_log = \"whole\"\nsecure_boot = false\ndevices = '''\n{rows}\n'''\n",
            "utf-8",
        )


def _devices(chance: random.Random) -> Iterator[str]:
    for number in range(_DEVICES):
        address, driver = f"0000:{number:02x}:00.0", chance.choice(_DRIVERS)
        vendor, device = chance.randrange(0x1000, 0xFFFF), chance.randrange(0x10000)
        modalias = f"pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000001bc02sc00i00"
        flags = {0: " boot", 1: " data"}.get(number, "")
        yield (
            f"pci {address} id={vendor:04x}:{device:04x} subsystem={vendor:04x}:0001 class=020000 driver={driver} "
            f"module={driver} path=pci0000:00/{address} modalias={modalias}{flags}"
        )


def _fits(build: str, place: Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    argv = [str(Path(sys.executable).with_name("bootproof")), "fits", build, str(place)]
    started_s = time.perf_counter()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        taken_s = time.perf_counter() - started_s
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1) or " hosts" not in said:
        raise RuntimeError(f"fits ended with status {child.returncode}:\n{said[-2000:]}")
    return taken_s, usage.ru_maxrss / 1024

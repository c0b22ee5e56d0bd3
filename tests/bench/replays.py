"""Whether replay reproduces failures in another checkout, the size of bundles, and the time of a replay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core.process import output
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.errors import BootFailed
from harness.machine.machine import boot
from harness.model import network_faults
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.events import PhaseBegan
from harness.model.machine_spec import BootPath, Firmware, MachineSpec
from harness.model.verdict import Finding
from harness.replay.bundle import Failure
from harness.replay.bundle_write import write_bundle
from harness.runs.folder import Run
from harness.store.store import find_store

from ..machines import run_in, specify
from .start import ROOT
from .table import Figure, Limit

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Faults planted in the good image's network, machine, disk, services or their order."""

    name: str
    network_faults: tuple[str, ...] = ()
    path: BootPath = BootPath.IPXE_BIOS
    change: Callable[[MachineSpec], MachineSpec] = lambda spec: spec
    drop_ins: dict[str, str] = field(default_factory=dict)


def _network() -> Iterator[Fault]:
    for name in (
        "dhcp-silent", "dhcp-rogue", "dhcp-no-boot-file", "link-down", "http-404-kernel", "http-404-initrd",
        "http-404-rootfs", "http-503-kernel", "http-503-initrd", "http-503-rootfs", "http-refused-kernel",
        "http-stalls-kernel", "http-stalls-initrd", "http-cut-kernel", "http-cut-initrd", "http-truncated-kernel",
        "http-flipped-kernel", "http-noise-initrd",
    ):  # fmt: skip
        yield Fault(name=name, network_faults=(name,))
    yield Fault(
        name="tftp-absent",
        network_faults=("tftp-absent",),
        path=BootPath.PXE_CHAIN,
        change=lambda spec: replace(spec, firmware=Firmware.BIOS),
    )


def _machine() -> Iterator[Fault]:
    yield Fault(name="memory of 128 MiB", path=BootPath.DIRECT, change=lambda spec: replace(spec, memory_mib=128))
    yield Fault(name="no disk", path=BootPath.DIRECT, change=lambda spec: replace(spec, disks=()))
    yield Fault(
        name="disk that is read-only",
        path=BootPath.DIRECT,
        change=lambda spec: replace(spec, disks=tuple(replace(disk, read_only=True) for disk in spec.disks)),
    )
    yield Fault(
        name="disk that takes no writes",
        path=BootPath.DIRECT,
        change=lambda spec: replace(spec, disks=tuple(replace(disk, fails_writes_from=0) for disk in spec.disks)),
    )


def _services() -> Iterator[Fault]:
    for name, drop_ins in {
        "ssh fails": {"ssh.service": "[Service]\nExecStartPre=false\n"},
        "networkd fails": {"systemd-networkd.service": "[Service]\nExecStartPre=false\n"},
        "resolved needs what fails": {"systemd-resolved.service": "[Unit]\nRequires=no-such.service\n"},
        "ssh is in a circle": {
            "ssh.service": "[Unit]\nAfter=systemd-resolved.service\nRequires=systemd-resolved.service\n",
            "systemd-resolved.service": "[Unit]\nAfter=ssh.service\nRequires=ssh.service\n",
        },
        "ssh fails at first": {
            "ssh.service": "[Service]\nExecStartPre=/bin/sh -c 'mkdir /run/tried 2>/dev/null && exit 1 || exit 0'\n"
            "Restart=on-failure\nRestartSec=1\n",
        },
        "emergency": {"multi-user.target": "[Unit]\nRequires=emergency.target\nAfter=emergency.target\n"},
        "ssh waits for a device": {
            "ssh.service": "[Unit]\nRequires=dev-nowhere.device\nAfter=dev-nowhere.device\n"
            "[Service]\nTimeoutStartSec=5\n"
        },
    }.items():
        yield Fault(name=name, path=BootPath.DIRECT, drop_ins=drop_ins)


FAULTS = (*_network(), *_machine(), *_services())
_QUICK = ("http-404-kernel", "dhcp-no-boot-file", "ssh fails")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One fault: the finding of the run, the finding of the replay, and the times."""

    name: str
    found: str
    came_back: bool
    bundle_mib: float
    written_s: float
    failed_s: float
    replayed_s: float


def measure(*, quick: bool) -> list[Figure]:
    chosen = [fault for fault in FAULTS if not quick or fault.name in _QUICK]
    store, definition = find_store(), load_definition(ROOT / "images" / "base")
    artifacts = build(definition, store)
    with TemporaryDirectory() as plain:
        checkout = Path(plain) / "checkout"
        output(["git", "clone", "-q", str(ROOT), str(checkout)])
        done = [_once(fault, artifacts, definition, Path(plain), checkout) for fault in chosen]
        chance = list(_by_chance(Path(plain) / "chance", checkout, repeats=4 if quick else 6, times=4 if quick else 12))
    lost = [one.name for one in done if not one.came_back]
    ratios = {one.name: [one.replayed_s / one.failed_s] for one in done}
    return [
        Figure(row="replays", what=f"of {len(done)} planted faults did not come back {lost or ''}".rstrip(),
               value=float(len(lost)), unit="", limit=Limit(most=0, unit="faults")),
        Figure(row="replays", what="the largest bundle", value=max(one.bundle_mib for one in done), unit="MiB",
               limit=Limit(most=25.0, unit="MiB"), samples={one.name: [one.bundle_mib] for one in done}),
        Figure(row="replays", what="the longest to write one", value=max(one.written_s for one in done), unit="s",
               limit=Limit(most=5.0, unit="s"), samples={one.name: [one.written_s] for one in done}),
        Figure(row="replays", what="power-on to finding, replayed (median)",
               value=median(one.replayed_s for one in done), unit="s", compared_with="at first",
               ratio=median(ratio for (ratio,) in ratios.values()), limit=Limit(most=1.1), samples=ratios),
        *chance,
    ]  # fmt: skip


_CHANCE = """\
def test_the_microsecond_is_even(machine):
    assert int(machine.check("date +%s%6N")) % 2 == 0
"""
"""Fails at random in every other clone."""


def _by_chance(folder: Path, checkout: Path, *, repeats: int, times: int) -> Iterator[Figure]:
    """An intermittent test, in clones: whether it fails as often in replays, and the time until the first failure."""
    folder.mkdir()
    (folder / "test_chance.py").write_text(_CHANCE)
    env = os.environ | {"PYTHONPATH": str(checkout)}
    images = f"--images-dir={checkout}/images"
    argv = ["-m", "pytest", "-n2", "-p", "no:cacheprovider", "--image=base", images, f"--repeat={repeats}"]
    subprocess.run([sys.executable, *argv, "test_chance.py"], cwd=folder, env=env, check=False, stdout=sys.stderr)
    bundles = sorted(folder.glob("runs/latest/*.bundle"), key=lambda file: file.stat().st_mtime)
    if not bundles:
        raise RuntimeError(f"none of {repeats} failed, which happens: measure again")
    argv = ["-m", "harness", "replay", str(bundles[-1]), f"--repeat={times}", f"--run-dir={folder}/again", images]
    done = subprocess.run([sys.executable, *argv], cwd=folder, env=env, check=False, stdout=subprocess.PIPE, text=True)
    said = done.stdout.splitlines()[0]
    found = [Run(file.parent, "main") for file in folder.glob("again/*/latest/verdict.json")]
    took_s = [_failed_s(run) for run in found if run.findings()]
    yield Figure(row="replays", what=f"rates that differ by more than chance: {said}", unit="",
                 value=float(done.returncode != 1), limit=Limit(most=0, unit="tests"))  # fmt: skip
    yield Figure(row="replays", what="a clone's start to finding, replayed", value=median(took_s), unit="s",
                 limit=Limit(most=1.0, unit="s"), samples={"clones": took_s})  # fmt: skip


def _once(fault: Fault, artifacts: Artifacts, definition: ImageDefinition, place: Path, checkout: Path) -> Outcome:
    folder = place / "first"
    folder.mkdir()
    run = run_in(folder)
    finding, boot_folder = _fail(fault, artifacts, definition, folder, run)
    started_s = time.monotonic()
    made = write_bundle(place / "x.bundle", Failure(finding=finding), boot_folder, [artifacts], definition)
    written_s = time.monotonic() - started_s
    again = place / "again"
    argv = [sys.executable, "-m", "harness", "replay", str(made), f"--run-dir={again}"]
    done = subprocess.run(argv, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=False)
    outcome = Outcome(
        name=fault.name,
        found=finding.id,
        came_back=done.returncode == 1,
        bundle_mib=made.stat().st_size / _MIB,
        written_s=written_s,
        failed_s=_failed_s(run),
        replayed_s=_failed_s(Run(again / "replay-1", "main")) if done.returncode == 1 else 0.0,
    )
    print(outcome, file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    shutil.rmtree(again)
    made.unlink()
    return outcome


def _fail(
    fault: Fault, artifacts: Artifacts, definition: ImageDefinition, folder: Path, run: Run
) -> tuple[Finding, Path]:
    spec = fault.change(replace(specify(definition, artifacts, folder), boot_path=fault.path))
    credentials = {f"systemd.unit-dropin.{unit}~planted": text for unit, text in fault.drop_ins.items()}
    known = [network_faults.read(name) for name in fault.network_faults]
    with open_lab(folder / "lab", network_faults=known) as lab:
        context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
        try:
            with boot(replace(spec, credentials=credentials), artifacts, definition, context=context):
                raise RuntimeError(f"base came up in spite of {fault.name}")
        except BootFailed as error:
            return error.finding, Path(error.folder)


def _failed_s(run: Run) -> float:
    """Seconds from power-on to the first finding."""
    began = (at for at in run.events() if isinstance(at.event, PhaseBegan) and at.event.phase == "firmware")
    found = (at for at in run.events() if isinstance(at.event, Finding))
    return next(found).time_s - next(began).time_s

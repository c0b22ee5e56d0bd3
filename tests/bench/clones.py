"""What a machine of one's own costs: a clone against a cold boot, and a command in it against ssh and labgrid.

The template is made in an empty store, so its boot is a cold one of the same machine in the same run.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core import process
from harness.guest.testinfra_host import open_guest
from harness.host import accelerator
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine
from harness.machine.states import BOOTED, Versions
from harness.machine.template_store import TemplateStore
from harness.machine.templates import Templates, TemplateSpec
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.events import Frozen
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec, Network
from harness.qemu import command_line, program
from harness.qemu.disk_images import DATA_SERIAL, make_disk
from harness.qemu.kernel_arguments import kernel_arguments
from harness.runs.folder import Run, make_key
from harness.store.store import Store, find_store

from .start import ROOT, seconds
from .table import Figure, Limit, alternate, compared

_IMAGE = "nova-kvm"
_IDLE = 8
_CHANGING = 100
_TESTS = f"""
import pytest


@pytest.mark.parametrize("number", range({_CHANGING}))
def test_a_machine_is_changed(machine, number):
    machine.check(f"echo {{number}} >/etc/number; echo {{number}} >/data/number; sync")
    assert machine.check("cat /etc/number /data/number").split() == [str(number)] * 2
"""
_AUTOLOGIN = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - dumb
"""
"""On a terminal that is called dumb, bash asks for no bracketed paste, which labgrid's prompt would trip over."""
_LABGRID_PATIENCE_S = 300


def measure(*, quick: bool) -> list[Figure]:
    definition = load_definition(ROOT / "images" / _IMAGE)
    artifacts = build(definition, find_store())
    with TemporaryDirectory(dir=find_store().folder("bench")) as name:
        templates = make_templates(definition, artifacts, Path(name))
        with ExitStack() as stack:
            templates.hold(BOOTED, stack)  # made here, by one cold boot
        (cold,) = (boot.ready_s for boot in templates.store.run.boots())
        assert cold
        (freeze_s,) = (frozen.took_s for frozen in templates.store.run.of_kind(Frozen))
        clones = [to_first_answer(templates, f"clone-{n}") for n in range(3 if quick else 9)]
        clone = compared("clones", "clone to its first answer", clones, "its cold boot", [cold] * len(clones),
                         unit="s", limit=Limit(most=1 / 60))  # fmt: skip
        return [
            clone,
            replace(clone, compared_with="", ratio=None, limit=Limit(most=0.3, unit="s", binding=False), samples={}),
            _figure("freezing", [freeze_s], "s", 0.2),
            _figure(f"{_IDLE} idle clones of {definition.memory_mib} MiB", [_idle_gib(templates)], "GiB", 3.5),
            _figure(f"pytest -n 8: {_CHANGING} tests, each changes its own", [_changing_s()], "s", 120),
            *_channel(templates, artifacts, Path(name), quick=quick),
        ]


def _figure(what: str, samples: list[float], unit: str, most: float) -> Figure:
    limit = Limit(most=most, unit=unit, binding=False)
    return Figure(row="clones", what=what, value=median(samples), unit=unit, limit=limit, samples={what: samples})


def make_templates(definition: ImageDefinition, artifacts: Artifacts, folder: Path) -> Templates:
    """Templates in an empty store below ``folder``."""
    store = Store(folder / "store")
    run = Run(folder, "main")
    make_key(run, store)
    choice = accelerator.take("auto", artifacts, find_store())
    spec = MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=BootPath.IPXE_BIOS,
        accelerator=choice.accelerator,
        cpus=definition.cpus,
        memory_mib=definition.memory_mib,
        disks=(DiskSpec(path=Path("data"), serial=DATA_SERIAL),),
    )
    return Templates(
        spec=TemplateSpec(
            definition=definition,
            versions=Versions(artifacts, artifacts, artifacts, artifacts),
            machine=spec,
            network=Network.LAB,
        ),
        store=TemplateStore(store=store, run=run),
        open_lab=open_lab,
        context_of=lambda lab: BootContext(lab=lab, run=run, slots=find_store().folder("slots")),
    )


@contextmanager
def cloned(templates: Templates, name: str) -> Iterator[Machine]:
    folder = templates.store.run.folder / name
    with open_lab(folder / "lab") as lab, templates.machine(BOOTED, name, lab=lab, folder=folder) as machine:
        assert machine.is_clone
        yield machine


def to_first_answer(templates: Templates, name: str) -> float:
    """With a lab of its own, until it has answered a command: the one that sets its clock."""
    started_s = time.monotonic()
    with cloned(templates, name):
        return time.monotonic() - started_s


def _idle_gib(templates: Templates) -> float:
    """What all their QEMUs have in memory (proc(5), Pss): each page that they share of the template counts once."""
    with ExitStack() as stack:
        machines = [stack.enter_context(cloned(templates, f"idle-{n}")) for n in range(_IDLE)]
        time.sleep(5)
        pids = [machine.running_boot.child.pid for machine in machines]
        return sum(map(_pss_kib, pids)) / (1 << 20)


def _pss_kib(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))


def _changing_s() -> float:
    """The whole command, with the template there: pytest's start, eight workers, a hundred machines."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "test_changing.py"
        file.write_text(_TESTS, "utf-8")
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "8", "--image", _IMAGE]
        argv += [f"--images-dir={ROOT / 'images'}", f"--run-dir={folder}/runs", str(file)]

        def run(*more: str) -> None:
            done = subprocess.run([*argv, *more], cwd=folder, check=False, capture_output=True, text=True)
            if f" {_CHANGING} passed" not in done.stdout.replace("\n", " ") and not more:
                raise RuntimeError(done.stdout[-3000:])

        run("-k", "machine_is_changed and 77")
        return seconds(run)


def _channel(templates: Templates, artifacts: Artifacts, folder: Path, *, quick: bool) -> Iterator[Figure]:
    times = 5 if quick else 21
    with cloned(templates, "asked") as machine:
        ssh, guest = open_guest("ssh", machine.ssh), machine.guest
        asks: dict[str, tuple[Callable[[], object], Callable[[], object], str, float]] = {
            "true": (lambda: machine.run("true"), lambda: machine.ssh.run("true"), "true", 0.02),
            "service(…).is_running": (
                lambda: guest.service("ssh").is_running,
                lambda: ssh.service("ssh").is_running,
                "systemctl is-active ssh",
                0.1,
            ),
        }
        for ours, over_ssh, _, _ in asks.values():
            ours()
            over_ssh()
        with _labgrid(artifacts, templates, folder) as ask_labgrid:
            for what, (ours, over_ssh, command, most_s) in asks.items():
                one, other = alternate(times, partial(seconds, ours), partial(seconds, over_ssh))
                yield compared("clones", what, one, "over ssh", other, unit="s", limit=Limit(most=0.1))
                ask_labgrid(command)
                one, other = alternate(times, partial(seconds, ours), partial(ask_labgrid, command))
                # labgrid's is another machine: here nothing has driven what was warm out of the caches of ours
                yield _figure(f"{what}, warm", one, "s", most_s)
                yield compared("clones", what, one, "labgrid's shell", other, unit="s", limit=Limit(most=1 / 3))


@contextmanager
def _labgrid(artifacts: Artifacts, templates: Templates, folder: Path) -> Iterator[Callable[[str], float]]:
    """A machine of the same artifacts under labgrid, from the package index: how long a command takes in its shell."""
    environment = folder / "labgrid"
    process.output([sys.executable, "-m", "venv", str(environment)])
    process.output([str(environment / "bin" / "pip"), "install", "--quiet", "labgrid>=24.0"])
    config = folder / "labgrid.yaml"  # JSON is YAML
    config.write_text(json.dumps(_labgrid_config(artifacts, templates, folder)), "utf-8")
    argv = [str(environment / "bin" / "python"), str(Path(__file__).with_name("labgrid_shell.py")), str(config)]
    log = (folder / "labgrid.log").open("wb")
    with log, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as child:
        assert child.stdin
        assert child.stdout
        if child.stdout.readline() != "ready\n":
            raise RuntimeError((folder / "labgrid.log").read_text("utf-8")[-2000:])

        def ask(command: str) -> float:
            print(command, file=child.stdin, flush=True)
            assert child.stdout
            return float(child.stdout.readline())

        try:
            yield ask
        finally:
            child.stdin.close()
            child.wait()


def _labgrid_config(artifacts: Artifacts, templates: Templates, folder: Path) -> dict[str, object]:
    """Our machine in labgrid's words: the same argv, but for what its driver adds by itself."""
    credentials = {"systemd.unit-dropin.serial-getty@ttyS0.service~bench": _AUTOLOGIN}
    disk = make_disk(folder / "labgrid.raw")
    spec = replace(templates.spec.machine, boot_path=BootPath.DIRECT, disks=(disk,), credentials=credentials)
    manifest = artifacts.manifest
    arguments = kernel_arguments(manifest.kernel_arguments, manifest.rootfs, BootPath.DIRECT, base_url="")
    direct = command_line.DirectBoot(
        kernel=artifacts.kernel, initrd=artifacts.initrd, rootfs=artifacts.rootfs, arguments=arguments
    )
    argv = command_line.command(spec, qemu=program.in_use(), sockets=command_line.QemuSockets(), direct=direct)
    own = {name: argv[argv.index(name) + 1] for name in ("-machine", "-cpu", "-m", "-kernel", "-append", "-display")}
    for name, value in own.items():
        place = argv.index(name)
        assert argv[place + 1] == value
        del argv[place : place + 2]
    driver = {
        "qemu_bin": "qemu",
        "machine": own["-machine"],
        "cpu": own["-cpu"],
        "memory": own["-m"],
        "kernel": "kernel",
        "boot_args": own["-append"],
        "display": "fb-headless",
        "extra_args": shlex.join(argv[1:]),
    }
    shell = {
        "prompt": r"root@[^:\r\n]+:[^#\r\n]*# ",
        "login_prompt": " login: ",
        "username": "root",
        "login_timeout": _LABGRID_PATIENCE_S,
        "await_login_timeout": 10,
    }
    return {
        "targets": {"main": {"resources": {}, "drivers": {"QEMUDriver": driver, "ShellDriver": shell}}},
        "tools": {"qemu": program.in_use().program},
        "images": {"kernel": os.fspath(artifacts.kernel)},
    }

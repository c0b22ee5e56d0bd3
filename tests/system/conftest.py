"""Planted faults: an image, lab or disk is spoilt on purpose, and the verdict must say so."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.core import serialization
from harness.host import accelerator
from harness.lab import Lab, open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import Machine, boot
from harness.model.artifacts import Artifacts
from harness.model.definition import DEFINITION_FILE, ImageDefinition, load_definition
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec
from harness.model.timeouts import Timeouts
from harness.model.verdict import Verdict
from harness.qemu.disk_images import make_disk
from harness.runs.folder import Run, make_key
from harness.store.store import find_store

from . import shares
from .shares import (  # noqa: F401  # pytest finds hooks by their names in a conftest
    pytest_collection_modifyitems,
    pytest_report_collectionfinish,
    pytest_runtest_protocol,
    pytest_terminal_summary,
)

ROOT = Path(__file__).parents[2]

Judge = Callable[..., tuple[int, Verdict]]
MakeImage = Callable[[str, str, tuple[str, str]], Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    shares.pytest_addoption(parser)
    parser.addoption(
        "--base", default="base", metavar="IMAGE", help="the definition that faults are planted in (default: base)"
    )


def faults(names: Iterable[str], *also_on_ubuntu: str) -> pytest.MarkDecorator:
    """Parameters ``base`` and ``name``: each fault in the definition of ``--base``, some in base-ubuntu too."""
    rows = [pytest.param(None, name, id=name) for name in names]
    rows += [pytest.param("base-ubuntu", name, id=f"{name}-base-ubuntu") for name in also_on_ubuntu]
    return pytest.mark.parametrize(("base", "name"), rows, indirect=["base"])


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """``judge("base", "tests/image/test_links.py")``: what a pipeline would run, its exit status and verdict."""

    def judge(image: str, *arguments: str, images: Path = ROOT / "images") -> tuple[int, Verdict]:
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--image", image, f"--images-dir={images}"]
        done = subprocess.run(
            [*argv, f"--run-dir={tmp_path}", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
        )
        print(done.stdout, done.stderr)
        return done.returncode, serialization.read(Verdict, tmp_path / "latest" / "verdict.json")

    return judge


@pytest.fixture(scope="session")
def base(request: pytest.FixtureRequest) -> ImageDefinition:
    """The definition that a test's parameter names, else ``--base``."""
    name = getattr(request, "param", None) or request.config.getoption("--base")
    return load_definition(ROOT / "images" / name)


@pytest.fixture
def make_image(base: ImageDefinition, tmp_path: Path) -> MakeImage:
    """``make_image(name, playbook, (old, new))`` makes a folder of images, with one that is ``base`` but for a text of
    its definition and for its playbook, which imports that of ``base`` as ``base.yml``."""

    def make(name: str, playbook: str, changed: tuple[str, str]) -> Path:
        images, definition = tmp_path / "images", (base.folder / DEFINITION_FILE).read_text("utf-8")
        shutil.copytree(base.folder, images / name)
        (images / "roles").symlink_to(base.roles)
        (images / name / base.playbook).rename(images / name / "base.yml")
        (images / name / base.playbook).write_text(playbook, "utf-8")
        assert changed[0] in definition
        (images / name / DEFINITION_FILE).write_text(definition.replace(*changed), "utf-8")
        return images

    return make


@pytest.fixture(scope="session")
def artifacts(base: ImageDefinition) -> Artifacts:
    """The good image that faults are planted around."""
    return build(base, find_store())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    folder = tmp_path / "lab"
    folder.mkdir()
    with open_lab(folder) as lab:
        yield lab


@pytest.fixture
def disk(tmp_path: Path) -> DiskSpec:
    return make_disk(tmp_path / "data.raw")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Where the findings of this test's machines go."""
    run = Run(tmp_path, "main")
    make_key(run, find_store())
    return run


@pytest.fixture
def spec(artifacts: Artifacts, base: ImageDefinition, disk: DiskSpec) -> MachineSpec:
    """The machine that the base image comes up on; tests change one thing of it."""
    return MachineSpec(
        name="machine",
        uuid=uuid.uuid4(),
        boot_path=BootPath.DIRECT,
        accelerator=accelerator.take("auto", artifacts, find_store()).accelerator,
        memory_mib=base.memory_mib,
        disks=(disk,),
    )


@pytest.fixture
def booting(lab: Lab, run: Run, artifacts: Artifacts, base: ImageDefinition) -> Callable[..., object]:
    """``with booting(spec) as machine``: the base image on that machine, or changed artifacts, with other timeouts."""

    @contextmanager
    def booting(
        spec: MachineSpec, *, artifacts: Artifacts = artifacts, power: bool = True, timeouts: Timeouts | None = None
    ) -> Iterator[Machine]:
        slots = find_store().folder("slots")
        context = BootContext(lab=lab, run=run, slots=slots, timeouts=timeouts or Timeouts())
        with boot(spec, artifacts, base, context=context, power=power) as machine:
            yield machine

    return booting

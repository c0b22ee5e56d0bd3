"""What is installed only with an extra: the rest works without it, and what needs it says how to get it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ("ansible", "ansible_collections")
PROMOTION = ("cryptography", "cyclonedx", "google", "in_toto_attestation", "packageurl", "securesystemslib")
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
CONFIGURE = """
from pathlib import Path
from harness.build.configure import configure
from harness.core.errors import MissingExtra
from harness.model.definition import load_definition
Path("tree/usr/bin").mkdir(parents=True)
Path("tree/usr/bin/python3").touch()
try:
    configure(load_definition(Path({base!r})), None, Path.cwd(), archive=None, log=None)
except MissingExtra as error:
    sys.exit(str(error))
"""
OPEN_CLOUD = """
from harness.core.errors import MissingExtra
from harness.guests.cloud import open_cloud
try:
    open_cloud({}, None)
except MissingExtra as error:
    sys.exit(str(error))
"""
WRITE_ALL = """
from pathlib import Path
from harness.core.errors import MissingExtra
from harness.promotion import attest
from tests.harness.proven import Proven
made = Proven(Path.cwd())
artifacts = made.artifacts()
try:
    attest.write_all(Path.cwd(), made.verdict(artifacts), artifacts, attest.read_signer(None, {}))
except MissingExtra as error:
    sys.exit(f"{error} {sorted(path.name for path in Path.cwd().iterdir())}")
"""
COMMAND = "from harness.cli.main import main\nsys.exit(main({arguments}))\n"


def run(names: tuple[str, ...], script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``script`` in a Python in ``folder`` that lacks the packages ``names``."""
    argv = [sys.executable, "-c", WITHOUT.format(names=names) + f"sys.path.insert(0, {str(ROOT)!r})\n" + script]
    return subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["hardware", "explain"])
def test_the_package_and_simple_commands_need_no_extra_and_neither_aiohttp_nor_cattrs(
    command: str, tmp_path: Path
) -> None:
    """``explain`` reads its catalog with cattrs."""
    names = (*BUILD, *PROMOTION, "aiohttp", *(["cattrs", "attrs", "attr"] if command == "hardware" else []))

    done = run(names, "import harness\n" + COMMAND.format(arguments=[command]), tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_building_says_in_a_sentence_how_to_get_ansible(tmp_path: Path) -> None:
    done = run(BUILD, CONFIGURE.format(base=str(ROOT / "images" / "base")), tmp_path)

    assert done.stderr == "building needs Ansible with community.general: pip install 'bootproof[build]'\n"


def test_calling_a_control_plane_says_in_a_sentence_how_to_get_openstacksdk(tmp_path: Path) -> None:
    done = run(("openstack", "keystoneauth1"), OPEN_CLOUD, tmp_path)

    assert done.stderr == "calling a control plane needs openstacksdk: pip install 'bootproof[openstack]'\n"


def test_signing_says_in_a_sentence_how_to_get_its_library(tmp_path: Path) -> None:
    done = run(PROMOTION, COMMAND.format(arguments=["attest", "key", "new.key"]), tmp_path)

    said = "bootproof: signing and verifying need securesystemslib: pip install 'bootproof[promotion]'\n"
    assert (done.returncode, done.stderr) == (75, said)


def test_a_run_without_a_key_needs_no_library_until_it_writes_its_bill_of_materials(tmp_path: Path) -> None:
    done = run(PROMOTION, WRITE_ALL, tmp_path)

    said = "a bill of materials needs cyclonedx-python-lib: pip install 'bootproof[promotion]'"
    assert done.stderr == f"{said} ['artifacts-1']\n"


def test_the_extras_bring_what_the_sentences_promise() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    assert [name.partition(">=")[0] for name in extras["build"]] == ["ansible"]
    assert [name.partition(">=")[0] for name in extras["openstack"]] == ["openstacksdk"]
    assert {"cyclonedx-python-lib", "in-toto-attestation", "securesystemslib[crypto]"} == {
        name.partition(">=")[0] for name in extras["promotion"]
    }
    every = [*project["dependencies"], *(name for names in extras.values() for name in names)]
    assert [name for name in every if ">=" not in name] == []
    assert "'.[dev,build,openstack,promotion]'" in (ROOT / "Makefile").read_text()

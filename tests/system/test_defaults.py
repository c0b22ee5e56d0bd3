"""An upgrade to a version with other defaults, on a host that has state from the first version."""

from __future__ import annotations

import pytest

from harness.build.pipeline import build
from harness.lab import Lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import boot
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import MachineSpec
from harness.persistence.seeded_defaults import missing
from harness.runs.folder import Run
from harness.store.store import find_store

from .conftest import ROOT

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Defaults of this version
      ansible.builtin.shell: |
        mkdir /etc/site && cd /etc/site
        echo {version} >changed; echo {version} >follows; echo same >touched; echo same >deleted; echo x >{version}

- import_playbook: {root}/images/base/playbook.yml
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[ImageDefinition, Artifacts], ...]:
    """Makes two versions of one image."""
    made = []
    for version in ("one", "two"):
        folder = tmp_path_factory.mktemp(version) / "context"
        folder.mkdir()
        (folder.parent / "roles").symlink_to(ROOT / "images" / "roles")
        text = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
        text = text.replace('"/var/local"]', '"/var/local", "/etc/site"]\nimage_owned = ["/etc/site/follows"]')
        (folder / "image.toml").write_text(text.replace('"2026.11"', f'"{version}"'), "utf-8")
        (folder / "playbook.yml").write_text(PLAYBOOK.format(version=version, root=ROOT), "utf-8")
        definition = load_definition(folder)
        made.append((definition, build(definition, find_store())))
    return tuple(made)


def test_state_is_kept_what_follows_comes_and_what_did_not_come_is_listed(
    versions: tuple[tuple[ImageDefinition, Artifacts], ...], spec: MachineSpec, lab: Lab, run: Run
) -> None:
    (definition, old), (_, new) = versions
    context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
    with boot(spec, old, definition, context=context) as machine:
        before = missing(machine)
        machine.check("cd /etc/site && echo mine >touched && rm deleted && sync touched .")
        machine.reboot(into=new)
        seen = machine.check("cd /etc/site/. && ls && cat changed follows touched").split()
        after = missing(machine)
        machine.check("cd /etc/site && rm follows && echo mine >follows && sync follows .")
        machine.reboot(into=old)
        replaced = machine.check("cat /etc/site/follows")

    assert before == frozenset()
    assert seen == ["changed", "follows", "one", "touched", "one", "two", "mine"]
    assert after == {
        "/etc/site/changed differs in the image",
        "/etc/site/deleted is new in the image",
        "/etc/site/touched differs in the image",
        "/etc/site/two is new in the image",
    }
    assert replaced == "mine"

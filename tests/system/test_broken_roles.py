"""Images whose way to keep data has a fault: each is built, and its verdict must be failed and name what is wrong.

The good image is base, with a location of many files; a fault is what a shell command changes in its tree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.verdict import Outcome

from .conftest import ROOT, Judge
from .test_planted_images import text_of

SITE = "/etc/site"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A location of forty files
      ansible.builtin.shell: mkdir {site} && for n in $(seq 40); do yes $n | head -c 20000 >{site}/$n; done

- import_playbook: {root}/images/base/playbook.yml

- hosts: all
  gather_facts: false
  tasks:
    - name: What the initrd does, changed
      ansible.builtin.copy: {{ src: persist, dest: /root/persist }}
    - name: After all that it defines, before it does anything
      ansible.builtin.shell: sed -i '/^# --- the whole/r /root/persist' /usr/lib/persist/persist; rm /root/persist
    - name: The tree, changed
      ansible.builtin.shell: {tree}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``persist`` are lines that take the place of functions of the role, ``tree`` a command that changes the tree.

    The verdict of a run with the arguments ``suite`` must have a finding ``id`` that says ``named``.
    """

    suite: tuple[str, ...]
    id: str
    named: str
    persist: str = ""
    tree: str = "true"


_CUTS = ("--thorough", "--cuts=4000", "tests/image/test_power_cuts.py")
FAULTS = {
    "no-fsync": Fault(persist="sync() { true; }", suite=_CUTS, id="power-cut-loses-data", named=SITE),
    "seeding-in-place": Fault(
        persist="""
            seed() { # path
                local file
                [[ -e $root/data$1 ]] && return
                mkdir -p "$root/data$1"
                for file in "$defaults$1"/*; do
                    [[ ! -e $file ]] || { cp -a "$file" "$root/data$1" && sync -f "$root/data$1"; }
                done
            }""",
        suite=_CUTS, id="power-cut-loses-data", named=SITE,
    ),
}  # fmt: skip


@pytest.fixture
def broken_image(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder of images with the one that has the fault of that name, which is the image's name too."""

    def make(name: str) -> Path:
        images = tmp_path / "images"
        folder = images / name
        folder.mkdir(parents=True)
        (images / "roles").symlink_to(ROOT / "images" / "roles")
        definition = (ROOT / "images" / "base" / "image.toml").read_text("utf-8")
        assert '"/var/local"]' in definition
        (folder / "image.toml").write_text(definition.replace('"/var/local"]', f'"/var/local", "{SITE}"]'), "utf-8")
        fault = FAULTS[name]
        (folder / "persist").write_text(fault.persist + "\n", "utf-8")
        (folder / "playbook.yml").write_text(
            PLAYBOOK.format(site=SITE, root=ROOT, tree=json.dumps(fault.tree)), "utf-8"
        )
        return images

    return make


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_what_keeps_data_fails_the_image_and_is_named(
    judge: Judge, broken_image: Callable[[str], Path], name: str
) -> None:
    fault = FAULTS[name]

    status, verdict = judge(name, "-n2", *fault.suite, images=broken_image(name))

    found = [finding for finding in verdict.findings if finding.id == fault.id]
    assert (status, verdict.outcome) == (1, Outcome.FAILED)
    assert any(fault.named in text_of(finding) for finding in found), verdict.findings

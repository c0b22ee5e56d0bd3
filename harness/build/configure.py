"""Makes the second layer: runs the definition's playbook in the tree, with Ansible."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.build import chroot, distributions
from harness.build.distributions import Archive
from harness.build.sources import sources_over
from harness.core import digest, process
from harness.core.errors import BootproofError, HostError, ImageError, optional
from harness.core.namespaces import environment
from harness.model.definition import DEFINITION_FILE, ImageDefinition, sources_digest
from harness.store.store import Store

_FORMAT = 1
"""A new number makes every store configure again."""

_CONFIG = """\
[defaults]
roles_path = {roles}
home = {folder}
local_tmp = {folder}/local
remote_tmp = /tmp/.ansible
interpreter_python = /usr/bin/python3
retry_files_enabled = False
host_key_checking = False
nocows = True
deprecation_warnings = False
collections_path = {folder}/collections

[connection]
pipelining = True
"""


def layer_key(definition: ImageDefinition, base: str) -> str:
    """The key of the second layer over the first one, whose content has the digest ``base``."""
    return digest.of_value([_FORMAT, base, sources_digest(definition)])


def configure(definition: ImageDefinition, store: Store, folder: Path, *, archive: Archive, log: Path) -> None:
    """Run the playbook over ``folder/tree``; `ImageError` quotes the task that failed."""
    tree, work = folder / "tree", folder / "ansible"
    if not os.path.lexists(tree / "usr/bin/python3"):
        file = definition.folder / DEFINITION_FILE
        raise ImageError(f'{file}: build.packages: Ansible needs a Python in the image; add "python3"')
    with optional("build", "building needs Ansible with community.general"):
        importlib.import_module("ansible_collections.community.general")
    _write_inputs(definition, work)
    env = environment(ANSIBLE_CONFIG=str(work / "ansible.cfg"), SOURCE_DATE_EPOCH=str(archive.epoch_s), INITRD="No")
    ansible = [sys.executable, "-m", "ansible", "playbook", "--inventory", str(work / "inventory.json")]
    ansible += ["--extra-vars", f"@{work / 'variables.json'}", str(definition.folder / definition.playbook)]
    ansible = sources_over(definition, work / "sources", ansible)
    distribution = distributions.of(definition.distribution)
    downloads = distribution.downloads, store.packages(definition.suite)
    try:
        chroot.run(chroot.entering(tree, ansible, downloads=downloads), log=log, env=env)
        chroot.run(chroot.tree_action(tree, "anonymous", str(archive.epoch_s), *distribution.traces), log=log)
    except process.CommandFailed as error:
        raise diagnose(definition, log) from error


def variables(definition: ImageDefinition) -> dict[str, Any]:
    """The variables that a playbook gets from the image definition."""
    return {
        "image_id": definition.name,
        "distribution": definition.distribution,
        "suite": definition.suite,
        "persistent_paths": list(definition.persistent_paths),
        "persistent_image_owned": list(definition.image_owned),
        "persistent_disk": asdict(definition.disk),
    }


def _write_inputs(definition: ImageDefinition, work: Path) -> None:
    """Write Ansible's configuration, inventory and variables; the user's own Ansible configuration is not used."""
    work.mkdir()
    (work / "ansible.cfg").write_bytes(os.fsencode(_CONFIG.format(roles=definition.roles, folder=work)))
    tree = {"ansible_host": str(work.parent / "tree"), "ansible_connection": "community.general.chroot"}
    inventory = json.dumps({"all": {"hosts": {definition.name: tree}}}, ensure_ascii=False)
    (work / "inventory.json").write_bytes(os.fsencode(inventory))
    (work / "variables.json").write_text(json.dumps(variables(definition)), "utf-8")


def diagnose(definition: ImageDefinition, log: Path) -> BootproofError:
    """The error for a failed playbook, which quotes the failed task; the host's, if it needs the network."""
    task = failing_task(log.read_text("utf-8", "replace"))
    what = f"{definition.folder / definition.playbook} failed"
    if distributions.of(definition.distribution).needs_network(task):
        return HostError(f"{what} because the network failed; fix it, or http_proxy ({log}):\n{task}")
    return ImageError(f"{what} ({log}):\n{task}")


def failing_task(text: str) -> str:
    """The output from the heading of the last failed task to the recap; else the end of Ansible's output."""
    tasks = re.split(r"^(?=(?:TASK|RUNNING HANDLER|PLAY) \[|PLAY RECAP)", text, flags=re.MULTILINE)
    failed = [task for task in tasks if re.search(r"^(fatal|failed): ", task, re.MULTILINE)]
    return (failed[-1] if failed else text)[-3000:].strip()

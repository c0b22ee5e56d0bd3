"""Checks what builds need besides programs. Existing artifacts boot without."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.build import distributions
from harness.build.distributions import HostNeed
from harness.core import process
from harness.core.namespaces import has_ids, prefix
from harness.core.user import user_name
from harness.host.doctor.check import INSTALL, SUDO, CheckState, HostCheck, attempt, from_packages
from harness.model.definition_build import DISTRIBUTIONS


def for_builds() -> Iterator[HostCheck]:
    needs = dict.fromkeys(need for name in DISTRIBUTIONS for need in distributions.of(name).host_needs())
    yield from map(_check, needs)
    yield _ansible()
    ids = list(_subordinate_ids())
    yield from ids
    if not any(check.is_missing for check in ids):
        yield attempt("build namespaces", CheckState.MISSING, _build_namespace)
    yield attempt("zstd", CheckState.MISSING, _pack)


def _check(need: HostNeed) -> HostCheck:
    state = CheckState.MISSING if need.is_required else CheckState.LIMITED
    missing = [need.package] if need.lack else []
    return from_packages(need.name, missing, need.purpose, f"{need.purpose}; {need.lack}", state)


def _ansible() -> HostCheck:
    try:
        is_there = importlib.util.find_spec("ansible_collections.community.general") is not None
    except ImportError:  # of a parent of it
        is_there = False
    if is_there:
        return HostCheck(name="Ansible", state=CheckState.OK, detail="configures images")
    detail = f"{sys.executable} cannot import it or its community.general; nothing can be built without them"
    remedy = shlex.join([sys.executable, "-m", "pip", "install", "bootproof[build]"])
    return HostCheck(name="Ansible", state=CheckState.MISSING, detail=detail, remedy=remedy)


def _subordinate_ids() -> Iterator[HostCheck]:
    """The subordinate ids of this user, which only builds without root need."""
    if os.geteuid() == 0:
        return
    if not shutil.which("newuidmap"):
        detail = "newuidmap is missing; builds without root need it"
        yield HostCheck(name="uidmap", state=CheckState.MISSING, detail=detail, remedy=f"{INSTALL}uidmap")
    user, files = user_name(), (Path("/etc/subuid"), Path("/etc/subgid"))
    if all(has_ids(file, user) for file in files):
        yield HostCheck(name="subordinate ids", state=CheckState.OK, detail="builds without root have 65536 of them")
        return
    first = _free_ids(files)
    ids = f"{first}-{first + 65535}"
    remedy = f"{SUDO}usermod --add-subuids {ids} --add-subgids {ids} {user}"
    detail = f"{user} has fewer than 65536 in /etc/subuid or /etc/subgid; builds without root need them"
    yield HostCheck(name="subordinate ids", state=CheckState.MISSING, detail=detail, remedy=remedy)


def _free_ids(files: Iterable[Path]) -> int:
    """The first id after all assigned ones (subuid(5): name, first, count)."""
    text = "\n".join(file.read_text("utf-8") for file in files if file.exists())
    given = re.findall(r"^[^:]+:(\d+):(\d+)$", text, re.MULTILINE)
    return max([100000, *(int(first) + int(count) for first, count in given)])


def _build_namespace() -> str:
    process.output([*prefix(), "true"])
    return "builds run in namespaces of their own" + ("" if os.geteuid() == 0 else ", without root")


def _pack() -> str:
    with tempfile.TemporaryDirectory(prefix="bootproof-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        process.output(["mksquashfs", str(tree), f"{folder}/packed", "-comp", "zstd", "-no-progress"])
    return "mksquashfs supports it"

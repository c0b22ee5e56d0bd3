"""A whole run of an image that is built, compared with two bare QEMU boots of its artifacts side by side (a pair).

The run has templates of its own to make: its store is a copy of this host's, by hard links, without templates.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core import serialization
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.verdict import Verdict
from harness.store.store import VARIABLE, find_store

from .boot import boot_bare
from .start import ROOT
from .table import Figure, Limit, compared

_GOALS = {"nova-kvm": 4.0, "base": 8.0}
_THOROUGH_GOAL = 30.0
_COPIED = ("accelerators", "artifacts", "builds", "history", "layers", "ssh")


def measure(*, quick: bool) -> list[Figure]:
    return [_measured(image, goal) for image, goal in _GOALS.items() if image == "base" or not quick]


def measure_thorough(*, quick: bool) -> list[Figure]:
    return [_measured("base" if quick else "nova-kvm", _THOROUGH_GOAL, "--thorough")]


def _measured(image: str, goal: float, *options: str) -> Figure:
    definition, store = load_definition(ROOT / "images" / image), find_store()
    artifacts = build(definition, store)
    build(definition, store, version=f"{definition.version}+next")
    pairs = [_pair_s(definition, artifacts)]
    with TemporaryDirectory(dir=store.root) as copy:
        for name in _COPIED:
            shutil.copytree(store.folder(name), Path(copy) / name, copy_function=os.link)
        runs = Path(copy) / "runs"
        argv = [str(Path(sys.executable).with_name("pytest")), "-q", "-n", "8"]
        argv += ["--image", image, "--run-dir", str(runs), *options]
        begun_s = time.monotonic()
        done = subprocess.run(
            argv, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ, VARIABLE: copy}
        )
        took_s = time.monotonic() - begun_s
        if done.returncode:
            raise RuntimeError(f"the run ended with status {done.returncode}:\n{done.stdout[-2000:]}")
        verdict = serialization.read(Verdict, runs / "latest" / "verdict.json")
    pairs.append(_pair_s(definition, artifacts))
    what = f"{' '.join(['pytest -n 8 --image', image, *options])}: {verdict.outcome}, {len(verdict.boots)} boots"
    limit = Limit(most=goal, binding=False)
    row = "thorough" if options else "gate"
    return compared(row, what, [took_s], "two bare QEMU boots side by side", [mean(pairs)], unit="s", limit=limit)


def _pair_s(definition: ImageDefinition, artifacts: Artifacts) -> float:
    """Seconds until both of two bare machines are ready."""

    def one() -> None:
        with TemporaryDirectory() as folder:
            boot_bare(definition, artifacts, Path(folder))

    begun_s = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for booted in [pool.submit(one) for _ in range(2)]:
            booted.result()
    return time.monotonic() - begun_s

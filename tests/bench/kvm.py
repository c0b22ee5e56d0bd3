"""What runs cost with KVM, for a host that has it: nobody has measured this yet. Only on request.

``make bench ROWS=kvm`` on a host where `bootproof doctor` finds KVM; elsewhere it says why it cannot be measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.host import accelerator
from harness.machine.states import BOOTED
from harness.model.definition import load_definition
from harness.store.store import find_store

from .clones import cloned, make_templates, to_first_answer
from .start import ROOT, seconds
from .table import Figure

_IMAGE = "nova-kvm"
_CLONES = 8


def measure(*, quick: bool) -> list[Figure]:
    """`HostError` where KVM is missing, or does not run the image's kernel."""
    definition, store = load_definition(ROOT / "images" / _IMAGE), find_store()
    artifacts = build(definition, store)
    accelerator.take("kvm", artifacts, store)
    cold, clones, eight = list[float](), list[float](), list[float]()
    for number in range(1 if quick else 5):
        with TemporaryDirectory(dir=store.folder("bench")) as name, ExitStack() as stack:
            templates = make_templates(definition, artifacts, Path(name))
            templates.hold(BOOTED, stack)  # made here, by one cold boot
            cold += [boot.ready_s for boot in templates.store.run.boots() if boot.ready_s]
            clones += [to_first_answer(templates, f"clone-{number}-{n}") for n in range(3)]
            started_s = time.monotonic()
            for n in range(_CLONES):
                stack.enter_context(cloned(templates, f"together-{number}-{n}"))
            eight.append(time.monotonic() - started_s)
    verify = [] if quick else [seconds(_verify)]
    rows = {
        f"cold boot of {_IMAGE}, ipxe-bios": cold,
        "clone to its first answer": clones,
        f"{_CLONES} clones, all running": eight,
        f"pytest -n 8 --image {_IMAGE}, built": verify,
    }
    return [_figure(what, samples) for what, samples in rows.items() if samples]


def _figure(what: str, samples: list[float]) -> Figure:
    return Figure(row="kvm", what=what, value=median(samples), unit="s", samples={what: samples})


def _verify() -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-n", "8", "--image", _IMAGE, "--accel", "kvm"]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{_IMAGE} was not verified:\n{done.stdout[-2000:]}")

"""The same image on other distributions: the sizes of its files, and the CPU seconds of a bare boot, beside `base`.

The systemd of `base-noble` is too old for the unit that says when a bare machine is ready: only its sizes are compared.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.store.store import find_store

from .boot import boot_bare
from .start import ROOT
from .table import Figure, alternate, compared

_BOOTED = "base-ubuntu"
_OTHERS = (_BOOTED, "base-noble")
_MIB = 1 << 20


def measure(*, quick: bool) -> list[Figure]:
    base, *others = (_built(name) for name in ("base", *_OTHERS))
    booted = others[_OTHERS.index(_BOOTED)]
    times, of_base = alternate(1 if quick else 3, lambda: _cpu_s(*booted), lambda: _cpu_s(*base))
    return [
        compared("distributions", f"CPU of a bare boot of {_BOOTED}", times, "base", of_base, unit="s", limit=None),
        *(_size(file, other, base) for other in others for file in ("kernel", "initrd", "rootfs")),
    ]


def _built(name: str) -> tuple[ImageDefinition, Artifacts]:
    definition = load_definition(ROOT / "images" / name)
    return definition, build(definition, find_store())


def _cpu_s(definition: ImageDefinition, artifacts: Artifacts) -> float:
    with TemporaryDirectory() as folder:
        return boot_bare(definition, artifacts, Path(folder))


def _size(file: str, image: tuple[ImageDefinition, Artifacts], base: tuple[ImageDefinition, Artifacts]) -> Figure:
    sizes = [getattr(artifacts, file).stat().st_size / _MIB for _, artifacts in (image, base)]
    what = f"size of {file} of {image[0].name}"
    return compared("distributions", what, sizes[:1], "base", sizes[1:], unit="MiB", limit=None)

"""Predictions of `bootproof fits` against truth: every network card, disk controller and CPU model that QEMU offers.

Only on request, as it takes long (``BENCH_IMAGES``, default: base nova-kvm cut; "cut" is nova-kvm with fewer drivers
and more firmware). All devices are in one machine. Its PCI numbers are read while it is paused, and predicted from;
then the image boots, and tells from its initrd and from its root file system which devices made disks and interfaces.
Of CPUs, the truth is whether the initrd's process 1 runs. A few machines boot by one card, or have /data behind
one controller. The table of all pairs is in runs/fits-truth.json and runs/fits-truth.txt.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.core import serialization
from harness.fleet import ImageDrivers, read_drivers
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.qemu.devices import known_devices
from harness.store.store import find_store
from tests.truth import cpus, cut_image, real_boots
from tests.truth.boots import boot_and_compare
from tests.truth.devices import CPUS, DEVICES, Emulated, groups, not_in_table
from tests.truth.pairs import Pair
from tests.truth.usb_card import CARD

from .start import ROOT
from .table import Figure, Limit

_ROW = "fits-truth"
_QUICK = ("e1000e", "virtio-net-pci", "nvme", "megasas")
_CUT = "cut"
RESULT = Path("runs/fits-truth.json")
TABLE = RESULT.with_suffix(".txt")


def measure(*, quick: bool) -> list[Figure]:
    started_s = time.monotonic()
    names = os.environ.get("BENCH_IMAGES", "base" if quick else f"base nova-kvm {_CUT}").split()
    devices = tuple(one for one in (*DEVICES, CARD) if not quick or one.name in _QUICK)
    pairs, problems = list[Pair](), [f"{name} is not in the table of devices" for name in not_in_table(known_devices())]
    for name in names:
        with _image(name) as (definition, artifacts):
            drivers = read_drivers(artifacts, find_store() if name != _CUT else None)
            for found, problem in _of_image(definition, artifacts, drivers, devices, quick=quick):
                pairs += found
                problems += problem
                write(pairs, problems, time.monotonic() - started_s)
    return figures(pairs, problems)


@contextmanager
def _image(name: str) -> Iterator[tuple[ImageDefinition, Artifacts]]:
    definition = load_definition(ROOT / "images" / ("nova-kvm" if name == _CUT else name))
    artifacts = build(definition, find_store())
    if name != _CUT:
        yield definition, artifacts
        return
    with find_store().workfolder() as folder:
        yield definition, cut_image.make(artifacts, folder)


def _of_image(
    definition: ImageDefinition,
    artifacts: Artifacts,
    drivers: ImageDrivers,
    devices: Iterable[Emulated],
    *,
    quick: bool,
) -> Iterator[tuple[list[Pair], list[str]]]:
    for group in groups(devices):
        with TemporaryDirectory() as folder:
            yield boot_and_compare(definition, artifacts, drivers, group, Path(folder))
    if drivers.image.endswith(_CUT):
        return
    models = CPUS[::12] if quick else CPUS
    for pair in cpus.pairs(definition, artifacts, drivers, models):
        yield [pair], []
    for pair in real_boots.pairs(definition, artifacts, drivers, _QUICK if quick else real_boots.MODELS):
        yield [pair], []


def write(pairs: list[Pair], problems: list[str], took_s: float) -> None:
    """All pairs so far."""
    RESULT.parent.mkdir(exist_ok=True)
    plain = {"took_s": round(took_s), "problems": problems, "pairs": [serialization.dump(pair) for pair in pairs]}
    serialization.write(RESULT, plain)
    TABLE.write_text("\n".join([*matrix(pairs), "", *table(pairs)]) + "\n", "utf-8")


def matrix(pairs: Iterable[Pair]) -> Iterator[str]:
    """For documentation: a row a device, a column an image: what was seen, and a prediction that was wrong.

    Devices with the same row share one.
    """
    rows = list(pairs)
    images = list(dict.fromkeys(pair.image for pair in rows))
    devices = dict.fromkeys((pair.kind, pair.device) for pair in rows)
    same = dict[tuple[str, ...], list[str]]()
    for kind, device in devices:
        cells = [
            _cell([pair for pair in rows if (pair.image, pair.kind, pair.device) == (image, kind, device)])
            for image in images
        ]
        same.setdefault((kind, *cells), []).append(device)
    yield f"| | devices | {' | '.join(images)} |"
    yield "|---" * (len(images) + 2) + "|"
    for (kind, *cells), names in same.items():
        yield f"| {kind} | {', '.join(names)} | {' | '.join(cells)} |"


def _cell(pairs: list[Pair]) -> str:
    seen = {True: "yes", False: "no", None: "not tried"}
    words = {pair.place: seen[pair.is_driven] + (f" ({pair.predicted})" if pair.is_wrong else "") for pair in pairs}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{place}: {word}" for place, word in words.items())


def table(pairs: Iterable[Pair]) -> Iterator[str]:
    """A line a pair."""
    for pair in pairs:
        truth = {True: "drives", False: "does not", None: "not tried"}[pair.is_driven]
        wrong = "WRONG" if pair.is_wrong else ""
        yield (
            f"{pair.image:12} {pair.kind:4} {pair.device:32} {pair.id:10} {pair.place:7} {pair.predicted:10} "
            f"{truth:9} {wrong:5} {' '.join(pair.seen)[:120]}".rstrip()
        )


def figures(pairs: list[Pair], problems: list[str]) -> list[Figure]:
    for problem in problems:
        print(f"fits-truth: {problem}")
    tried = [pair for pair in pairs if pair.is_driven is not None]
    counts = Counter((pair.image, pair.predicted, pair.is_driven) for pair in tried)
    for (image, predicted, is_driven), count in sorted(counts.items(), key=str):
        print(f"fits-truth: {image}: predicted {predicted!r}, {'driven' if is_driven else 'not driven'}: {count}")
    none = Limit(most=0, unit="pairs")
    wrong_drive, wrong_not = sum(pair.is_wrong_drive for pair in tried), sum(pair.is_wrong_not for pair in tried)
    return [
        Figure(row=_ROW, what="pairs predicted and booted", value=len(tried), unit="pairs"),
        Figure(row=_ROW, what="wrong 'will drive'", value=wrong_drive, unit="pairs", limit=none),
        Figure(row=_ROW, what="wrong 'will not'", value=wrong_not, unit="pairs", limit=none),
        Figure(row=_ROW, what="not told", value=sum(pair.predicted == "not told" for pair in tried), unit="pairs"),
        Figure(row=_ROW, what="devices that are not as predicted", value=len(problems), unit="devices", limit=none),
    ]

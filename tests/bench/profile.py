"""Where the CPU time of a boot goes, as JSON: ``runs/profile-IMAGE.json``, what ``bootproof boot IMAGE --profile``
prints. ``$BOOTPROOF_PROFILE`` names other images than base and nova-kvm, with blanks between them."""

from __future__ import annotations

import os

from harness.core import serialization
from harness.machine.attend import BootOptions
from harness.machine.profile import profile_by_hand

from .start import ROOT
from .table import Figure

_IMAGES = "base nova-kvm"


def measure(*, quick: bool) -> list[Figure]:
    images = os.environ.get("BOOTPROOF_PROFILE", "base" if quick else _IMAGES).split()
    return [_profile(image) for image in images]


def _profile(image: str) -> Figure:
    measured = profile_by_hand(BootOptions(image=image, images_dir=ROOT / "images"))
    serialization.write(ROOT / "runs" / f"profile-{image}.json", measured)
    return Figure(
        row="profile",
        what=f"CPU of {image} from kernel to ready",
        value=measured.kernel_to_ready_s,
        unit="s",
        samples={phase.name: [phase.cpu_s] for phase in measured.phases},
    )

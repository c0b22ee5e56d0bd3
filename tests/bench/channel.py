"""The time of one testinfra question to the guest."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build.pipeline import build
from harness.guest.testinfra_host import Host, open_guest
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import boot
from harness.model.definition import load_definition
from harness.store.store import find_store

from ..machines import run_in, specify
from .start import ROOT, seconds
from .table import Figure, Limit, alternate, compared


def measure(*, quick: bool) -> list[Figure]:
    """One command each, alternating, in one machine; over SSH each with a new ssh process."""
    definition = load_definition(ROOT / "images" / "base")
    artifacts = build(definition, find_store())
    with TemporaryDirectory() as name:
        folder = Path(name)
        run, spec = run_in(folder), specify(definition, artifacts, folder)
        (folder / "lab").mkdir()
        with open_lab(folder / "lab") as lab:
            context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
            with boot(spec, artifacts, definition, context=context) as machine:
                over_serial, over_ssh = machine.guest, open_guest("ssh", machine.ssh)
                for guest in (over_serial, over_ssh):
                    ask(guest)  # the first question detects the system, which testinfra caches
                pairs = 3 if quick else 21
                serial, ssh = alternate(pairs, lambda: ask(over_serial), lambda: ask(over_ssh))
    what = "testinfra property over the serial channel"
    return [compared("channel", what, serial, "over ssh", ssh, unit="s", limit=Limit(most=0.1))]


def ask(guest: Host) -> float:
    """Seconds to read one property."""
    return seconds(lambda: guest.file("/etc/passwd").user)

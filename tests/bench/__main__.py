"""``make bench``: what users wait for, as ratios within one run where a comparison exists.

Every figure is a median of samples that alternate with those of the comparison. The exit status is 1 if a binding limit
is exceeded or a row could not be measured.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.core import serialization
from harness.core.errors import BootproofError

from . import (
    boot,
    build,
    channel,
    clones,
    distributions,
    emulator,
    explain,
    fits,
    fits_truth,
    gate,
    guests,
    idle_clones,
    initrd_starts,
    inspections,
    kvm,
    network,
    network_faults,
    pool,
    power_cuts,
    profile,
    promote,
    replays,
    reports,
    shards,
    start,
    template_transport,
)
from .table import Figure, Report, host_facts, now, render, versions

ROWS: dict[str, Callable[..., list[Figure]]] = {
    "start": start.measure_start,
    "lab": start.measure_lab,
    "idle": network.measure_idle,
    "http": network.measure_http,
    "network-faults": network_faults.measure,
    "channel": channel.measure,
    "inspections": inspections.measure,
    "build": build.measure,
    "boot": boot.measure,
    "gate": gate.measure,
    "distributions": distributions.measure,
    "profile": profile.measure,
    "clones": clones.measure,
    "idle-clones": idle_clones.measure,
    "guests": guests.measure,
    "power-cuts": power_cuts.measure,
    "initrd-starts": initrd_starts.measure,
    "template-transport": template_transport.measure,
    "promote": promote.measure,
    "report": reports.measure,
    "explain": explain.measure,
    "fits": fits.measure,
    "replays": replays.measure,
    "shards": shards.measure,
}
ON_REQUEST: dict[str, Callable[..., list[Figure]]] = {
    "emulator": emulator.measure,
    "fits-truth": fits_truth.measure,
    "kvm": kvm.measure,
    "pool": pool.measure,
    "thorough": gate.measure_thorough,
}
"""Not among all rows: these take hours, root, or a host with KVM."""
RESULT = Path("runs/bench.json")


def main() -> int:
    known = ROWS | ON_REQUEST
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(known)} (default: all but {', '.join(ON_REQUEST)})"
    )
    parser.add_argument("--quick", action="store_true", help="few samples: does it work at all?")
    options = parser.parse_args()
    unknown = [row for row in options.rows if row not in known]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; known: {', '.join(known)}")
    report = measure(options.rows or list(ROWS), quick=options.quick)
    RESULT.parent.mkdir(exist_ok=True)
    plain = serialization.dump(report)
    for row, figure in zip(plain["figures"], report.figures, strict=True):
        row["is_met"] = figure.is_met
    serialization.write(RESULT, plain)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(render(report))
    console.print(f"raw samples: {RESULT}")
    return 0 if report.is_good else 1


def measure(rows: list[str], *, quick: bool) -> Report:
    """Measure all rows; a row that fails is reported, and the others continue."""
    facts, figures, failures = host_facts(), list[Figure](), dict[str, str]()
    for row in rows:
        print(f"measuring {row} …", file=sys.stderr, flush=True)
        try:
            figures += (ROWS | ON_REQUEST)[row](quick=quick)
        except BootproofError as error:
            failures[row] = str(error)
        except Exception as error:
            traceback.print_exc()
            failures[row] = str(error)[-200:] or type(error).__name__
    return Report(date=now(), host=facts, versions=versions(), figures=figures, failures=failures)


if __name__ == "__main__":
    sys.exit(main())

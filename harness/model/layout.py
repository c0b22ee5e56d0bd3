"""The names of files in the folders of runs and boots, and of bundles.

A run's folder has ``verdict.json``, ``events.jsonl`` and a folder for each boot.
"""

from __future__ import annotations

import re

BUNDLE_SUFFIX = ".bundle"

EVENTS = "events.jsonl"

TEMPLATE = "template-"
"""How the names of machines begin that become templates."""

ATTESTATION, SBOM, STATEMENT = "attestation.json", "sbom.cdx.json", "statement.json"
"""The signed statement of a run, its bill of materials, and the statement if no key signs it."""

BOOT_RECORD = "plan.json"
"""In the folder of each boot: its `BootRecord`."""

PLAN = "shards.json"
"""In the folder of a part of a run in shards: the plan of all parts."""

PART = "part-"
"""How the folders of the parts begin in the folder of a merged run."""

UEFI_VARIABLES = "uefi-variables.fd"
"""In the folder of each machine with UEFI, and as a copy in that of each boot."""

NETWORK_LOG, CHANNEL_LOG, SCREENSHOT = "network.log", "channel.log", "screenshot.png"
CAPTURE, FINDING, FAILURE, MEMORY = "capture.pcap", "finding.json", "failure.json", "memory.kdump"
"""In a boot's folder, beside its console: requests to the lab's servers, commands run in the guest, and the display if
the boot ended before Linux; a link to the lab's packets, the first finding, the tests that failed in a shared machine,
and the guest's memory if it was asked for."""

UNITS, CRITICAL_PATH = "units.json", "critical-path.json"
"""In the folder of a boot that became ready: when each unit started, and the `PathStep` that decided when it was."""


def bundle_name(failed: str) -> str:
    """The file name of the bundle of a test, or of "machine-boot-1"."""
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", failed.rpartition("/")[2]).strip("-") + BUNDLE_SUFFIX

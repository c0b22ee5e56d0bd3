"""The names of the files that runs, boots and bundles consist of, in one place.

A run's folder has ``verdict.json``, ``events.jsonl`` and a folder for each boot; what lies in them is named here.
"""

from __future__ import annotations

BUNDLE_SUFFIX = ".bundle"

ATTESTATION, SBOM, STATEMENT = "attestation.json", "sbom.cdx.json", "statement.json"
"""The signed statement of a run, its bill of materials, and the statement where no key signs it."""

BOOT_RECORD = "plan.json"
"""In the folder of each boot: its `BootRecord`."""

UEFI_VARIABLES = "uefi-variables.fd"
"""In the folder of each machine with UEFI, and as a copy in that of each boot."""

NETWORK_LOG, CHANNEL_LOG, SCREENSHOT = "network.log", "channel.log", "screenshot.png"
CAPTURE, FINDING, MEMORY = "capture.pcap", "finding.json", "memory.kdump"
"""Beside the console of a boot: its requests to the lab's servers, the commands that the harness ran in the guest, its
display if it ended before Linux; a link to the packets of its lab, the first finding about it, and the guest's memory
if that was asked for."""

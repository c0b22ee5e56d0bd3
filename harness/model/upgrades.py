"""How files of older formats become current ones: a function of plain JSON for each step, by the number it reaches.

Format 0, without a number, is that of November 2026 before files had numbers. Where a format only has new fields with
a default, the class names ``dict`` as the step: verdict and attestation 2, bundle 3.
"""

from __future__ import annotations

from harness.core.serialization import Plain, renamed


def verdict_1(old: Plain) -> Plain:
    """A verdict of format 0 in format 1: four fields have other names."""
    return renamed(old, traits="runtime_profile") | {
        "findings": [finding_1(one) for one in old["findings"]],
        "coverage": renamed(old["coverage"], cuts="power_cuts"),
        "boots": [renamed(one, weather="network_faults") for one in old["boots"]],
    }


def finding_1(old: Plain) -> Plain:
    """A finding as verdicts of format 1 and bundles of format 2 have it, and later ones read it."""
    return renamed(old, subject="blame")


def bundle_2(old: Plain) -> Plain:
    """A bundle's index of format 1 in format 2: fields of finding, boot and definition have other names."""
    return old | {
        "failure": old["failure"] | {"finding": finding_1(old["failure"]["finding"])},
        "plan": renamed(old["plan"], weather="network_faults"),
        "definition": renamed(
            old["definition"],
            withstands="tolerates",
            withstands_weather="tolerated_network_faults",
            follow="image_owned",
            secret="redact",
        ),
    }


def host_facts_2(old: Plain) -> Plain:
    """The facts about a host of format 1 in format 2: machine types, with QEMU's descriptions, are not in the contract
    with guests."""
    return {name: value for name, value in old.items() if name != "machine_types"}

"""Debian."""

from __future__ import annotations

from pathlib import Path

from harness.build.distributions.apt import Apt

DISTRIBUTION = Apt(
    title="Debian",
    components=("main",),
    updates=("-updates",),  # a mirror need not have the security archive
    in_development=("sid", "unstable", "testing", "experimental"),
    keyring=Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    keyring_package="debian-archive-keyring",
)

"""CentOS Stream."""

from __future__ import annotations

from harness.build.distributions.dnf import Dnf

DISTRIBUTION = Dnf(title="CentOS", kernel_package="kernel-core", first_with_usr=10)

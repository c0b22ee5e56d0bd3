"""The identity of this host and its boot."""

from __future__ import annotations

import os
from uuid import UUID

from harness.core.host_id import boot_id, host_identity


def test_the_boot_id_is_a_uuid() -> None:
    assert str(UUID(boot_id())) == boot_id()


def test_a_host_is_known_by_its_boot_kernel_and_cpu() -> None:
    boot, release, *cpu = host_identity()

    assert (boot, release) == (boot_id(), os.uname().release)
    assert len({line.partition("\t")[0] for line in cpu}) == len(cpu)

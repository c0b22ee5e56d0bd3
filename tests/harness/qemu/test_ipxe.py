"""The iPXE scripts."""

from __future__ import annotations

import re

from harness.qemu import ipxe


def test_the_ipxe_script_names_each_step_that_can_fail() -> None:
    script = ipxe.boot_script("http://10.77.0.1/d", ("quiet", "ip=dhcp"))

    assert script.startswith("#!ipxe\n")
    assert "kernel http://10.77.0.1/d/vmlinuz initrd=initrd.img quiet ip=dhcp && goto got_kernel ||\n" in script
    labels = {line[1:] for line in script.splitlines() if line.startswith(":")}
    assert labels == set(re.findall(r"goto (\w+)", script))


def test_each_network_card_has_a_script_of_its_own() -> None:
    assert ipxe.script_path("52:54:00:77:00:03") == "/boot/52-54-00-77-00-03.ipxe"  # as iPXE's :hexhyp spells it
    assert "chain http://10.77.0.1/boot/${netX/mac:hexhyp}.ipxe ||" in ipxe.NIC_SCRIPT


def test_a_published_script_retries_for_ever() -> None:
    script = ipxe.published_script("base stable", "${images}/artifacts/d", ("quiet",), "base 1, published by stable")

    assert script.startswith("#!ipxe\n# base 1, published by stable\n")
    assert "kernel ${images}/artifacts/d/vmlinuz initrd=initrd.img quiet || goto failed\n" in script
    assert script.endswith("sleep 10\ngoto retry\n")

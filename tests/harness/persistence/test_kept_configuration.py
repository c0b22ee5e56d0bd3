"""What programs say of kept configuration is read, and what only the newer version says is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from harness.persistence.kept_configuration import Complaint, KeptConfiguration, stale_finding, understood


def answer(by: str, file: str, *lines: str, status: int = 0, instead: dict[str, str] | None = None) -> dict[str, Any]:
    return {"by": by, "file": file, "status": status, "lines": list(lines), "instead": instead or {}}


def said(*asked: dict[str, Any]) -> list[str]:
    return [str(one) for one in understood({"asked": asked, "unchecked": []}).complaints]


NOVA = "/etc/nova/nova.conf"
DOMAIN = "/etc/libvirt/qemu/web.xml"
NETWORK = "/etc/systemd/network/10-lan.network"


def test_an_unknown_and_a_deprecated_option_are_named_with_what_replaces_it() -> None:
    lines = (
        "INFO:oslo_service.backend:Loading backend: eventlet",
        "WARNING:stevedore.named:Could not load oslo.middleware",
        "ERROR:root:DEFAULT/use_neutron is not part of the sample config",
        "WARNING:root:Deprecated opt DEFAULT/vnc_enabled found",
    )

    assert said(
        answer("oslo-config-validator", NOVA, *lines, status=1, instead={"DEFAULT/vnc_enabled": "enabled of [vnc]"})
    ) == [
        f"{NOVA}: option use_neutron of [DEFAULT]: is unknown",
        f"{NOVA}: option vnc_enabled of [DEFAULT]: is deprecated; enabled of [vnc] replaces it",
    ]


@pytest.mark.parametrize(
    ("asked", "complaints"),
    [
        (answer("oslo-config-validator", NOVA, "oslo_config.cfg.ParseError: at /etc/nova/nova.conf:3", status=1),
         [f"{NOVA}: oslo-config-validator: oslo_config.cfg.ParseError: at /etc/nova/nova.conf:3"]),
        (answer("oslo-config-validator", NOVA, status=-9), [f"{NOVA}: oslo-config-validator: it ended with status -9"]),
        (answer("sshd", "/etc/ssh", "/etc/ssh/sshd_config line 3: Deprecated option KeyRegenerationInterval"),
         ["/etc/ssh: /etc/ssh/sshd_config line 3: Deprecated option KeyRegenerationInterval"]),
        (answer("virt-xml-validate", DOMAIN, f"{DOMAIN} validates"), []),
        (answer("virt-xml-validate", DOMAIN, "Relax-NG validity error : Extra element os", status=3),
         [f"{DOMAIN}: Relax-NG validity error : Extra element os"]),
        (answer("systemd", NETWORK, "3: Unknown key 'Adress' in section [Network], ignoring."),
         [f"{NETWORK}: 3: Unknown key 'Adress' in section [Network], ignoring."]),
        (answer("Open vSwitch", "/var/lib/openvswitch", "2026-12-01T02:00:00.1Z|00012|bridge|WARN|could not open eth9"),
         ["/var/lib/openvswitch: bridge|WARN|could not open eth9"]),
        (answer("validate", "/etc/site", "all is well"), []),
        (answer("validate", "/etc/site", "option colour is gone", status=1), ["/etc/site: option colour is gone"]),
    ],
)  # fmt: skip
def test_what_a_program_complains_of_is_a_complaint_and_nothing_else(
    asked: dict[str, Any], complaints: list[str]
) -> None:
    assert said(asked) == complaints


def kept(*complaints: Complaint) -> KeptConfiguration:
    return KeptConfiguration(complaints=complaints)


def test_only_complaints_of_the_newer_version_are_stale_whatever_line_they_are_about() -> None:
    old, moved = (Complaint(file=NETWORK, says=f"{line}: Unknown key 'A', ignoring.") for line in (3, 12))
    gone = Complaint(file=NOVA, about="option a of [b]", says="is unknown")
    deprecated = Complaint(file=NOVA, about="option a of [b]", says="is deprecated")

    assert kept(moved, gone).stale(kept(old)) == (gone,)
    assert kept(moved).stale(kept(old, gone)) == ()
    assert kept(gone).stale(kept(deprecated)) == (gone,)
    assert kept(gone).stale(kept(gone)) == ()


def test_the_finding_names_file_option_and_what_replaces_it() -> None:
    renamed = Complaint(file=NOVA, about="option a of [b]", says="is deprecated", instead="c of [d]")

    finding = stale_finding([renamed, Complaint(file=NOVA, says="x")], "2026.10", "2026.11", "an upgrade from 2026.10")

    assert finding.id == "kept-configuration-stale"
    assert finding.what == (
        "2026.11 does not understand configuration that 2026.10 kept: "
        f"{NOVA}: option a of [b]: is deprecated; c of [d] replaces it, and 1 more"
    )
    assert len(finding.evidence) == 2

"""Which tunnel two hosts can make, and what is missing by name."""

from __future__ import annotations

from harness.guests.tunnels import Offers, Tunnel, add_sender, add_tunnel, choose, read_offers

PING = "ping from iputils 20240905"
ALL = read_offers(f"openvswitch yes\ngeneve yes\nvxlan yes\n{PING}\n")


def offers(*modules: str, has_ping: bool = True) -> Offers:
    return Offers(modules=frozenset(modules), has_ping=has_ping)


def test_a_host_tells_its_modules_and_its_ping() -> None:
    assert offers("openvswitch", "geneve", "vxlan") == ALL
    assert read_offers("openvswitch yes\ngeneve no\nvxlan no\n") == offers("openvswitch", has_ping=False)


def test_the_tunnel_is_one_that_both_hosts_have() -> None:
    assert choose([ALL, ALL]) == (Tunnel.GENEVE, "")
    assert choose([ALL, offers("openvswitch", "vxlan")]) == (Tunnel.VXLAN, "")


def test_what_is_missing_is_named() -> None:
    assert choose([ALL, offers("geneve")]) == (None, "the kernel has no module openvswitch")
    assert choose([ALL, offers("openvswitch")]) == (None, "the kernel has none of the modules geneve, vxlan")
    tunnel, missing = choose([offers("openvswitch", "geneve", has_ping=False)])
    assert tunnel is None
    assert "ping(8)" in missing


def test_commands_name_bridge_tag_and_other_end() -> None:
    assert add_tunnel("br0", Tunnel.VXLAN, "10.77.0.11").endswith(" type=vxlan options:remote_ip=10.77.0.11")
    sender = add_sender("br0", "sender10", 10, "198.51.100.210/24")
    assert "add-port br0 sender10 tag=10 -- set interface sender10 type=internal" in sender
    assert "ip -n sender10 address add 198.51.100.210/24 dev sender10" in sender

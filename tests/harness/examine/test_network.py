"""Names, addresses, routes, packet sizes, and what configurations refer to."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.examine import network
from harness.examine.network import Interface, NetworkReading, Route
from harness.guest.channel import Channel, Completed

ENS3 = Interface(name="ens3", mac="52:54:00:00:00:01", addresses=("10.77.0.10/24",))
ROUTE = Route(interface="ens3", gateway="10.77.0.1", protocol="dhcp", metric=1024)
GOOD = NetworkReading(interfaces=(Interface(name="lo", kind="772", is_card=False, mtu=65536), ENS3), routes=(ROUTE,))
ANSWERS = {
    "host name": "machine-0",
    "/etc/hostname": "look\n# ours\nmachine-0",
    "addresses": json.dumps(
        [
            {
                "ifindex": 2,
                "ifname": "ens3",
                "flags": ["UP", "LOWER_UP"],
                "mtu": 1500,
                "addr_info": [
                    {"family": "inet", "local": "10.77.0.10", "prefixlen": 24, "valid_life_time": 3412},
                    {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
                ],
            }
        ]
    ),
    "routes": json.dumps(
        [
            {"dst": "default", "gateway": "10.77.0.1", "dev": "ens3", "protocol": "dhcp", "metric": 1024},
            {"dst": "10.77.0.0/24", "dev": "ens3"},
        ]
    ),
    "network cards": "look\n/sys/class/net/ens3/address:52:54:00:00:00:01\n/sys/class/net/ens3/type:1\n"
    "/sys/class/net/ens3/name_assign_type:4",
    "devices of network cards": "look\n/sys/class/net/ens3/device",
    "leases": "look\n/run/systemd/netif/leases/2:ADDRESS=10.77.0.10",
    "cards of networkd": "look\n/run/systemd/netif/links/2:ADMIN_STATE=configured",
    "resolv.conf": "644 systemd-resolve regular file\nnameserver 127.0.0.53",
}


def found(reading: NetworkReading, *arguments: str) -> list[tuple[str, str]]:
    return [(one.id, one.path) for one in network.judge(reading, arguments)]


def test_the_network_is_read() -> None:
    question = network.resolve_probe("lab.test")
    read = network.parse({**ANSWERS, question.name: "status 0\n10.77.0.1 STREAM lab.test"}, {}, question)

    assert (read.name, read.own_name, read.resolver_mode) == ("machine-0", "machine-0", 0o644)
    assert read.interfaces == (replace(ENS3, index=2, assigned="4", leased=ENS3.addresses),)
    assert read.routes == (ROUTE,)
    assert found(read) == []


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - {"host name"}))
def test_another_answer_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        network.parse({**ANSWERS, name: "sorry"}, {})


class Guest(Channel):
    """Gives these answers, in the order in which a list of probes asks."""

    def __init__(self, **changed: str) -> None:
        self.answers = {**ANSWERS, "kernel arguments": "root=live:/x", **changed}

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        names = re.findall(r"^answered '?([^'\n]+)'?$", command, re.MULTILINE)
        text = "".join(f"{self.answers[name]}\n\n\x1e{name} 0\n" for name in names)
        return Completed(command=command, status=0, stdout=text.encode(), stderr=b"")


def test_cards_whose_names_depend_on_their_order_are_found_on_a_machine() -> None:
    ens3 = {"ifindex": 2, "ifname": "ens3", "flags": [], "mtu": 1500, "addr_info": []}
    of_eth1 = "/sys/class/net/eth1/type:1\n/sys/class/net/eth1/name_assign_type:1"
    cards = {
        "addresses": json.dumps([ens3, {**ens3, "ifname": "eth1"}]),
        "network cards": f"{ANSWERS['network cards']}\n{of_eth1}",
        "devices of network cards": "look\n/sys/class/net/ens3/device\n/sys/class/net/eth1/device",
    }

    assert network.unstable_names(Guest()) == ()
    assert [one.path for one in network.unstable_names(Guest(**cards))] == ["interface:eth1"]
    by_order = {**cards, "kernel arguments": "net.ifnames=0"}
    assert len(network.unstable_names(Guest(**by_order))) == 2


LEASED = replace(ENS3, index=2, leased=ENS3.addresses)
LEASE = {"/run/systemd/netif/leases/2": ["ADDRESS=10.77.0.10", "LIFETIME=3600"]}


@pytest.mark.parametrize(
    ("card", "leases", "programs", "is_lost"),
    [
        (LEASED, LEASE, {"systemd-network"}, False),
        (LEASED, {}, {"dhclient"}, False),
        (ENS3, {}, {"systemd-network"}, False),
        (LEASED, {}, {"systemd-network"}, True),
        (LEASED, LEASE, {"sshd"}, True),
        (replace(LEASED, is_managed=False), LEASE, {"systemd-network"}, True),
    ],
    ids=["networkd", "dhclient", "for-ever", "other-lease", "no-client", "not-managed"],
)
def test_an_address_that_ends_and_is_not_renewed_is_found(
    card: Interface, leases: dict[str, list[str]], programs: set[str], is_lost: bool
) -> None:
    judged = network.judge(replace(GOOD, interfaces=(card,), leases=leases), (), programs)

    assert [one.id for one in judged] == ["lease-not-renewed"] * is_lost


def test_two_cards_in_one_network_are_found() -> None:
    second = replace(ENS3, name="ens4", addresses=("10.77.0.11/24",))
    elsewhere = replace(second, addresses=("10.78.0.11/24",))

    assert found(replace(GOOD, interfaces=(ENS3, second))) == [("network-ambiguous", "interface:ens4")]
    assert found(replace(GOOD, interfaces=(ENS3, elsewhere))) == []


def test_a_host_without_ip_is_said_to_be_unchecked() -> None:
    read = network.parse({**ANSWERS, "addresses": "absent", "routes": "absent"}, {})

    assert found(read) == []
    assert any("addresses" in sentence for sentence in network.unchecked(read))


@pytest.mark.parametrize("name", ["localhost", "", "(none)", "localhost.localdomain", "node_7", "-x", "n" * 65])
def test_a_host_without_a_name_is_found(name: str) -> None:
    assert found(replace(GOOD, name=name)) == [("host-name-not-set", "host:name")]


def test_a_name_that_is_not_that_of_etc_hostname_is_found() -> None:
    assert found(replace(GOOD, own_name="other")) == [("host-name-not-set", "/etc/hostname")]


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, resolver=None),
        replace(GOOD, resolver="search lab.test"),
        replace(GOOD, resolver_mode=0o1232),
        replace(GOOD, resolver_mode=0o600),
        replace(GOOD, resolver_mode=0o666),
        replace(GOOD, resolved="status 2"),
    ],
    ids=["missing", "no-server", "strange-mode", "private", "writable", "not-found"],
)
def test_names_that_do_not_resolve_are_found(bad: NetworkReading) -> None:
    assert found(bad) == [("dns-unusable", "/etc/resolv.conf")]


def test_a_second_address_is_found_unless_it_is_configured() -> None:
    second = replace(ENS3, addresses=("10.77.0.10/24", "10.77.0.99/24"))
    given = {
        "/etc/systemd/network/10.network": ["[Match]", "Name=ens3", "Address=10.77.0.10/24", "Address = 10.77.0.99/24"]
    }

    unused = {f"/usr/lib/systemd/network/{name}": ["Address=0.0.0.0/24", "Address=0.0.0.0/28"] for name in ("a", "b")}

    assert found(replace(GOOD, interfaces=(second,), files=unused)) == [("network-ambiguous", "interface:ens3")]
    assert found(replace(GOOD, interfaces=(second,), files=given)) == []


@pytest.mark.parametrize(
    "other",
    [Route(interface="ens3", gateway="10.77.0.1"), Route(interface="ens4", gateway="10.0.0.1", metric=1024)],
    ids=["of-the-initrd", "of-another-card"],
)
def test_a_second_default_route_is_found(other: Route) -> None:
    assert found(replace(GOOD, routes=(ROUTE, other))) == [("network-ambiguous", "interface:ens3")]


def test_two_cards_with_different_metrics_are_in_order() -> None:
    assert found(replace(GOOD, routes=(ROUTE, Route(interface="ens4", metric=2048)))) == []


@pytest.mark.parametrize("mtu", [1400, 9000, 600])
def test_a_packet_size_that_nobody_gave_is_found(mtu: int) -> None:
    assert found(replace(GOOD, interfaces=(replace(ENS3, mtu=mtu),))) == [("mtu-wrong", "interface:ens3")]


def test_a_packet_size_of_the_lease_or_the_configuration_is_in_order() -> None:
    interfaces = (replace(ENS3, mtu=9000),)

    assert found(replace(GOOD, interfaces=interfaces, leases={"/run/systemd/netif/leases/2": ["MTU=9000"]})) == []
    files = {"/etc/systemd/network/10.link": ["[Match]", "Name=*", "[Link]", "MTUBytes=9000"]}
    assert found(replace(GOOD, interfaces=interfaces, files=files)) == []


def test_names_of_several_cards_by_their_order_are_found() -> None:
    two = tuple(Interface(name=f"eth{number}", assigned="1", mac=str(number)) for number in range(2))

    assert [name for name, _ in found(replace(GOOD, interfaces=two))] == ["interface-name-unstable"] * 2
    assert found(replace(GOOD, interfaces=two[:1])) == []
    assert found(replace(GOOD, interfaces=(ENS3, replace(ENS3, name="ens4"))), "net.ifnames=0")
